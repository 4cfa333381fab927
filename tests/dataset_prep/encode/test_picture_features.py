"""Pictures of a data set -> ``features/image`` without words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchrun import torchrun

from dataset_prep.demo.catalogue import Item
from dataset_prep.demo.pictures import draw
from dataset_prep.encode.picture_encoder import Clip, PictureEncoder, ResNet
from dataset_prep.encode.picture_features import encode_pictures
from dataset_prep.encode.picture_rows import read_pictures
from dataset_prep.layout import Layout
from recbole_msm4sr.data.feature_store import FeatureStore

SCRIPT = """
import sys
from dataset_prep.layout import Layout
from dataset_prep.encode.picture_encoder import ResNet
from dataset_prep.encode.picture_features import encode_pictures

encode_pictures(Layout.of(sys.argv[1]), ResNet(sys.argv[2], "cpu"), batch_size=3, workers=1, shard_size=5)
"""


def _encode(layout: Layout, encoder: PictureEncoder) -> dict[str, object]:
    return encode_pictures(layout, encoder, batch_size=3, workers=2, shard_size=5)


@pytest.mark.parametrize(
    ("kind", "encoder_class", "model"), [("clip", Clip, "trained_clip"), ("resnet", ResNet, "random_resnet")]
)
def test_a_row_a_picture_in_order_and_none_for_items_without(
    kind: str, encoder_class: type[PictureEncoder], model: str, drawn_layout: Layout, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(model)
    encoder = encoder_class(str(folder), "cpu")
    figures = _encode(drawn_layout, encoder)
    store = FeatureStore.open(drawn_layout.features("image"))
    store.verify()
    pictures = dict(read_pictures(drawn_layout))
    assert store.item_tokens == list(pictures)
    for item, files in pictures.items():
        rows = store.rows_of(item)
        assert rows.shape == (len(files), encoder.dim)
        for row, file in zip(rows, files, strict=True):
            pixels = encoder.pixels(Image.open(drawn_layout.picture_files / file).convert("RGB"))
            np.testing.assert_allclose(row, encoder.encode(pixels[None])[0].numpy(), atol=2e-3, rtol=2e-3)
    if kind == "clip":
        np.testing.assert_allclose(np.linalg.norm(store.values.astype(np.float32), axis=1), 1, atol=1e-3)
    manifest = store.manifest
    assert (manifest["encoder"], manifest["revision"]) == (encoder.name, encoder.revision)
    assert manifest["options"] == {"kind": f"image {kind}", "n_distinct_pictures": 23}
    assert (figures["rows"], figures["distinct_pictures"], figures["items_without_rows"]) == (25, 23, 2)
    assert (figures["dim"], figures["revision"]) == (store.dim, encoder.revision)
    assert not drawn_layout.shards("picture-features").exists()


def test_a_picture_that_cannot_be_decoded_is_counted_and_has_no_row(
    make_layout: Callable[..., Layout], drawn_items: list[Item], random_resnet: Path
) -> None:
    rng = np.random.default_rng(1)
    layout = make_layout({"A": [draw(drawn_items[0], rng), b"nothing", draw(drawn_items[1], rng)], "B": [b"nothing"]})
    figures = _encode(layout, ResNet(str(random_resnet), "cpu"))
    store = FeatureStore.open(layout.features("image"))
    assert np.diff(store.offsets).tolist() == [2, 0]
    assert isinstance(figures["undecodable"], dict)
    assert figures["undecodable"]["total"] == 1, "the two are one file"


def test_two_processes_and_an_interrupted_run_make_the_same_store(
    drawn_layout: Layout, random_resnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resnet = ResNet(str(random_resnet), "cpu")
    _encode(drawn_layout, resnet)
    fingerprint = FeatureStore.open(drawn_layout.features("image")).fingerprint

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write", full)
        with pytest.raises(OSError, match="No space left"):
            _encode(drawn_layout, resnet)
    assert FeatureStore.open(drawn_layout.features("image")).fingerprint == fingerprint, (
        "the earlier store is as it was"
    )
    with monkeypatch.context() as patch:
        patch.setattr(ResNet, "encode", None)  # finished shards are not computed again
        _encode(drawn_layout, resnet)
    assert FeatureStore.open(drawn_layout.features("image")).fingerprint == fingerprint

    Path("step.py").write_text(SCRIPT, encoding="utf-8")
    done = torchrun("step.py", str(drawn_layout.root), str(random_resnet))
    assert done.returncode == 0, done.stderr
    assert FeatureStore.open(drawn_layout.features("image")).fingerprint == fingerprint
