"""CLIP(.) of eq. 2: vectors of pictures and of words in one space, scaled to length 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dataset_prep.encode.picture_encoder import PictureEncoder

# The paper names no checkpoint. This is the one whose projected vectors have the 768 numbers of the paper's d, so that
# text and image features are of one size with --image-features clip as well. openai/clip-vit-base-patch32 (512
# numbers) takes about 18 times less work.
CLIP = "openai/clip-vit-large-patch14"


class Clip(PictureEncoder):
    """A ``CLIPModel``. The inner product of two of its vectors is eq. 2's sim, the cosine."""

    what = "CLIP model"
    model_class = "CLIPModel"
    model_type = "clip"

    def __init__(self, name_or_path: str, device: str | None = None, *, revision: str | None = None) -> None:
        super().__init__(name_or_path, device, revision=revision)
        self.tokenizer = self._load("AutoTokenizer")

    @property
    def dim(self) -> int:
        """Length of a vector of either kind."""
        return int(self.model.config.projection_dim)

    @torch.inference_mode()
    def encode_words(self, words: Sequence[str]) -> Tensor:
        """CLIP(w) of a batch of words or phrases, float32 ``[n, dim]`` of length 1, on the device."""
        tokens = self.tokenizer(list(words), padding=True, truncation=True, return_tensors="pt").to(self.device)
        output = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return normalize(output.pooler_output.float(), dim=-1)

    def _vectors(self, values: Tensor) -> Tensor:
        return normalize(self.model.get_image_features(pixel_values=values).pooler_output.float(), dim=-1)
