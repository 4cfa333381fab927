"""Versions that a result depends on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package, or ``not installed``."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
