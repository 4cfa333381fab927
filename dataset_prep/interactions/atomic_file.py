"""Read the items of RecBole's atomic file of interactions."""

from __future__ import annotations

import os

from dataset_prep.readers.lines import read_lines
from recbole_msm4sr.core.errors import UserError


def interaction_items(path: str | os.PathLike[str]) -> list[str]:
    """The items of an atomic file of interactions, each once, in the order of their first appearance.

    Raises:
        UserError: the file is missing, or is no such file.
    """
    lines = read_lines(path)
    _, header = next(lines, (1, b""))
    fields = header.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
    if not {"user_id:token", "item_id:token"} <= set(fields):
        raise UserError(f"{path}: the first line lacks user_id:token or item_id:token: it is no file of interactions")
    place = fields.index("item_id:token")
    items: dict[str, None] = {}
    for number, line in lines:
        cells = line.rstrip(b"\r\n").split(b"\t")
        if len(cells) != len(fields):
            raise UserError(f"{path}:{number}: has {len(cells)} cells, not {len(fields)} as the header: mend the line")
        try:
            items[cells[place].decode()] = None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: is not UTF-8 text ({error.reason})") from error
    return list(items)
