"""What CLIP and ResNet have in common as encoders of pictures: loading, preparing pixels, vectors of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

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
        local = is_local_model(name_or_path)
        self._source = name_or_path
        self._options: dict[str, Any] = {"local_files_only": local}
        if revision and not local:
            self._options["revision"] = revision
        config = self._load("AutoConfig")
        if config.model_type != self.model_type:
            raise UserError(
                f"{name_or_path} is a model of the type {config.model_type}, not {self.model_type}: give a {self.what}"
            )
        model, report = self._load(self.model_class, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):  # the library fills them with random numbers
            raise UserError(f"{name_or_path} lacks {len(missing)} weights of a {self.what}, {missing[0]} for one")
        # The processor that works with torchvision gives slightly other pixels, wherever that happens to be installed.
        self.processor = self._load("AutoImageProcessor", backend="pil")
        self.device = torch.device(own_device(device))
        self.model: PreTrainedModel = model.to(self.device).eval()
        self.name = Path(name_or_path).resolve().name if local else name_or_path
        self.revision: str | None = (
            digest_of_weights(Path(name_or_path)) if local else getattr(config, "_commit_hash", None) or revision
        )
        self._scale = self.processor.rescale_factor if self.processor.do_rescale else 1.0
        self._mean, self._std = self._statistics()  # [3, 1, 1] each

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
        except (OSError, ValueError) as error:
            raise loading_error(self.what, self._source, error) from error

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels that the model was trained with, ``[3, 1, 1]`` each."""
        normalised = self.processor.do_normalize
        mean = torch.tensor(self.processor.image_mean if normalised else [0.0] * 3)
        std = torch.tensor(self.processor.image_std if normalised else [1.0] * 3)
        return mean.view(3, 1, 1).to(self.device), std.view(3, 1, 1).to(self.device)
