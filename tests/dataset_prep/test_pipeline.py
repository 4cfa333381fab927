"""Raw files to a data set, by the command line, as a user does it: Amazon 2018, Amazon 2023, and own files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fault_server import FaultServer, body
from tiny_release import CATEGORY, TinyRelease, make_release
from torchrun import torchrun

from dataset_prep.__main__ import main
from dataset_prep.demo.catalogue import dictionary, make_items
from dataset_prep.demo.encoders import build_clip, build_sentence_encoder
from dataset_prep.layout import Layout
from dataset_prep.steps import raw as steps_module
from dataset_prep.steps.step import read_summary
from recbole_msm4sr import run
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name small encoders of the real classes, and their dictionary."""
    folder = tmp_path_factory.mktemp("encoders")
    words = dictionary()
    build_clip(folder / "clip", make_items(64, np.random.default_rng(1)), words, seed=1, steps=3)
    build_sentence_encoder(folder / "sentence", words, seed=1)
    (folder / "words.txt").write_text("\n".join(words))
    return [
        f"--clip={folder / 'clip'}",
        f"--sentence-encoder={folder / 'sentence'}",
        f"--words={folder / 'words.txt'}",
        "--device=cpu",
        "--workers=2",
    ]


def _serve(server: FaultServer, release: int) -> TinyRelease:
    made = make_release(release, lambda name: server.url(f"/pictures/{name}"))
    for path, content in made.files.items():
        server.serve(f"/mirror/{path}", body(content, "application/gzip"))
    for name, content in made.pictures.items():
        server.serve(f"/pictures/{name}", body(content, "image/jpeg"))
    return made


def _amazon(server: FaultServer, release: int, out: Path, encoders: list[str]) -> list[str]:
    return [
        "amazon",
        f"--release={release}",
        f"--category={CATEGORY[release]}",
        f"--mirror={server.url('/mirror')}",
        f"--out={out}",
        "--allow-private",
        "--min-user=5",
        *encoders,
    ]


@pytest.mark.parametrize("release", [2018, 2023])
def test_amazon_from_a_mirror_to_a_trained_model(
    fault_server: FaultServer, release: int, tmp_path: Path, encoders: list[str]
) -> None:
    made = _serve(fault_server, release)
    out = tmp_path / "dataset" / "Tiny"
    assert main(_amazon(fault_server, release, out, encoders)) == 0
    layout = Layout.of(out)
    lines = layout.interactions.read_text().splitlines()[1:]
    assert len(lines) == len(made.events)
    items = {line.split("\t")[1] for line in lines}
    expected = {item.token: item for item in made.items if item.token in items}
    for modality in ("text", "image"):
        store = FeatureStore.open(layout.features(modality))
        assert set(store.item_tokens) == items
        for token, item in expected.items():
            n_rows = len(store.rows_of(token))
            assert n_rows == item.n_pictures if modality == "image" else (n_rows > 0) >= item.has_text
    manifest = FeatureStore.open(layout.features("image")).manifest
    assert manifest["options"]["top_n"] == 15
    assert manifest["options"]["dictionary_sha256"] == read_summary(layout, "dictionary")["figures"]["sha256"]
    assert layout.items.read_text().startswith("item_id:token\tclass:token_seq\tbrand:token\n")
    result = run(
        "MSM4SR",
        "Tiny",
        config_dict={"data_path": str(out.parent), "pretrain_epochs": 1, "epochs": 1, "use_gpu": False, "n_experts": 2},
    )
    assert 0 <= result["test_result"]["recall@20"] <= 1


def test_a_second_run_asks_nothing_and_changes_nothing(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _serve(fault_server, 2018)
    out = tmp_path / "Tiny"
    assert main(_amazon(fault_server, 2018, out, encoders)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    asked = len(fault_server.requests)
    capsys.readouterr()
    assert main(_amazon(fault_server, 2018, out, encoders)) == 0
    assert len(fault_server.requests) == asked
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    log = capsys.readouterr().err
    for step in ("get", "interactions", "text", "pictures", "dictionary", "words", "text_features", "image_features"):
        assert f"{step}: done already" in log


def test_one_changed_option_runs_the_steps_that_depend_on_it_alone(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _serve(fault_server, 2018)
    argv = _amazon(fault_server, 2018, tmp_path / "Tiny", encoders)
    assert main(argv) == 0
    before = ["get", "interactions", "text", "pictures", "dictionary", "words", "text_features", "image_features"]
    assert _finished(capsys) == before
    for option, steps in (
        ("--top-n=5", ["words", "image_features"]),
        ("--image-features=clip", ["image_features"]),
        ("--image-features=keywords", ["words", "image_features"]),  # 15 words again
        ("--modalities=text", []),
        ("--max-sentences=1", ["text", "text_features"]),
        ("--require=text", ["interactions", "text", "text_features"]),  # 10 sentences again, of the same items
    ):
        assert main([*argv, option]) == 0
        assert _finished(capsys) == steps, option


def _finished(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The steps that have run, and were not skipped, since the last look."""
    return re.findall(r"^(\w+): finished in", capsys.readouterr().err, re.MULTILINE)


def test_another_encoder_of_another_length_replaces_both_stores(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str]
) -> None:
    _serve(fault_server, 2018)
    argv = _amazon(fault_server, 2018, tmp_path / "Tiny", encoders)
    assert main(argv) == 0
    build_sentence_encoder(tmp_path / "short", dictionary(), seed=1, dim=32)
    assert main([*argv, f"--sentence-encoder={tmp_path / 'short'}"]) == 0
    assert [FeatureStore.open(tmp_path / "Tiny" / "features" / name).dim for name in ("text", "image")] == [32, 32]


def test_steps_can_be_run_one_by_one(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _serve(fault_server, 2018)
    argv = _amazon(fault_server, 2018, tmp_path / "single" / "Tiny", encoders)
    assert main([*argv, "--steps=features"]) == 2
    assert "text.jsonl is missing: run the step that makes it" in capsys.readouterr().err
    for step in ("get", "interactions", "text", "pictures", "words", "features"):
        assert main([*argv, f"--steps={step}"]) == 0
    whole = tmp_path / "whole" / "Tiny"
    assert main(_amazon(fault_server, 2018, whole, encoders)) == 0
    for name in ("Tiny.inter", "Tiny.item", "text.jsonl", "image_keywords.jsonl", "features/text/values.npy"):
        assert (tmp_path / "single" / "Tiny" / name).read_bytes() == (whole / name).read_bytes()


def test_own_files_with_pictures_in_a_folder(tmp_path: Path, encoders: list[str]) -> None:
    made = make_release(2018, lambda name: f"http://127.0.0.1:9/{name}")
    with open(tmp_path / "mine.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "what", "when"])
        writer.writerows((event.user, event.item, event.timestamp) for event in made.events)
    with open(tmp_path / "mine.jsonl", "w") as file:
        for item in made.items:
            record = {"item_id": item.token, "title": f"A {item.material} {item.kind}", "note": item.theme}
            file.write(json.dumps(record) + "\n")
    (tmp_path / "pictures").mkdir()
    for name, content in made.pictures.items():
        token, number = name.removesuffix(".jpg").split("_")
        (tmp_path / "pictures" / (f"{token}.jpg" if number == "1" else name)).write_bytes(content)
    argv = [
        "custom",
        f"--inter={tmp_path / 'mine.csv'}",
        "--columns=user=who,item=what,timestamp=when",
        f"--text={tmp_path / 'mine.jsonl'}",
        f"--images={tmp_path / 'pictures'}",
        f"--out={tmp_path / 'dataset' / 'mine'}",
        *encoders,
    ]
    assert main(argv) == 0
    layout = Layout.of(tmp_path / "dataset" / "mine")
    text, image = (FeatureStore.open(layout.features(name)) for name in ("text", "image"))
    for item in made.items:
        if item.token in text:
            assert len(text.rows_of(item.token)) == 2
            assert len(image.rows_of(item.token)) == item.n_pictures


def _table(path: Path, rows: list[tuple[str, str, str]]) -> str:
    path.write_text("user,item,time\n" + "".join(",".join(row) + "\n" for row in rows))
    return f"--inter={path}"


def test_items_with_pictures_are_those_with_ready_words(tmp_path: Path) -> None:
    inter = _table(tmp_path / "a.csv", [(f"u{n // 4}", f"i{n % 4}", str(n)) for n in range(16)])
    words = [{"item_id": "i0", "keywords": [["red"]]}, {"item_id": "i1", "keywords": []}, {"item_id": "i2"}]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(record) + "\n" for record in words))
    out = tmp_path / "dataset" / "mine"
    argv = ["custom", inter, f"--keywords={tmp_path / 'words.jsonl'}", "--steps=interactions", f"--out={out}"]
    assert main([*argv, "--require=image", "--min-user=1"]) == 0
    assert {line.split("\t")[1] for line in Layout.of(out).interactions.read_text().splitlines()[1:]} == {"i0"}


def test_own_files_are_never_replaced_by_what_is_made_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset" / "mine"
    out.mkdir(parents=True)
    rows = [(f"u{n // 5}", f"i{n % 5}", str(n)) for n in range(10)]
    inter = _table(tmp_path / "a.csv", rows)
    text = out / "text.jsonl"
    text.write_text("".join(json.dumps({"item_id": f"i{n}", "title": f"Title {n}"}) + "\n" for n in range(5)))
    argv = ["custom", "--steps=interactions,text", f"--out={out}"]
    before = text.read_bytes()
    assert main([*argv, inter, f"--text={text}"]) == 2
    assert "text.jsonl would be replaced by what is made of it" in capsys.readouterr().err
    assert text.read_bytes() == before
    text = text.rename(tmp_path / "text.jsonl")
    for name in ("mine.inter", "mine.item"):
        (out / name).write_text("of the user's\n")
        assert main([*argv, inter, f"--text={text}"]) == 2
        assert f"{name} is there, and was not made here" in capsys.readouterr().err
        assert (out / name).read_text() == "of the user's\n"
        (out / name).unlink()
    assert main([*argv, inter, f"--text={text}"]) == 0
    assert main([*argv, inter, f"--text={text}", "--min-user=1"]) == 0, "its own files are"


def test_own_data_keep_their_own_rules_under_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [("u", f"i{n}", f"2020-01-{n + 1:02}") for n in range(5)]
    inter = _table(tmp_path / "a.csv", [*days, days[0]])
    out = tmp_path / "dataset" / "Office"  # as one of the paper's
    assert main(["custom", inter, "--steps=interactions", f"--out={out}"]) == 0
    assert "1 exact duplicates left out" in capsys.readouterr().err
    assert len(Layout.of(out).interactions.read_text().splitlines()) == 1 + 5
    assert main(["custom", inter, "--steps=interactions", "--repeats=all", f"--out={out}"]) == 0
    assert "duplicates" not in capsys.readouterr().err
    assert len(Layout.of(out).interactions.read_text().splitlines()) == 1 + 6


def test_two_processes_make_the_same_files_as_one(tmp_path: Path, encoders: list[str]) -> None:
    made = make_release(2018, lambda name: f"http://127.0.0.1:9/{name}")
    rows = [f"{event.user},{event.item},{event.timestamp}\n" for event in made.events]
    (tmp_path / "mine.csv").write_text("user,item,time\n" + "".join(rows))
    records = [{"item_id": item.token, "title": f"A {item.theme} {item.kind}"} for item in made.items]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name, content in made.pictures.items():
        token, number = name.split("_")
        (tmp_path / "pictures" / token).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / token / number).write_bytes(content)
    inputs = [f"--inter={tmp_path / 'mine.csv'}", f"--text={tmp_path / 'mine.jsonl'}"]
    argv = ["custom", *inputs, f"--images={tmp_path / 'pictures'}", *encoders]
    done = torchrun("-m", "dataset_prep", *argv, f"--out={tmp_path / 'two' / 'mine'}")
    assert done.returncode == 0, done.stderr
    assert main([*argv, f"--out={tmp_path / 'one' / 'mine'}"]) == 0
    names = ["mine.inter", "mine.item", "text.jsonl", "image_keywords.jsonl", "prep/pictures.jsonl"]
    names += [f"features/{name}/{file}" for name in ("text", "image") for file in ("values.npy", "manifest.json")]
    for name in names:
        assert (tmp_path / "two" / "mine" / name).read_bytes() == (tmp_path / "one" / "mine" / name).read_bytes(), name


def test_vectors_of_pictures_instead_of_words(fault_server: FaultServer, tmp_path: Path, encoders: list[str]) -> None:
    _serve(fault_server, 2018)
    out = tmp_path / "Tiny"
    assert main([*_amazon(fault_server, 2018, out, encoders), "--image-features=clip"]) == 0
    assert not (out / "image_keywords.jsonl").exists()
    assert FeatureStore.open(out / "features" / "image").n_rows > 0


def test_a_broken_pictures_host_does_not_lose_the_rest(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = _serve(fault_server, 2018)
    dead = [name for number, name in enumerate(made.pictures) if number % 3 == 0]
    for name in dead:
        del fault_server.routes[f"/pictures/{name}"]
    out = tmp_path / "Tiny"
    assert main(_amazon(fault_server, 2018, out, encoders)) == 0
    figures = read_summary(Layout.of(out), "pictures")["figures"]
    assert figures["failed"]["total"] > 0
    assert figures["failed"]["total"] <= len(dead)
    capsys.readouterr()
    assert main(["info", str(out), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["interactions"]["users"] == 40


@pytest.mark.parametrize(("asked", "workers"), [("--per-host=2", 16), ("--per-host=40", 40), ("--workers=50", 50)])
def test_as_many_pictures_are_fetched_at_once_as_a_host_may_be_asked(
    fault_server: FaultServer,
    tmp_path: Path,
    encoders: list[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    workers: int,
) -> None:
    _serve(fault_server, 2018)
    seen: list[int] = []

    def stop(*_: object, workers: int, **__: object) -> None:
        seen.append(workers)
        raise UserError("that is all")

    monkeypatch.setattr(steps_module, "collect_pictures", stop)
    argv = _amazon(fault_server, 2018, tmp_path / "Tiny", encoders)
    assert main([*argv, "--steps=get,interactions,text,pictures", asked]) == 2
    assert seen == [workers]


def test_links_are_not_asked_again_while_their_pictures_are_half_encoded(
    fault_server: FaultServer, tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _serve(fault_server, 2018)
    argv = _amazon(fault_server, 2018, tmp_path / "Tiny", encoders)
    assert main(argv) == 0
    layout = Layout.of(tmp_path / "Tiny")
    summary = read_summary(layout, "pictures")
    assert summary is not None
    summary["figures"]["try_again"] = 1  # as if a host had been down
    layout.summary("pictures").write_text(json.dumps(summary))
    capsys.readouterr()
    layout.shards("words").mkdir(parents=True)
    assert main([*argv, "--steps=pictures"]) == 0
    assert "pictures: done already" in capsys.readouterr().err
    layout.shards("words").rmdir()
    assert main([*argv, "--steps=pictures"]) == 0
    assert _finished(capsys) == ["pictures"]


def test_pictures_beside_ready_words_are_collected_for_all_that_shows_or_encodes_them(
    tmp_path: Path, encoders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_release(2018, lambda name: f"http://127.0.0.1:9/{name}")
    rows = [f"{event.user},{event.item},{event.timestamp}\n" for event in made.events]
    (tmp_path / "a.csv").write_text("user,item,time\n" + "".join(rows))
    words = [{"item_id": item.token, "keywords": [["red", "mug"]]} for item in made.items]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(record) + "\n" for record in words))
    (tmp_path / "pictures").mkdir()
    for name, content in made.pictures.items():
        if name.endswith("_1.jpg"):
            (tmp_path / "pictures" / name.replace("_1", "")).write_bytes(content)
    out = tmp_path / "dataset" / "mine"
    argv = ["custom", f"--inter={tmp_path / 'a.csv'}", f"--keywords={tmp_path / 'words.jsonl'}", f"--out={out}"]
    argv = [*argv, *encoders]
    assert main([*argv, "--image-features=clip"]) == 2
    assert "there are no pictures" in capsys.readouterr().err
    argv.append(f"--images={tmp_path / 'pictures'}")
    assert main(argv) == 0
    assert any(Layout.of(out).picture_files.rglob("*.jpg"))
    assert FeatureStore.open(out / "features" / "image").manifest["options"]["kind"] == "image keywords"
    assert main([*argv, "--image-features=clip"]) == 0
    assert FeatureStore.open(out / "features" / "image").manifest["options"]["kind"] == "image clip"
    capsys.readouterr()
    assert main(["info", str(out), "--missing"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["item_id", "source", "reason", "asked_again"]
    known = {event.item for event in made.events}
    assert {line.split("\t")[0] for line in lines} == {i.token for i in made.items if not i.n_pictures} & known
    assert all(line.split("\t")[1:] == ["", "the source names no picture", "no"] for line in lines)
    assert main(["info", str(tmp_path), "--missing"]) == 2
    assert "its pictures have not been collected" in capsys.readouterr().err
    assert not (tmp_path / "prep").exists()
