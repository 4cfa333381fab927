"""Product text as it comes, with markup, entities and invisible characters -> plain paragraphs."""

from __future__ import annotations

import re

import ftfy
from selectolax.lexbor import LexborHTMLParser

_ROUNDS = 3  # "&amp;lt;b&amp;gt;" is a tag after two of them
_MARKUP = re.compile(r"<[A-Za-z/!?]|&(?:#[0-9xX]|[A-Za-z]+[0-9]*;)")
_TAG = re.compile(r"<[A-Za-z/!?]")
# A line ends before and after these; other tags (<b>, <span>) stand inside a sentence.
_BLOCK = re.compile(
    r"(?=</?(?:address|article|blockquote|br|caption|center|dd|details|div|dl|dt|fieldset|figcaption|figure|footer|form"
    r"|h[1-6]|header|hr|li|main|ol|option|p|pre|section|select|summary|table|tbody|td|tfoot|th|thead|tr|ul)\b)",
    re.IGNORECASE,
)
_NOT_TEXT = ["script", "style", "iframe", "noscript", "svg", "title"]

# Scripts that leaked without their tags, as in titles of the 2018 release: "var aPageStart = (new Date()).getTime();"
_SCRIPT = re.compile(
    r"\.getTime\(\)|\bfunction\b[^(){}]{0,60}\([^()]{0,200}\)\s{0,9}\{|\bvar \w{1,60}\s?="
    r"|\bdocument\.write\(|\bwindow\.ue_"
)

_FTFY = ftfy.TextFixerConfig(unescape_html=False, normalization="NFC")
# Control characters that are not white space, soft hyphens, zero-width spaces, marks of direction, byte order marks,
# the sign for a character that could not be decoded, variation selectors.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u115f\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffd\U000e0000-\U000e0fff]"
)
# A joiner shapes letters of some scripts, and emoji; next to an ASCII character it does nothing.
_USELESS_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")

_WRAPPED = re.compile(r"\n(?=[^\S\n]*[a-z])")  # a line that goes on in lower case
# A list written into one line: bullets, " * " or " -Like this".
_INLINE_BULLET = re.compile(r"[•▪■◆●►▶➤✔✓✅]|\s\*\s|\s-(?=[A-Z])")
_URL = re.compile(r"(?:https?://|(?<![\w.@])www\.)[^\s<>\"'()\[\]{}]+", re.IGNORECASE)
_URL_HOST = re.compile(r"(?:https?://)?(?:www\.)?([^/?#:]*)", re.IGNORECASE)


def plain_text(text: str) -> str:
    """Text without markup, with a line break wherever a block of the page ends.

    Tags are taken out by an HTML5 parser, scripts and styles with what they hold; entities become characters, those
    that were escaped twice too. Broken encodings are repaired (``ftfy``), the result is in Unicode's NFC: its
    compatibility forms would change meaning (5 1/2 written with one character is 51/2 in NFKC), and ftfy maps
    full-width letters and ligatures by itself. Invisible characters and control characters are dropped.

    Any input is accepted. A ``<`` right before a letter opens a tag, as it does in a browser.
    """
    if not text.isascii():
        text = text.encode("utf-8", "ignore").decode("utf-8")  # half of a surrogate pair, from a JSON escape
    if _TAG.search(text):
        text = " ".join(text.split())  # in a page, a line break is a space
    for _ in range(_ROUNDS):
        if not _MARKUP.search(text):
            break
        text = _without_markup(text)
    if not text.isascii():
        text = ftfy.fix_text(text, _FTFY)
        text = _USELESS_JOINER.sub("", text)
    return _INVISIBLE.sub("", text)


def holds_script(text: str) -> bool:
    """Whether this is JavaScript of the page that the text was taken from."""
    return _SCRIPT.search(text) is not None


def paragraphs(text: str) -> list[str]:
    """The paragraphs of :func:`plain_text` with single spaces, without empty ones; a URL is cut down to its host.

    Every line is a paragraph, but for one that goes on in lower case; so is every entry of a list inside a line.
    """
    unwrapped = _WRAPPED.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = _INLINE_BULLET.sub("\n", unwrapped).split("\n")
    shown = (" ".join(_URL.sub(_host, line).split()) for line in lines)
    return [line for line in shown if line]


def clean(text: str) -> str:
    """The paragraphs of raw text as one line; "" if there is none, or it is a script."""
    plain = plain_text(text)
    return "" if holds_script(plain) else " ".join(paragraphs(plain))


def _without_markup(text: str) -> str:
    tree = LexborHTMLParser(_BLOCK.sub("\n", text))
    tree.strip_tags(_NOT_TEXT)
    return tree.text()


def _host(match: re.Match[str]) -> str:
    """``www.acme.com`` or ``https://acme.com/a?b=c`` -> ``acme.com``; a full stop after it stays."""
    address = match[0]
    bare = address.rstrip(".,;:!?")
    found = _URL_HOST.match(bare)
    return (found[1] if found else "") + address[len(bare) :]
