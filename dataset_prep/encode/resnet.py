"""ResNet's pooled features: what MSM4SR_ResNet of table III uses in the place of words."""

from __future__ import annotations

from torch import Tensor

from dataset_prep.encode.picture_encoder import PictureEncoder

# The paper says ResNet and no more. This one's vectors have 2,048 numbers.
RESNET = "microsoft/resnet-50"


class ResNet(PictureEncoder):
    """A ``ResNetModel``, or a classifier made of one, whose head is left off."""

    what = "ResNet"
    model_class = "ResNetModel"
    model_type = "resnet"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_sizes[-1])

    def _vectors(self, values: Tensor) -> Tensor:
        return self.model(pixel_values=values).pooler_output.flatten(1)  # [b, dim, 1, 1] -> [b, dim]
