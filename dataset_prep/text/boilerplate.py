"""Sentences that stand on product pages of every kind and say nothing about the product."""

from __future__ import annotations

import re

# Compared without regard to case and punctuation.
_SENTENCES = frozenset(
    {
        "about this item",
        "about the product",
        "amazon com",
        "click here",
        "click here for more information",
        "description",
        "enter your model number to make sure this fits",
        "features",
        "from the manufacturer",
        "learn more",
        "make sure this fits by entering your model number",
        "make sure this fits",
        "by entering your model number",
        "product description",
        "product details",
        "product features",
        "product information",
        "read full return policy",
        "read more",
        "read the full returns policy",
        "see all product description",
        "see less",
        "see more",
        "see more product details",
        "show less",
        "show more",
        "technical details",
        "this fits your",
        "view larger",
        "view shipping rates and policies",
    }
)
# The disclaimer of dietary supplements has many wordings; these two run through them.
_DISCLAIMER = re.compile(
    r"statements? .{0,80}\bnot been (?:evaluated|approved|reviewed) by the (?:fda|us fda|u s fda|food and drug"
    r"|u s food and drug|us food and drug)\b"
    r"|not intended to diagnose treat,? cure,? (?:or|and) prevent any disease"
)
# Rows of the table of details that leaked into lists of features.
_ROW = re.compile(
    r"(?:asin|upc|ean|isbn(?:-1[03])?|item model number|manufacturer part number|shipping weight|domestic shipping"
    r"|international shipping|date first (?:listed on amazon|available(?: at amazon\.com)?)|average customer review"
    r"|customer reviews|amazon best ?sellers rank|best sellers rank)\s*:",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"(?:(?:product )?(?:description|features|details|information)|about (?:this item|the product))\s?:\s?",
    re.IGNORECASE,
)
_NOT_A_WORD = re.compile(r"[\W_]+")


def is_boilerplate(sentence: str) -> bool:
    """Whether a sentence is a heading or link of the page, a disclaimer, or a row of the table of details."""
    if _ROW.match(sentence):
        return True
    key = _NOT_A_WORD.sub(" ", sentence).strip().casefold()
    return key in _SENTENCES or _DISCLAIMER.search(key) is not None


def without_heading(paragraph: str) -> str:
    """A paragraph without the heading that was written into its line: ``Product Description: A mug.`` -> ``A mug.``"""
    return _HEADING.sub("", paragraph, count=1) if _HEADING.match(paragraph) else paragraph
