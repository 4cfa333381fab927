"""The items of an atomic file of interactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_prep.readers.inter import interaction_items, item_counts
from recbole_msm4sr.core.errors import UserError


def test_items_come_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    path = tmp_path / "d.inter"
    path.write_text("item_id:token\trating:float\tuser_id:token\nb\t1\tu\na\t1\tu\nb\t2\tv\r\nΩ\t1\tu\n")
    assert item_counts(path) == (2, {"b": 2, "a": 1, "Ω": 1})
    assert interaction_items(path) == ["b", "a", "Ω"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'user_id'"),
        (b"user_id:token\titem\nu\ti\n", "has no column 'item_id'"),
        (b"user_id:token\titem_id:token\nu\ti\nu\n", r"d\.inter, line 3: cells are missing"),
        (b"user_id:token\titem_id:token\nu\t\xff\n", r"d\.inter, line 2: is not utf-8"),
    ],
)
def test_a_file_that_is_not_one_of_interactions_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "d.inter"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        item_counts(path)
