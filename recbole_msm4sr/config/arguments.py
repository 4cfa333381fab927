"""Arguments that every command reads in the same way: settings and files of settings."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_msm4sr.core.errors import UserError, shown


def take_config_files(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files of ``--config_files=a.yaml b.yaml``, also ``--config_files a.yaml``, and all other words.

    Raises:
        UserError: there are no files after it.
    """
    files: list[str] = []
    others: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        key, _, value = word.partition("=")
        if key.lstrip("-") != "config_files" or not key.startswith("-"):
            others.append(word)
            continue
        found = value.split()
        while words and not words[0].startswith("-"):
            found.append(words.pop(0))
        if not found:
            raise UserError(f"the argument {shown(word)} has no value: give --config_files=FILE")
        files += found
    return files, others
