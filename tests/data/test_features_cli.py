"""``msm4sr features``: one command from a published file to a store, and a check that says what is not covered."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.features_cli import main


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A data set of items x, y, z: text has rows for x and y and knows z, image covers x only."""
    folder = tmp_path / "tiny"
    rows = {"text": [np.ones((2, 3)), np.ones((1, 3)), np.ones((0, 3))], "image": [np.ones((4, 2))]}
    for modality, arrays in rows.items():
        FeatureStore.write(folder / "features" / modality, ["x", "y", "z"][: len(arrays)], arrays, encoder="sbert")
    (folder / "tiny.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\nu\tx\t1\nu\ty\t2\nv\tz\t3\nv\tx\t4\n"
    )
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text.npz", []),
        ("text.pkl", []),
        ("text.feat1CLS", ["--dim", "3"]),
        ("pickle.bin", ["--format", "mp4sr"]),
        ("named.feat2CLS", ["--items", "text.item2index"]),
    ],
)
def test_import_takes_the_format_from_the_suffix_or_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez("text.npz", item_id=np.array(["x", "y"]), offsets=np.array([0, 1, 2]), vectors=vectors)
    for file in ("text.pkl", "pickle.bin"):
        Path(file).write_bytes(pickle.dumps({"x": [vectors[0]], "y": [vectors[1]]}))
    for file in ("text.feat1CLS", "named.feat2CLS"):
        vectors.tofile(file)
    Path("text.item2index").write_text("x\t0\ny\t1\n")

    assert main(["import", name, "--out", "d/features/text", "--encoder", "sbert", "--revision", "r", *options]) == 0
    store = FeatureStore.open("d/features/text")
    np.testing.assert_array_equal(store.values, vectors)
    assert (store.manifest["encoder"], store.manifest["revision"]) == ("sbert", "r")
    assert "float16 [2, 3]" in capsys.readouterr().out


def test_import_replaces_a_store_only_when_told(dataset: Path) -> None:
    source = dataset.parent / "new.npz"
    np.savez(source, item_id=np.array(["x"]), offsets=np.array([0, 1]), vectors=np.ones((1, 7)))
    command = ["import", str(source), "--out", str(dataset / "features" / "text")]
    with pytest.raises(UserError, match="exists already"):
        main(command)
    assert main([*command, "--overwrite"]) == 0
    assert FeatureStore.open(dataset / "features" / "text").dim == 7


def test_import_says_when_options_do_not_fit_the_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not follow from its name"):
        main(["import", "features.bin", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--items and --dim are for the format unisrec"):
        main(["import", "text.npz", "--out", str(tmp_path / "out"), "--dim", "3"])


@pytest.mark.parametrize(("below", "modalities"), [("", 2), ("features", 2), ("features/text", 1)])
def test_info_takes_a_store_a_features_folder_or_a_data_set(
    dataset: Path, capsys: pytest.CaptureFixture[str], below: str, modalities: int
) -> None:
    assert main(["info", str(dataset / below)]) == 0
    out = capsys.readouterr().out
    assert out.count("fingerprint") == modalities
    assert "items        3, 1 of them with 0 rows" in out
    assert "rows         3, per item 0 to 2, mean 1.00" in out


def test_a_folder_without_stores_is_said_to_have_none(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="does not hold a feature store"):
        main(["info", str(tmp_path / "empty")])
    with pytest.raises(UserError, match="is not a folder"):
        main(["check", str(tmp_path / "nowhere")])
    (dataset / "features" / "audio").mkdir()  # a broken store of one modality must be reported
    with pytest.raises(UserError, match="audio is not a feature store"):
        main(["check", str(dataset)])


def test_check_of_a_data_set_counts_coverage_and_fails_on_absent_items(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"image lacks 2 of 3 items \(y, z\): set allow_missing_features: true"):
        main(["check", str(dataset)])
    out = capsys.readouterr().out
    assert "text: of 3 items in tiny.inter, 2 have rows, 1 are present with 0 rows, 0 are absent" in out
    assert "image: of 3 items in tiny.inter, 1 have rows, 0 are present with 0 rows, 2 are absent" in out


def test_check_accepts_items_present_with_0_rows(dataset: Path) -> None:
    inter = str(dataset / "tiny.inter")
    assert main(["check", str(dataset / "features" / "text"), "--inter", inter]) == 0
    with pytest.raises(UserError, match="image lacks 2 of 3"):
        main(["check", str(dataset / "features"), "--inter", inter])


def test_check_without_interactions_checks_contents_alone(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(dataset / "features")]) == 0
    (dataset / "tiny.valid.inter").write_text("item_id:token\nx\n")
    assert main(["check", str(dataset)]) == 0
    assert "2 .inter files, name one with --inter" in capsys.readouterr().out


def test_check_fails_on_tampered_values(dataset: Path) -> None:
    values = dataset / "features" / "text" / "values.npy"
    blob = bytearray(values.read_bytes())
    blob[-1] ^= 1
    values.write_bytes(blob)
    with pytest.raises(UserError, match=r"values\.npy has changed"):
        main(["check", str(dataset)])


def test_check_keeps_tokens_that_look_like_numbers_and_leaves_out_missing_ones(dataset: Path) -> None:
    inter = dataset / "odd.inter"
    inter.write_text("item_id:token\nx\nNA\n007\n")
    with pytest.raises(UserError, match=r"lacks 1 of 2 items \(007\)"):
        main(["check", str(dataset / "features" / "text"), "--inter", str(inter)])


@pytest.mark.parametrize("content", [None, b"", b"item:token\nx\n", b"item_id:token\n\xff\xfe\n"])
def test_check_says_when_the_inter_file_cannot_be_read(dataset: Path, content: bytes | None) -> None:
    inter = dataset / "odd.inter"
    if content is not None:
        inter.write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.inter ?(does not exist|has no column|, line 2: is not utf-8)"):
        main(["check", str(dataset / "features" / "text"), "--inter", str(inter)])
