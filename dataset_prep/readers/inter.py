"""The items of RecBole's atomic file of interactions."""

from __future__ import annotations

import os

from dataset_prep.readers.lines import read_lines
from recbole_msm4sr.core.errors import UserError

_USER, _ITEM = "user_id:token", "item_id:token"


def item_counts(path: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """Number of users, and how often each item occurs, items in the order of their first appearance.

    Raises:
        UserError: the file is missing, its columns ``user_id:token`` and ``item_id:token`` cannot be found, or a line
            has another number of cells or is not UTF-8.
    """
    lines = read_lines(path)
    _, header = next(lines, (1, b""))
    fields = header.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
    if not {_USER, _ITEM} <= set(fields):
        raise UserError(f"{path} has no readable columns {_USER} and {_ITEM} in its first line: fix the header")
    user, item = fields.index(_USER), fields.index(_ITEM)
    users: set[bytes] = set()
    counts: dict[str, int] = {}
    for number, line in lines:
        cells = line.rstrip(b"\r\n").split(b"\t")
        if len(cells) != len(fields):
            raise UserError(f"{path}:{number}: has {len(cells)} cells, not {len(fields)} as the header: fix the line")
        users.add(cells[user])
        try:
            token = cells[item].decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: is not UTF-8 text ({error.reason})") from error
        counts[token] = counts.get(token, 0) + 1
    return len(users), counts


def interaction_items(path: str | os.PathLike[str]) -> list[str]:
    """The items of a file of interactions, each once, in the order of their first appearance; as ``item_counts``."""
    return list(item_counts(path)[1])
