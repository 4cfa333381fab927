"""Settings that name columns: each must be read, of a type with which the setting has an effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_msm4sr.core.errors import UserError, shown
from recbole_msm4sr.data.reader import Format, read_header

_TOKENS, _NUMBERS, _SEQUENCES = ("token", "token_seq"), ("float", "float_seq"), ("token_seq", "float_seq")
_ANY = (*_TOKENS, *_NUMBERS)
#: Field to type of the columns of a file.
Header = Mapping[str, str]


def check_columns(config: Any, inter: Header, form: Format) -> None:
    """Refuse settings that name a column that is not read, or one on which they have no effect.

    Args:
        config: settings of a run.
        inter: the header of the files of interactions.
        form: how the data set's other files are written.

    Raises:
        UserError: names the setting, the column, and what is read.
    """
    user, item, time = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]
    needed = {"inter": (user, item, time), "user": (user,), "item": (item,)}
    suffixes = config["additional_feat_suffix"] or []
    headers = {"inter": inter}
    for source in ("user", "item", *([suffixes] if isinstance(suffixes, str) else suffixes)):
        path = Path(config["data_path"]) / f"{config['dataset']}.{source}"
        is_own = source in ("user", "item")
        if is_own and config["load_col"] is not None and source not in config["load_col"]:
            continue  # whatever lies there is not read
        if path.is_file():
            headers[source] = read_header(path, dict.fromkeys(needed.get(source, ()), "token"), form)
        elif not is_own:
            raise UserError(f"additional_feat_suffix names {shown(source)}, and there is no file {path}")
    given = config.external_config_dict
    for key in ("load_col", "unload_col"):
        for source, columns in (given.get(key) or {}).items():
            _check_file_columns(key, source, columns, headers)
    _check_needed(given, needed, headers)
    read = {source: _read(config, source, header) for source, header in headers.items()}
    for key, columns, kinds, sources in _named(config):
        known = {name: kind for source in sources or read for name, kind in read.get(source, {}).items()}
        for column in columns:
            if known.get(column) not in kinds:
                fitting = ", ".join(f"{name}:{kind}" for name, kind in known.items() if kind in kinds) or "none"
                raise UserError(
                    f"{key} names {shown(column)}; it must name columns that are read (see load_col) and of the type "
                    f"{' or '.join(kinds)}: {fitting}"
                )
    for column in (config["unused_col"] or {}).get("item", []):
        if column in config.item_attributes:
            raise UserError(f"unused_col of item must not list {column}, which {config['model']} needs")
    _check_preloaded(config["preload_weight"] or {}, read, (user, item))


def _check_file_columns(key: str, source: str, columns: Any, headers: Mapping[str, Header]) -> None:
    if source not in headers:
        raise UserError(
            f"{key} names {shown(source)}, which is none of the files of this data set: {', '.join(headers)}"
        )
    for column in columns if isinstance(columns, list) else []:
        if column not in headers[source]:
            there = ", ".join(headers[source])
            raise UserError(f"{key} names the column {shown(column)}, which the .{source} file lacks: it has {there}")


def _check_needed(given: Mapping[str, Any], needed: Mapping[str, Sequence[str]], headers: Mapping[str, Header]) -> None:
    for source in headers:
        asked, hidden = (given.get(key) or {} for key in ("load_col", "unload_col"))
        for column in needed.get(source, ()):
            if isinstance(asked.get(source), list) and column not in asked[source]:
                raise UserError(f"load_col of {source} must list {', '.join(needed[source])}: {column} is missing")
            if column in hidden.get(source, ()):
                raise UserError(f"unload_col of {source} must not list {column}, which is needed")


def _read(config: Any, source: str, header: Header) -> dict[str, str]:
    """The columns of one file that are read."""
    hidden = (config["unload_col"] or {}).get(source, [])
    asked = "*" if config["load_col"] is None else config["load_col"].get(source, [])
    return {name: kind for name, kind in header.items() if (asked == "*" or name in asked) and name not in hidden}


def _named(config: Any) -> Iterator[tuple[str, Sequence[str], Sequence[str], Sequence[str]]]:
    """Settings that name columns: the key, the columns, the types that they may have, and the files (empty: any)."""
    for key, kinds in (
        ("alias_of_user_id", _TOKENS),
        ("alias_of_item_id", _TOKENS),
        ("normalize_field", _NUMBERS),
        ("numerical_features", _NUMBERS),
        ("seq_len", _SEQUENCES),
        ("preload_weight", ("token",)),
    ):
        yield key, list(config[key] or []), kinds, ()
    for source, columns in (config["unused_col"] or {}).items():
        yield f"unused_col of {source}", columns, _ANY, (source,)


def _check_preloaded(pairs: Mapping[str, str], read: Mapping[str, Header], users_and_items: Sequence[str]) -> None:
    for column, values in pairs.items():
        if column in users_and_items:
            raise UserError(f"preload_weight cannot be of {column}: name a column that lists IDs in a file of its own")
        files = [columns for columns in read.values() if column in columns]
        if files[0].get(values) not in _NUMBERS:
            raise UserError(
                f"preload_weight of {column} names {shown(values)}, which is not a column of numbers that is read of "
                f"the same file: that has {', '.join(files[0])}"
            )
