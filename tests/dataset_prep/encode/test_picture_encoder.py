"""Loading CLIP and ResNet, and what goes into them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dataset_prep.encode.picture_encoder import Clip, PictureEncoder, ResNet
from recbole_msm4sr.core.errors import UserError


@pytest.fixture
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    sizes = ((50, 80, 3), (90, 30, 3), (48, 48, 3))
    return [Image.fromarray(rng.integers(0, 256, size=size, dtype=np.uint8)) for size in sizes]


@torch.inference_mode()
def test_clip_vectors_are_the_models_own_from_its_own_preprocessing(
    trained_clip: Path, pictures: list[Image.Image]
) -> None:
    clip = Clip(str(trained_clip), "cpu")
    vectors = clip.encode(np.stack([clip.pixels(picture) for picture in pictures]))
    inputs = clip.processor(images=pictures, return_tensors="pt")  # scales to the model's range by itself
    words = clip.tokenizer(["red", "a round thing"], padding=True, return_tensors="pt")
    expected = clip.model(
        pixel_values=inputs["pixel_values"], input_ids=words["input_ids"], attention_mask=words["attention_mask"]
    )
    torch.testing.assert_close(vectors, expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.encode_words(["red", "a round thing"]), expected.text_embeds, atol=1e-5, rtol=0)
    assert vectors.shape == (3, clip.dim)


@torch.inference_mode()
def test_resnet_vectors_are_the_pooled_features(random_resnet: Path, pictures: list[Image.Image]) -> None:
    from transformers import AutoModelForImageClassification

    resnet = ResNet(str(random_resnet), "cpu")
    vectors = resnet.encode(np.stack([resnet.pixels(picture) for picture in pictures]))
    inputs = resnet.processor(images=pictures, return_tensors="pt")
    classifier = AutoModelForImageClassification.from_pretrained(random_resnet).eval()
    expected = classifier.resnet(**inputs).last_hidden_state.mean(dim=(2, 3))
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)
    assert vectors.shape == (3, resnet.dim) == (3, 32)
    assert float(vectors.abs().max()) > 0


def test_a_folder_has_its_name_and_a_digest_of_its_weights(trained_clip: Path, tmp_path: Path) -> None:
    one = Clip(str(trained_clip), "cpu")
    assert one.name == "clip"
    assert one.revision is not None
    assert one.revision.startswith("sha256:")
    copy = tmp_path / "clip"
    shutil.copytree(trained_clip, copy)
    assert Clip(str(copy), "cpu").revision == one.revision
    _change_weights(copy, lambda weights: weights["logit_scale"].add_(1))
    assert Clip(str(copy), "cpu").revision != one.revision


@pytest.mark.parametrize("encoder", [Clip, ResNet])
def test_a_folder_that_is_not_such_a_model_is_a_clear_error(
    encoder: type[PictureEncoder], tmp_path: Path, trained_clip: Path, random_resnet: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="can be loaded from the folder"):
        encoder(str(tmp_path / "empty"), "cpu")
    with pytest.raises(UserError, match="there is no model folder"):
        encoder("no/such/folder", "cpu")
    other = random_resnet if encoder is Clip else trained_clip
    with pytest.raises(UserError, match="is a model of the type"):
        encoder(str(other), "cpu")


def test_missing_or_damaged_weights_never_pass_for_a_model(
    trained_clip: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    copy = tmp_path / "clip"
    shutil.copytree(trained_clip, copy)
    _change_weights(copy, lambda weights: weights["visual_projection.weight"].fill_(torch.nan))
    clip = Clip(str(copy), "cpu")
    with pytest.raises(UserError, match="NaN"):
        clip.encode(np.stack([clip.pixels(pictures[0])]))
    _change_weights(copy, lambda weights: weights.pop("visual_projection.weight"))
    with pytest.raises(UserError, match=r"lacks 1 weights of a CLIP model, visual_projection\.weight"):
        Clip(str(copy), "cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80\x04K\x01."], ids=["empty", "cut", "list", "pickle"])
def test_any_damaged_file_of_a_model_is_a_clear_error(
    trained_clip: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    shutil.copytree(trained_clip, tmp_path / "clip")
    (tmp_path / "clip" / name).write_bytes(content)
    with pytest.raises(UserError, match=r"no CLIP model can be loaded from the folder|is a model of the type"):
        Clip(str(tmp_path / "clip"), "cpu")


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})
