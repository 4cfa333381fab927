"""What can be the name of a user or an item in an atomic file and a feature store."""

from __future__ import annotations


def token_problem(token: object) -> str | None:
    """Why ``token`` cannot name a user or an item, in a few fixed words; None if it can.

    Path separators are allowed: no step makes a file name of a token. RecBole reads tokens as they stand.
    """
    if not isinstance(token, str):
        return "is not a string"
    if not token or token.isspace():
        return "is empty"
    if any(mark in token for mark in "\t\r\n"):
        return "holds a tab or a line break"
    if token == "[PAD]":
        return "is RecBole's padding"
    try:
        token.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None
