"""CLIP and ResNet as encoders of pictures: loading, preparing pixels, vectors of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from dataset_prep.encode.models import digest_of_weights, is_local_model, loading_error
from recbole_msm4sr.core.distributed import own_device
from recbole_msm4sr.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PictureEncoder(ABC):
    """A pre-trained model that turns pictures into vectors.

    Args:
        name_or_path: a folder (read without network access), or a name on the model hub.
        device: ``cpu``, ``cuda``, ...; left out, a GPU if there is one (see ``core.distributed.own_device``).
        revision: commit or tag of a name on the hub.

    Attributes:
        name: what manifests call the encoder: the hub's name, or the last part of a folder's path.
        revision: the hub's commit, or for a folder ``sha256:`` and the start of a digest of its weights.

    Raises:
        UserError: the model cannot be loaded, is of another kind, or lacks weights.
    """

    what: str  # in messages
    model_class: str  # of transformers
    model_type: str  # in the model's config.json

    def __init__(self, name_or_path: str, device: str | None = None, *, revision: str | None = None) -> None:
        self._source = name_or_path
        local = is_local_model(self._source)
        self._options: dict[str, Any] = {"local_files_only": local}
        if revision and not local:
            self._options["revision"] = revision
        config = self._load("AutoConfig")
        if config.model_type != self.model_type:
            raise UserError(
                f"{self._source} is a model of the type {config.model_type}, not {self.model_type}: give a {self.what}"
            )
        model, report = self._load(self.model_class, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):  # the library fills them with random numbers
            raise UserError(f"{self._source} lacks {len(missing)} weights of a {self.what}, {missing[0]} for one")
        # The processor that works with torchvision gives slightly other pixels, wherever that happens to be installed.
        self.processor = self._load("AutoImageProcessor", backend="pil")
        self.device = torch.device(own_device(device))
        self.model: PreTrainedModel = model.to(self.device).eval()
        self.name = Path(self._source).resolve().name if local else self._source
        self.revision: str | None = (
            digest_of_weights(Path(self._source)) if local else getattr(config, "_commit_hash", None) or revision
        )
        self._scale = self.processor.rescale_factor if self.processor.do_rescale else 1.0
        # Mean and deviation of the channels that the model was trained with, [3, 1, 1] each.
        statistics = (self.processor.image_mean, self.processor.image_std)
        self._mean, self._std = (
            torch.tensor(numbers, device=self.device).view(3, 1, 1)
            for numbers in (statistics if self.processor.do_normalize else ([0.0] * 3, [1.0] * 3))
        )

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Scale and crop an RGB picture to what the model sees, uint8 ``[3, height, width]``. Safe for threads.

        The numbers are brought to the model's range on its device (see :meth:`encode`): in a thread that would take
        longer than the rest, and a batch would be four times as large.
        """
        prepared = self.processor(images=picture, do_rescale=False, do_normalize=False, return_tensors="np")
        return prepared["pixel_values"][0]

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Vectors of a batch of :meth:`pixels`, ``[b, 3, height, width]``: float32 ``[b, dim]`` on the device.

        Raises:
            UserError: the model makes numbers that are not finite.
        """
        values = torch.from_numpy(pixels).to(self.device).float() * self._scale  # [b, 3, h, w]
        vectors = self._vectors((values - self._mean) / self._std).float()  # [b, dim]
        if not bool(torch.isfinite(vectors).all()):
            raise UserError(f"{self.name} gives vectors with NaN or infinite numbers: its weights are damaged")
        return vectors

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def _vectors(self, values: Tensor) -> Tensor:
        """The model's vectors ``[b, dim]`` of normalised pictures, float32 ``[b, 3, height, width]``."""

    def _load(self, library_class: str, **options: Any) -> Any:
        """``from_pretrained`` of one of the library's classes."""
        import transformers  # takes seconds: only what needs a model should pay for it

        try:
            return getattr(transformers, library_class).from_pretrained(self._source, **self._options, **options)
        except Exception as error:  # whatever the library raises: there is a kind for each damaged file
            raise loading_error(self.what, self._source, error) from error


class Clip(PictureEncoder):
    """CLIP(.) of eq. 2: vectors of pictures and of words in one space, scaled to length 1.

    The inner product of two vectors is eq. 2's sim, the cosine.
    """

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


class ResNet(PictureEncoder):
    """ResNet's pooled features, which MSM4SR_ResNet of table III uses in the place of words.

    The model is a ``ResNetModel``, or a classifier made of one, whose head is left off.
    """

    what = "ResNet"
    model_class = "ResNetModel"
    model_type = "resnet"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_sizes[-1])

    def _vectors(self, values: Tensor) -> Tensor:
        return self.model(pixel_values=values).pooler_output.flatten(1)  # [b, dim, 1, 1] -> [b, dim]
