"""A catalogue of nine items, the models' configuration at its size, and batches whose pairs are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType
from torch import Tensor, nn

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.yaml_file import read_yaml

N_ITEMS = 10  # ids 1..9; 0 is padding
FEATURE_SIZE = 6
MAX_LENGTH = 7
ROWS_OF_ITEM = {  # item 3 has no text, item 5 no image, item 8 neither
    "text": [0, 2, 1, 0, 3, 1, 2, 4, 0, 1],
    "image": [0, 1, 3, 2, 1, 0, 2, 1, 0, 5],
}
VALUES_OF_ITEM = {  # an item has up to 2 of the kinds 1..4 and one of the brands 1..3; 0 is none
    "kind": [[0, 0], [1, 2], [2, 0], [3, 4], [0, 0], [4, 0], [1, 0], [2, 3], [4, 1], [3, 0]],
    "brand": [0, 1, 3, 2, 0, 1, 2, 3, 1, 2],
}
N_VALUES = {"kind": 5, "brand": 4, "unused": 1}
ITEM_SEQ, LENGTH, ITEM = "item_id_list", "item_length", "item_id"

_MODEL_PROPERTIES = Path(__file__).parents[2] / "properties" / "model"


def make_config(model: str = "MSM4SR", /, **changes: Any) -> dict[str, Any]:
    """A model's properties, RecBole's field names, tiny sizes, no dropout of activations, then ``changes``.

    A plain dict: a key that no properties file names is a KeyError, where RecBole's Config would answer None.
    """
    config: dict[str, Any] = {}
    for name in registry.find(model).properties:
        config.update(read_yaml(_MODEL_PROPERTIES / f"{name}.yaml"))
    tiny = {"hidden_size": 8, "inner_size": 12, "attention_size": 5, "n_experts": 3, "attribute_hidden_size": 4}
    config.update({key: value for key, value in {**tiny, **without_dropout()}.items() if key in config})
    config.update(
        USER_ID_FIELD="user_id",
        ITEM_ID_FIELD=ITEM,
        LIST_SUFFIX="_list",
        ITEM_LIST_LENGTH_FIELD=LENGTH,
        NEG_PREFIX="neg_",
        MAX_ITEM_LIST_LENGTH=MAX_LENGTH,
        device=torch.device("cpu"),
    )
    config.update(changes)
    return config


def without_dropout() -> dict[str, float]:
    """No dropout of activations: training mode computes what evaluation mode computes."""
    names = ("encoder_dropout_prob", "adaptor_dropout_prob", "hidden_dropout_prob", "attn_dropout_prob")
    return dict.fromkeys(names, 0.0)


def without_augmentation() -> dict[str, float]:
    """ρ = 0 and p = 0: the pre-training objective is deterministic."""
    return {"sequence_dropout": 0.0, "mixup_max": 0.0}


def make_dataset(dtype: torch.dtype = torch.float16) -> Any:
    """What the models ask of a dataset: the number of items, their feature rows and their attributes."""
    generator = torch.Generator().manual_seed(3)
    features = {}
    for modality, counts in ROWS_OF_ITEM.items():
        values = torch.randn(sum(counts), FEATURE_SIZE, generator=generator).to(dtype)
        offsets = torch.tensor([0, *counts]).cumsum(0)
        features[modality] = (values, offsets)
    types = {"kind": FeatureType.TOKEN_SEQ, "brand": FeatureType.TOKEN, "unused": FeatureType.TOKEN}
    return SimpleNamespace(
        num=lambda field: N_VALUES.get(field, N_ITEMS),
        item_features=features,
        field2type={**types, "price": FeatureType.FLOAT},
        get_item_feature=lambda: {name: torch.tensor(values) for name, values in VALUES_OF_ITEM.items()},
    )


def means_of(modality: str) -> np.ndarray:
    """Every item's mean feature row, zeros without rows, item by item; float64 ``[n_items, d]``."""
    rows = iter(make_dataset().item_features[modality][0].float().numpy())
    own = [[next(rows) for _ in range(count)] for count in ROWS_OF_ITEM[modality]]
    return np.array([np.mean(r, axis=0) if r else np.zeros(FEATURE_SIZE) for r in own], dtype=np.float64)


def randomise(model: nn.Module, std: float = 0.5) -> nn.Module:
    """Give every parameter a value that shows, biases and LayerNorms included; float64, where references live."""
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
        embedding = getattr(model, "item_embedding", None)
        if embedding is not None:
            embedding.weight[0] = 0
    return model


def packed_batch() -> Interaction:
    """Three windows; targets repeat across and within rows, and the second row's first target is not asked for."""
    return Interaction(
        {
            ITEM_SEQ: torch.tensor([[1, 2, 3, 4, 2], [5, 8, 6, 0, 0], [7, 0, 0, 0, 0]]),
            "target": torch.tensor([[2, 3, 4, 2, 9], [0, 6, 4, 0, 0], [1, 0, 0, 0, 0]]),
            LENGTH: torch.tensor([5, 3, 1]),
        }
    )


def pairs_of(batch: Interaction) -> list[tuple[list[int], int]]:
    """The (prefix, next item) pairs of a packed batch, row by row."""
    return [
        (row[: time + 1], target)
        for row, targets in zip(batch[ITEM_SEQ].tolist(), batch["target"].tolist(), strict=True)
        for time, target in enumerate(targets)
        if target
    ]


def histories(prefixes: list[list[int]], width: int = MAX_LENGTH) -> Interaction:
    """Prefixes as RecBole's evaluation feeds them: left-aligned, padded to ``width``."""
    return Interaction(
        {
            ITEM_SEQ: torch.tensor([prefix + [0] * (width - len(prefix)) for prefix in prefixes]),
            LENGTH: torch.tensor([len(prefix) for prefix in prefixes]),
        }
    )


def spy_on_encode_items(monkeypatch: Any, backbone: nn.Module) -> list[Tensor | None]:
    """Record the ids of every call of ``backbone.encode_items``."""
    calls: list[Tensor | None] = []
    original = backbone.encode_items

    def encode_items(item_ids: Tensor | None = None) -> Tensor:
        calls.append(item_ids)
        return original(item_ids)

    monkeypatch.setattr(backbone, "encode_items", encode_items)
    return calls
