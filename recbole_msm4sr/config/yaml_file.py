"""The one reader of YAML that users write: configuration files, grids and values of the command line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from recbole_msm4sr.core.errors import UserError

_HERE = Path(__file__).resolve().parents[1]
#: properties/ lies in the package when installed from a wheel, beside it in a checkout.
PROPERTIES = _HERE / "properties" if (_HERE / "properties").is_dir() else _HERE.parent / "properties"
_LONGEST_FILE = 2**20  # bytes; a file of settings has a few thousand
_DEEPEST = 20  # levels; a setting has three


def _problem(words: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=at.start_mark)


class _Loader(yaml.SafeLoader):
    """Safe YAML without the features that make a small file large, ambiguous or different from what it seems to say.

    It reads 1e-3 as a number and None as nothing, as RecBole's users write them. Dates stay text. Anchors and aliases,
    tags, a key given twice and more than ``_DEEPEST`` levels are errors.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, refusing what is not in this subset."""
        event = self.peek_event()
        unsupported = {"anchor": "anchors (&) and aliases (*)", "tag": "tags (!)"}
        for attribute, words in unsupported.items():
            if getattr(event, attribute, None) is not None:
                raise _problem(f"{words} are not supported: write the value out", event)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _problem(f"nested deeper than {_DEEPEST} levels", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping of distinct keys."""
        mapping = super().construct_mapping(node, deep=True)
        if len(mapping) < len(node.value):
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    raise _problem(f"{key!r} is given twice", key_node)
                seen.add(key)
        return mapping


_UNWANTED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNWANTED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+0123456789.")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])


def parse_scalar(text: str) -> Any:
    """Read a command line value as YAML, never evaluating it; text that is not YAML (``[5,inf)``) stays text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):  # ValueError: a number of more digits than Python reads
        return text


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        UserError: the file is missing, too long, not UTF-8, not YAML of plain values, or not a mapping.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UserError(f"the configuration file {path} is not a plain file")
        with open(path, "rb") as file:
            raw = file.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the configuration file {path}: {reason}") from error
    if len(raw) > _LONGEST_FILE:
        raise UserError(f"the configuration file {path} is longer than {_LONGEST_FILE} bytes: settings are short")
    try:
        content = yaml.load(raw.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"the configuration file {path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"the configuration file {path} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"the configuration file {path} must hold `key: value` lines")
    return content
