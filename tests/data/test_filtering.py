"""filtering: the same users, items and interactions stay as with RecBole's loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recbole.data.dataset import Dataset

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset

INTERVALS = [
    (None, None),
    ("[0,inf)", "[0,inf)"),
    ("[3,inf)", "[3,inf)"),
    ("(3,8]", None),
    (None, "[2,4];[7,9)"),
    ("[4,12];[1,2]", "[3,20];[1,1]"),  # with attributes, the lower end of the first one counts
    ("[2,4];[7,9)", "(1,inf)"),
    ("[500,inf)", "[0,inf)"),
]
HEADER = "user_id:token\titem_id:token\ttimestamp:float"


class Filtered(VectorisedSequentialDataset):
    """A data set that stops once it is filtered, its tokens still text."""

    def _remap_ID_all(self) -> None: ...

    def _user_item_feat_preparation(self) -> None: ...

    def _fill_nan(self) -> None: ...

    @property
    def frames(self) -> list[pd.DataFrame]:
        """inter_feat, user_feat and item_feat, as far as they are loaded."""
        frames = [frame for frame in (self.inter_feat, self.user_feat, self.item_feat) if frame is not None]
        return [frame.astype({f: object for f in frame if self.field2type[f].value == "token"}) for frame in frames]


class FilteredByRecBole(Filtered):
    _filter_by_inter_num = Dataset._filter_by_inter_num


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 users and 20 items of 1 to 12 interactions; attributes of most of them and of some without interactions."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(24):
        lines += [f"u{user}\ti{int(rng.beta(1, 3) * 20)}\t{rng.integers(99)}" for _ in range(rng.integers(1, 13))]
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    (folder / "x.inter").write_text("\n".join([HEADER, *lines, ""]))
    for name, ids in (("user", rng.permutation(30)[:25]), ("item", rng.permutation(26)[:22])):
        rows = [f"{name[0]}{i}\t{i % 3}" for i in ids]
        (folder / f"x.{name}").write_text("\n".join([f"{name}_id:token\tkind:token", *rows, ""]))
    return folder


def load(dataset_class: type[Filtered], folder: Path, **settings: Any) -> list[pd.DataFrame] | str:
    """The filtered frames, or the error that nothing is left."""
    config = Config("SASRec", "x", config_dict={"data_path": str(folder.parent), **settings})
    try:
        return dataset_class(config).frames
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("columns", ["interactions alone", "attributes too"])
@pytest.mark.parametrize(("users", "items"), INTERVALS)
def test_the_same_rows_stay_as_in_recbole(folder: Path, users: str | None, items: str | None, columns: str) -> None:
    settings: dict[str, Any] = {"user_inter_num_interval": users, "item_inter_num_interval": items}
    if columns == "attributes too":
        settings["load_col"] = None
    ours, theirs = load(Filtered, folder, **settings), load(FilteredByRecBole, folder, **settings)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert "no interactions are left" in ours
        assert theirs == "Some feat is empty, please check the filtering settings."
        assert (users, items) == INTERVALS[-1]
        return
    assert len(ours) == len(theirs) == (3 if columns == "attributes too" else 1)
    for mine, stock in zip(ours, theirs, strict=True):
        pd.testing.assert_frame_equal(mine, stock)


def test_dropping_goes_on_until_nothing_is_left_to_drop(folder: Path) -> None:
    pairs = ["ax", "ay", "bx", "by", "cy", "cz", "dz"]  # without d, z has one; without z, c has one
    (folder / "x.inter").write_text("\n".join([HEADER, *[f"{user}\t{item}\t0" for user, item in pairs], ""]))
    settings = {"user_inter_num_interval": "[2,inf)", "item_inter_num_interval": "[2,inf)"}
    frames = load(Filtered, folder, **settings)
    assert not isinstance(frames, str)
    assert (frames[0]["user_id"] + frames[0]["item_id"]).tolist() == ["ax", "ay", "bx", "by"]
