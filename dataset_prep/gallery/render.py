"""Items and figures -> HTML. Everything from the data set is foreign text: Jinja escapes it, wherever it stands.

The script holds no data: it finds what it filters in the document. A content security policy admits the page's own
style and script by their digests, and pictures from ``data:``; nothing else can run or load.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dataset_prep.gallery.items import Item
from dataset_prep.gallery.thumbnails import Thumbnail
from dataset_prep.readable import difference, displayable, percent, seconds_as_text, size_as_text

SENTENCES_SHOWN, PICTURES_SHOWN, WORDS_SHOWN = 10, 10, 50  # of one item; the page says how many more there are

_environment = Environment(
    loader=PackageLoader("dataset_prep.gallery", "template"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["show"] = displayable
_environment.filters["bytes"] = size_as_text
_environment.filters["duration"] = seconds_as_text
_environment.filters["percent"] = percent
_environment.globals["difference"] = difference


def render_item(item: Item, thumbnails: list[Thumbnail | None]) -> Markup:
    """One item as a list entry; a thumbnail per picture, None where there is none to show."""
    return Markup(
        _environment.get_template("item.html").render(
            item=item,
            pictures=list(zip(item.pictures, thumbnails, strict=False)),
            sentences=item.sentences[:SENTENCES_SHOWN],
            more_sentences=max(0, len(item.sentences) - SENTENCES_SHOWN),
            more_pictures=max(0, len(item.pictures) - len(thumbnails)),
            words_shown=WORDS_SHOWN,
        )
    )


def render_page(described: Mapping[str, Any], sample: Mapping[str, Any], items: list[Markup]) -> str:
    """The whole page: figures of :func:`~dataset_prep.info.describe.describe`, how the sample was drawn, the items."""
    style, script = (_source(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment.get_template("page.html").render(
        described=described, sample=sample, items=items, style=Markup(style), script=Markup(script), policy=policy
    )


def _source(name: str) -> str:
    assert _environment.loader is not None
    return _environment.loader.get_source(_environment, name)[0]


def _digest(source: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
