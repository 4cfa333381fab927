"""The page in headless Chromium: it filters, it is legible at two widths, and hostile text stays text."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from headless_chromium import needs_chromium, open_page, take_screenshot
from html_reader import Element, by_id, read_html
from PIL import Image
from small_data_set import finish_step, small_data_set, write_interactions, write_picture, write_raw_records

from dataset_prep.gallery.write import write_gallery
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.data.feature_store import FeatureStore

pytestmark = needs_chromium

_ROOT = Path(__file__).resolve().parents[3]
_REAL_DATA = [Path(os.environ.get("MSM4SR_REAL_DATA", _ROOT / "shared" / "data")), _ROOT.parent / "shared" / "data"]
ML_100K = next((folder / "ml-100k" for folder in _REAL_DATA if folder.is_dir()), _REAL_DATA[0] / "ml-100k")

RUN = "document.title='it ran'"
HOSTILE = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f'</style><img src=x onerror="{RUN}">',
    f'" autofocus onfocus="{RUN}" x="',
    f"' onmouseover='{RUN}'",
    f"--><svg onload={RUN}>",
    f"</li></ul></main><iframe srcdoc='<script>top.{RUN}</script>'>",
    f"{{{{ ''.__class__ }}}} {{% raw %}} javascript:{RUN}",
    "&lt;script&gt; &amp;amp; &#60;",
    "\u202eleft to right and back\u202c \u2067",
    "עברית ועוד",
    "W" * 3000,
    "half a pair \ud800, a null \x00, an escape \x1b[31m",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 e\u0301 🎁",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = small_data_set(tmp_path_factory.mktemp("gallery") / "Pantry")
    return write_gallery(layout)[0]


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile text wherever a data set has text: items, sentences, words, encoder, reasons, files, its own name."""
    folder = tmp_path_factory.mktemp("gallery")
    layout = Layout.of(folder / "<img src=x onerror=document.title='it ran'>")
    items = [text for text in HOSTILE if not re.search(r"[\ud800\x00]", text)]
    tokens = [f"{number}{item}" for number, item in enumerate(items)]
    write_interactions(layout, dict.fromkeys([*tokens, "plain"], 1))
    hostile = [{"item_id": token, "sentences": HOSTILE, "keywords": [HOSTILE]} for token in tokens]
    write_raw_records(layout.sentences, [*hostile, {"item_id": "plain", "sentences": ["Green tea"]}])
    write_raw_records(layout.keywords, hostile)
    names = [write_picture(layout, "x"), *HOSTILE]
    write_raw_records(layout.pictures, [{"item_id": tokens[0], "pictures": names}])
    FeatureStore.write(layout.features("text"), ["plain"], [np.ones((1, 2))], encoder=HOSTILE[1], revision=HOSTILE[3])
    layout.prep.mkdir(exist_ok=True)
    finish_step(layout, "text", {HOSTILE[0]: {"by_reason": {text: 1 for text in HOSTILE if "\ud800" not in text}}})
    layout.features("image").mkdir(parents=True)  # no store: named among the problems
    return write_gallery(layout, out=folder / "hostile.html")[0]


def shown_items(elements: list[Element]) -> set[str]:
    """The headings of the items that the filter let through."""
    return {
        element.text
        for element in elements
        if element.tag == "h3"
        and any(e.attributes.get("class") == "item" and "hidden" not in e.attributes for e in element.inside)
    }


def counts(elements: list[Element]) -> list[str]:
    return [by_id(elements, f"missing-{name}-count").text for name in ("all", "text", "image")]


def test_the_address_filters_by_word_and_by_what_is_missing(page: Path) -> None:
    for fragment, items, numbers, status in (
        ("#q=TEA+bags", {"B"}, ["1", "0", "0"], "1 of 6 items"),
        ("#missing=image", {"E", "F"}, ["6", "2", "2"], "2 of 6 items"),
        ("#q=box&missing=text", {"D"}, ["1", "1", "0"], "1 of 6 items"),
    ):
        document, console = open_page(page, fragment=fragment)
        elements = read_html(document)
        assert shown_items(elements) == items
        assert counts(elements) == numbers
        assert by_id(elements, "status").text == status
        assert "hidden" in by_id(elements, "nothing").attributes
        assert console == []


def probed(page: Path, target: Path, script: str, width: int) -> tuple[dict[str, object], list[str]]:
    """What ``script``, an async function's body, finds out in a frame of a width; the frame's page has no policy."""
    text = page.read_text(encoding="utf-8")
    bare = re.sub(r"<meta http-equiv=[^>]*>", "", text)
    assert bare != text
    asker = (
        f"<script>(async () => {{ {script} }})().then(found => parent.postMessage(JSON.stringify(found), '*'))</script>"
    )
    framed = target / "framed.html"
    framed.write_text(bare.replace("</body>", f"{asker}</body>"), encoding="utf-8")
    host = target / "host.html"
    host.write_text(
        "<body><p id=found></p><script>onmessage = event => document.getElementById('found').textContent = event.data"
        f"</script><iframe src=framed.html style='width:{width}px;height:800px'></iframe></body>"
    )
    document, console = open_page(host)
    found = re.search(r'<p id="found">(.*?)</p>', document, re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found[1])), console


USE = """
  const seen = {};
  const wait = () => new Promise(done => setTimeout(done, 20));
  const say = name => seen[name] = document.getElementById("status").textContent + " " + location.hash;
  const query = document.getElementById("query");
  query.focus();
  query.value = "tea "; query.dispatchEvent(new Event("input", {bubbles: true})); say("typed");
  seen.marked = CSS.highlights.get("match").size;
  document.getElementById("missing-image").click(); say("chosen");
  document.querySelector("button[type=reset]").click(); await wait(); say("cleared");
  location.hash = "#q=soap"; await wait(); say("linked"); seen.query = query.value;
  location.hash = "#q=no+such&missing=else"; await wait(); say("nothing");
  seen.nothing_is_said = !document.getElementById("nothing").hidden;
  query.form.requestSubmit(); await wait(); say("entered");
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  seen.width = innerWidth;
  seen.reached = [...document.querySelectorAll("a, input, button, summary, [tabindex]")].every(e => e.tabIndex >= 0);
  console.error("the console is seen");
  return seen;
"""


def test_typing_choosing_clearing_and_linking_work_on_a_narrow_page(page: Path, tmp_path: Path) -> None:
    found, console = probed(page, tmp_path, USE, width=340)
    assert found == {
        "typed": "1 of 6 items #q=tea",
        "marked": 2,
        "chosen": "0 of 6 items #q=tea&missing=image",
        "cleared": "6 of 6 items ",
        "linked": "1 of 6 items #q=soap",
        "query": "soap",
        "nothing": "0 of 6 items #q=no+such&missing=else",
        "nothing_is_said": True,
        "entered": "0 of 6 items #q=no+such&missing=else",
        "overflow": 0,
        "width": 340,
        "reached": True,
    }
    assert len(console) == 1  # what the probe wrote: a page's own message would be seen as well
    assert "the console is seen" in console[0]


def test_hostile_text_is_shown_and_never_run(hostile_page: Path) -> None:
    document, console = open_page(hostile_page, fragment="#q=green")
    assert console == []  # what the policy keeps from running is reported there
    elements = read_html(document)
    assert [e.text for e in elements if e.tag == "title"] == ["<img src=x onerror=document.title='it ran'>: gallery"]
    assert [e.tag for e in elements if e.tag in ("script", "iframe", "svg", "style")].count("script") == 1
    assert not [name for e in elements for name in e.attributes if name.startswith("on") or name == "autofocus"]
    assert all(e.attributes["src"].startswith("data:image/webp") for e in elements if e.tag == "img")
    assert shown_items(elements) == {"plain"}
    sentences = {e.text for e in elements if e.tag == "li" and "data-find" in e.attributes}
    assert {text for text in HOSTILE[:9]} <= sentences


def test_hostile_text_does_nothing_where_no_policy_holds_it_back(hostile_page: Path, tmp_path: Path) -> None:
    script = """
      const query = document.getElementById("query");
      query.value = "document.title"; query.dispatchEvent(new Event("input", {bubbles: true}));
      await new Promise(done => setTimeout(done, 50));
      return {
        title: document.title, scripts: document.scripts.length, frames: frames.length,
        status: document.getElementById("status").textContent,
        overflow: document.documentElement.scrollWidth - innerWidth,
      };
    """
    found, console = probed(hostile_page, tmp_path, script, width=360)
    assert found == {
        "title": "<img src=x onerror=document.title='it ran'>: gallery",
        "scripts": 2,  # its own and the probe
        "frames": 0,
        "status": "13 of 14 items",
        "overflow": 0,  # a word of 3,000 letters is broken
    }
    assert console == []


def test_a_mark_that_turns_the_direction_of_text_turns_nothing_else(hostile_page: Path) -> None:
    elements = read_html(hostile_page.read_text(encoding="utf-8"))
    for element in elements:
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", element.text)
        if "data-find" in element.attributes:
            assert element.tag == "bdi" or element.attributes.get("dir") == "auto"


@pytest.mark.parametrize(("width", "scheme"), [(500, "dark"), (1280, "light")])
def test_a_screenshot_shows_something_in_the_scheme_that_is_asked_for(
    page: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    target = tmp_path / "page.png"
    flags = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    console = take_screenshot(page, target, *flags, width=width, height=1400)
    assert console == []
    with Image.open(target) as image:
        pixels = np.asarray(image.convert("L"), dtype=np.float64)  # [height, width]
    assert pixels.shape[1] == width
    assert pixels.std() > 10
    assert (np.median(pixels) < 60) == (scheme == "dark")
    assert len(np.unique(pixels[pixels.shape[0] // 2 :])) > 50  # pictures, not text alone


@pytest.mark.skipif(not ML_100K.is_dir(), reason=f"needs the real data in {ML_100K}")
def test_real_films_with_their_posters_fill_a_page(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "films")
    layout.root.mkdir()
    films = [json.loads(line) for line in (ML_100K / "text.jsonl").read_text(encoding="utf-8").splitlines()[:300]]
    write_records(layout.sentences, ({"item_id": film["item_id"], "sentences": [film["title"]]} for film in films))
    layout.keywords.write_bytes((ML_100K / "image_keywords.jsonl").read_bytes())
    layout.picture_files.mkdir(parents=True)
    posters = [ML_100K / "posters" / f"{film['item_id']}.jpg" for film in films]
    for poster in posters:
        if poster.is_file():
            (layout.picture_files / poster.name).write_bytes(poster.read_bytes())
    write_records(
        layout.pictures,
        ({"item_id": poster.stem, "pictures": [poster.name] if poster.is_file() else []} for poster in posters),
    )
    write_interactions(layout, {film["item_id"]: 1 for film in films})
    path, figures = write_gallery(layout, max_items=100)
    assert figures["items"] == 100
    assert figures["pictures"] > 80
    assert figures["unreadable_pictures"] == {}
    document, console = open_page(path, fragment="#missing=image")
    elements = read_html(document)
    assert console == []
    assert len(shown_items(elements)) == 100 - figures["pictures"]
    assert by_id(elements, "status").text == f"{100 - figures['pictures']} of 100 items"
