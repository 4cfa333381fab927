"""A page's elements, as an HTML parser sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "img", "input", "link", "base", "br"}


@dataclass
class Element:
    """A start tag with its attributes and all text inside."""

    tag: str
    attributes: dict[str, str]
    inside: tuple[Element, ...]
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.pieces.append(data)


def read_html(text: str) -> list[Element]:
    """All elements in document order; every element must be closed in its place."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert not reader._open
    return reader.elements


def by_id(elements: list[Element], identity: str) -> Element:
    """The one element with this id."""
    (found,) = [element for element in elements if element.attributes.get("id") == identity]
    return found
