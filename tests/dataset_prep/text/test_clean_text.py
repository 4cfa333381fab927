"""Raw product text -> plain paragraphs."""

from __future__ import annotations

import random
import re
import time

import pytest

from dataset_prep.readers.items import Item, strings
from dataset_prep.text.boilerplate import is_boilerplate, without_heading
from dataset_prep.text.clean import clean, holds_script, paragraphs, plain_text
from dataset_prep.text.sentences import sentences_of


def cleaned(text: str) -> list[str]:
    return paragraphs(plain_text(text))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('<span class="a-size">\n      No expiration,\n      no fees.\n </span>', ["No expiration, no fees."]),
        ("<b>W</b>ord and <i>more</i>", ["Word and more"]),
        ("One<br/>Two<P>Three</P><ul><li>Four<li>Five</ul>", ["One", "Two", "Three", "Four", "Five"]),
        ("before <a href=\"http://x.org/a>b\" title='c>d'>link</a> after", ["before link after"]),
        ("a<style>p > a { color: red }</style>b<script>if (a < b) { alert('<b>') }</script>c", ["abc"]),
        ("kept <!-- dropped --> kept", ["kept kept"]),
        ("</span></span></span>", []),
        ("a<style>never closed { } ", ["a"]),
        ("cut off <a href='http://x.org", ["cut off"]),
        ("5 < 6, 7 > 2 and I <3 it", ["5 < 6, 7 > 2 and I <3 it"]),
        ("<![CDATA[x]]><?php echo 1 ?><!DOCTYPE html><p>text</p>", ["text"]),
        ("<head><title>page</title></head><body>text", ["text"]),
    ],
)
def test_markup_goes_and_the_words_stay(raw: str, expected: list[str]) -> None:
    assert cleaned(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Men&#39;s &amp; Women&rsquo;s", "Men's & Women's"),
        ("Men&amp;#39;s &amp;amp; Women", "Men's & Women"),
        ("&lt;b&gt;bold&lt;/b&gt; &amp;lt;i&amp;gt;slanted&amp;lt;/i&amp;gt;", "bold slanted"),
        ("caf&eacute;&nbsp;au&#160;lait &#x2019;", "café au lait '"),
        ("AT&T, R&D; &zz; &", "AT&T, R&D; &zz; &"),
        ("&#0;&#55296;&#1114112;ok", "ok"),
    ],
)
def test_entities_become_characters_even_when_escaped_twice(raw: str, expected: str) -> None:
    assert cleaned(raw) == [expected]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\x00b\x07c\x7f\x1b", "abc"),
        ("zero\u200bwidth soft\u00adhyphen \u202eturned\u202c \ufeffmark", "zerowidth softhyphen turned mark"),
        ("half \ud83d of a pair", "half of a pair"),
        ("donâ€™t, CafÃ©", "don't, Café"),  # UTF-8 that was read as Windows-1252
        ("e\u0301te\u0301", "été"),
        ("ＦＵＬＬ ﬁne", "FULL fine"),
        ("5½ in. m² ™", "5½ in. m² ™"),  # NFKC would make 51⁄2 of the first
        ("می\u200cخواهم \u200cplain\u200d", "می\u200cخواهم plain"),  # a joiner that shapes letters stays
        (" many\t \u00a0\u3000spaces  ", "many spaces"),
    ],
)
def test_invisible_and_broken_characters_are_fixed(raw: str, expected: str) -> None:
    assert cleaned(raw) == [expected]


def test_lines_are_paragraphs_but_a_wrapped_line_is_joined() -> None:
    assert cleaned("First line\r\nSecond line goes\r\n  on here\n\n\nThird") == [
        "First line",
        "Second line goes on here",
        "Third",
    ]


def test_a_list_written_into_one_line_is_taken_apart() -> None:
    assert cleaned("• Soft • Warm ✔ Light") == ["Soft", "Warm", "Light"]
    assert cleaned("Sold in: * Alaska * Ohio") == ["Sold in:", "Alaska", "Ohio"]
    assert cleaned("Tour -Top rated -Small groups, one-on-one, 5 - 6 people") == [
        "Tour",
        "Top rated",
        "Small groups, one-on-one, 5 - 6 people",
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("For locations, visit www.landrysinc.com.", "For locations, visit landrysinc.com."),
        ("See https://user.acme.com:8080/a/b?c=d#e, now", "See user.acme.com, now"),
        ("(HTTP://WWW.ACME.COM/X)", "(ACME.COM)"),
        ("mail me@www.acme.com", "mail me@www.acme.com"),
    ],
)
def test_urls_are_cut_down_to_their_host(raw: str, expected: str) -> None:
    assert cleaned(raw) == [expected]


def test_leaked_scripts_are_recognised_and_products_are_not() -> None:
    leaked = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();\nwindow.ue_ihb = 1"
    assert holds_script(leaked)
    assert clean(leaked) == ""
    assert clean(" A <b>mug</b><p>of tin ") == "A mug of tin"
    assert holds_script("x (function(a) { return a })")
    for title in (
        "JavaScript: The Good Parts",
        "Function (of time) {1st ed.}",
        "Var Prestige = 1 bottle",
        "Windows 10",
    ):
        assert not holds_script(title)


NONSENSE = {
    "markup": ["<", "</", "<a ", "<!--", "<![", "<div>", "<script>", '<a b="', "&", "&#", "&lt;"],
    "characters": ["\u200d\u4e00", "\u200c", "\x1b[", "Ã©", "• ", " -A", "\n ", "a.b ", "- "],
    "words": ["www.", "http://", "function ", "function(", "var a", "statements ", "A. ", "Features: "],
}


@pytest.mark.parametrize("unit", [unit for units in NONSENSE.values() for unit in units], ids=ascii)
def test_a_megabyte_of_nonsense_takes_well_under_a_second(unit: str) -> None:
    text = (unit * 2**20)[: 2**20]
    start = time.process_time()
    sentences_of(Item("1", title="t", description=strings({"description": text}, "description")))
    assert time.process_time() - start < 1.0  # 0.25 s at worst; a quadratic expression would take minutes


def test_no_text_whatever_makes_it_fail_and_its_result_is_always_plain() -> None:
    rng = random.Random(7)
    pieces = [unit for units in NONSENSE.values() for unit in units]
    pieces += [
        "</p>",
        "<frameset>",
        "<plaintext>",
        "<template>",
        "<svg>",
        "<table>",
        "<select>",
        "-->",
        "]]>",
        ">",
        '"',
    ]
    pieces += ["\ud800", "\udc00", "\0", "\r", "\u2028", "&#xD800;", "&nbsp;", "word ", "Ünï ", "\ufffd", "\U0001f600"]
    for _ in range(1000):
        for paragraph in cleaned("".join(rng.choices(pieces, k=rng.randint(1, 40)))):
            assert paragraph == " ".join(paragraph.split()) != ""
            assert paragraph.encode("utf-8")
            assert not re.search(r"[\x00-\x1f\x7f\u200b\ufeff]", paragraph)


@pytest.mark.parametrize(
    "sentence",
    [
        "Statements regarding dietary supplements have not been evaluated by the FDA and are not intended to diagnose,"
        " treat, cure, or prevent any disease or health condition.",
        "*These statements have not been evaluated by the Food and Drug Administration.",
        "This product is not intended to diagnose, treat, cure or prevent any disease.",
        "See more product details",
        "Product Description",
        "PRODUCT FEATURES:",
        "› See more product details",
        "Make sure this fits by entering your model number.",
        "Shipping Weight: 0.8 ounces (View shipping rates and policies)",
        "ASIN: B00BXOFI1I",
        "Date first listed on Amazon: March 20, 2013",
    ],
)
def test_boilerplate_is_recognised(sentence: str) -> None:
    assert is_boilerplate(sentence)


@pytest.mark.parametrize(
    "sentence", ["Features a wide brim.", "Product description on the back.", "Ships in 2 days.", "The FDA likes tea."]
)
def test_sentences_about_the_product_are_not_boilerplate(sentence: str) -> None:
    assert not is_boilerplate(sentence)


def test_a_heading_in_front_of_a_paragraph_goes() -> None:
    assert without_heading("PRODUCT DESCRIPTION: A tour.") == "A tour."
    assert without_heading("Features a wide brim: nice.") == "Features a wide brim: nice."
