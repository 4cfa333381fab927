"""Which text can name a user or an item, in an atomic file and in a feature store alike."""

from __future__ import annotations

import re

#: What pandas, with which RecBole reads atomic files, takes for a missing value.
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
).union(("-NaN", "-nan", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN"))
#: The token that RecBole gives the padding item.
PADDING = "[PAD]"
#: Characters that end a line for some reader, or that no reader shows.
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def token_problem(token: object) -> str | None:
    """Why ``token`` cannot name a user or an item, in a few fixed words; None if it can.

    Path separators are allowed: no step makes a file name of a token. What RecBole's reader would take for something
    else is not: ``NA`` and its like are missing values to it, and a cell that starts with a quote goes on to the next.
    """
    if not isinstance(token, str):
        return "is not a string"
    if not token or token.isspace():
        return "is empty"
    if any(mark in token for mark in "\t\r\n"):
        return "holds a tab or a line break"
    if CONTROL_CHARACTER.search(token):
        return "holds a control character"
    if token in MISSING:
        return "stands for a missing value"
    if token.startswith('"'):
        return "starts with a quote"
    if token == PADDING:
        return "is RecBole's padding"
    try:
        token.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def text_problem(text: str) -> str | None:
    """Why ``text`` cannot be an attribute's token, in a few fixed words; None if it can."""
    if CONTROL_CHARACTER.search(text):
        return "holds a control character"
    return "is RecBole's padding" if text == PADDING else None
