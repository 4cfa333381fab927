"""Open a page in a real browser, without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CHROMIUM = next((path for path in map(shutil.which, _NAMES) if path), None)

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason=f"no browser: none of {', '.join(_NAMES)} is installed")


def open_page(
    page: Path, *flags: str, fragment: str = "", width: int = 1280, height: int = 1000
) -> tuple[str, list[str]]:
    """The document after its scripts ran, as HTML, and the lines that the browser wrote to its console."""
    assert _CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                _CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "--enable-logging=stderr",
                "--virtual-time-budget=3000",
                *(flags or ("--dump-dom",)),
                page.as_uri() + fragment,
            ],
            capture_output=True,
            timeout=120,
            env={**os.environ, "HOME": profile},
            check=True,
        )
    console = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    return done.stdout.decode(), console


def take_screenshot(page: Path, target: Path, *flags: str, **options: object) -> list[str]:
    """Write a PNG of the page; returns the console's lines."""
    return open_page(page, *flags, f"--screenshot={target}", **options)[1]  # type: ignore[arg-type]
