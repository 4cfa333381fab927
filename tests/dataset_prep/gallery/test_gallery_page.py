"""The page: what it holds, what it never holds, how large it gets."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selectolax.lexbor import LexborHTMLParser, LexborNode

from dataset_prep.gallery import page as gallery
from dataset_prep.gallery.page import write_gallery
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore

# Item -> sentences, and the words of each picture. D has no text, E no picture, F neither.
ITEMS: dict[str, tuple[list[str], list[list[str]]]] = {
    "A": (["Oat energy bar", "Category: Snacks"], [["oats", "grain"], ["adventure", "energy"]]),
    "B": (["Green tea", "Brand: Leaf & Co", "Twenty bags."], [["tea", "leaf"]]),
    "C": (["Dish soap"], [["bottle", "lemon"]]),
    "D": ([], [["box"]]),
    "E": (["Paper towels"], []),
    "F": ([], []),
}
RUN = "document.title='it ran'"
HOSTILE = [f"<script>{RUN}</script>", f"</script><script>{RUN}</script>", f'</style><img src=x onerror="{RUN}">',
           f'" autofocus onfocus="{RUN}" x="', f"--><svg onload={RUN}>", "{{ 7 * 7 }} {% raw %}", "&lt;script&gt;",
           "\u202eturned\u202c", "עברית", "W" * 3000, "half a pair \ud800, a null \x00, \x1b[31m"]  # fmt: skip


def write_inter(layout: Layout, items: list[str]) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"u{number % 3}\t{item}\t{number}\n" for number, item in enumerate(items))
    layout.interactions.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + lines, encoding="utf-8")


def write_picture(layout: Layout, name: str) -> str:
    noise = np.random.default_rng(ord(name[0])).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    layout.picture_files.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(layout.picture_files / f"{name}.png")
    return f"{name}.png"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A folder with every file that the steps make."""
    layout = Layout.of(tmp_path / "dataset" / "Pantry")
    write_inter(layout, list("AAAABBBCCDEF"))
    write_records(layout.sentences, ({"item_id": item, "sentences": text} for item, (text, _) in ITEMS.items()))
    write_records(layout.keywords, ({"item_id": item, "keywords": words} for item, (_, words) in ITEMS.items()))
    files = {item: [write_picture(layout, f"{item}{i}") for i in range(len(ITEMS[item][1]))] for item in ITEMS}
    write_records(layout.pictures, ({"item_id": item, "pictures": names} for item, names in files.items()))
    for place, modality in enumerate(("text", "image")):
        rows = [np.ones((len(entry[place]), 4), np.float32) for entry in ITEMS.values()]
        FeatureStore.write(layout.features(modality), list(ITEMS), rows, encoder="tiny-bert", revision="r1")
    return layout


def parsed(path: Path) -> LexborHTMLParser:
    return LexborHTMLParser(path.read_text(encoding="utf-8"))


def cards(page: LexborHTMLParser) -> dict[str, LexborNode]:
    return {card.css_first("h2").text(): card for card in page.css(".item")}


def texts(node: LexborNode, selector: str) -> list[str]:
    return [found.text() for found in node.css(selector)]


def test_every_item_stands_with_its_sentences_and_the_words_beneath_each_picture(layout: Layout) -> None:
    path, figures = write_gallery(layout, thumbnail=60)
    assert path == layout.root / "gallery.html"
    assert figures == {"items": 6, "added": 0, "left_out": 0, "pictures": 5, "unreadable_pictures": {},
                       "bytes": path.stat().st_size}  # fmt: skip
    shown = cards(parsed(path))
    assert set(shown) == set(ITEMS)
    for item, (sentences, words) in ITEMS.items():
        assert texts(shown[item], "ol li") == sentences
        captions = shown[item].css("figcaption")
        assert [texts(caption, "bdi") for caption in captions] == words
    for picture in parsed(path).css("img"):
        with Image.open(io.BytesIO(base64.b64decode(picture.attributes["src"].partition(",")[2]))) as image:
            assert image.size == (60, 40) == (int(picture.attributes["width"]), int(picture.attributes["height"]))
        assert re.fullmatch(r"Picture \d of item \w", picture.attributes["alt"])
    assert {item: shown[item].attributes["data-missing"] for item in "ADEF"} == {
        "A": "", "D": "text", "E": "image", "F": "text image"}  # fmt: skip
    assert "4 interactions" in shown["A"].text()
    assert "No picture" in shown["F"].text()
    assert "Vectors: text 2, image 2" in shown["A"].text()


def test_the_head_has_the_figures_of_the_whole_data_set_and_how_the_sample_was_drawn(layout: Layout) -> None:
    page = parsed(write_gallery(layout, max_items=2)[0])
    assert "tiny-bert" in page.css_first("pre").text()
    assert "Table I" in page.css_first("pre").text() or "table I" in page.css_first("pre").text()
    assert re.search(r"[12] of 6 items, drawn at random \(seed 0\)", page.body.text())
    first, second, other = (write_gallery(layout, max_items=3, seed=seed)[0].read_bytes() for seed in (5, 5, 6))
    assert first == second != other


@pytest.mark.parametrize("out", ["", ".", "page"])
def test_a_page_that_cannot_be_a_file_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page").mkdir()
    with pytest.raises(UserError, match=f"--out '{out}' is not a file to write"):
        write_gallery(Layout.of("nothing"), out=out)


def test_hostile_text_stays_text_and_nothing_is_asked_of_any_server(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "<img src=x onerror=document.title='it ran'>")
    tokens = [f"{n}{text}" for n, text in enumerate(HOSTILE) if not re.search("[\ud800\x00]", text)]
    write_inter(layout, tokens)
    hostile = [{"item_id": token, "sentences": HOSTILE, "keywords": [HOSTILE]} for token in tokens]
    for path in (layout.sentences, layout.keywords):
        path.write_text("".join(json.dumps(record) + "\n" for record in hostile), encoding="ascii")
    layout.features("image").mkdir(parents=True)  # not a store: named among the problems
    target = tmp_path / "page.html"
    write_gallery(layout, out=target)
    page = parsed(target)
    assert [len(page.css(tag)) for tag in ("script", "style", "svg", "iframe", "link", "base")] == [1, 1, 0, 0, 0, 0]
    for element in page.css("*"):
        assert not any(name.startswith("on") or name == "autofocus" for name in element.attributes)
        assert element.attributes.get("src", "data:").startswith("data:")
    policy = page.css_first("meta[http-equiv]").attributes["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    text = page.body.text()
    assert f"<script>{RUN}</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800]", text)
    assert str(tmp_path) not in text


def test_what_is_not_there_or_damaged_is_said_and_the_rest_is_shown(layout: Layout, tmp_path: Path) -> None:
    layout.sentences.write_text('{"item_id": "A", "sentences": ["x"]}\n{"item_id": \n')
    text = parsed(write_gallery(layout)[0]).body.text()
    assert "text.jsonl:2: " in text
    assert str(layout.root) not in text
    assert "oats" in text
    partly = Layout.of(tmp_path / "partly")
    write_records(partly.keywords, [{"item_id": "A", "keywords": [["oats"], []]}])
    page = parsed(write_gallery(partly)[0])
    assert [caption.split() for caption in texts(page.root, "figcaption")] == [["oats"], ["No", "words"]]
    assert "partly.inter" in page.body.text()
    assert cards(page)["A"].attributes["data-missing"] == ""  # nothing tells whether the item has text


def test_the_page_keeps_its_limits_and_says_what_it_left_out(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    much = [f"{'x' * 5000} {i}" for i in range(2)] + [f"Sentence {i}" for i in range(500)]
    write_records(layout.sentences, [{"item_id": item, "sentences": much} for item in "ABCDEF"])
    write_records(layout.keywords, [{"item_id": "A", "keywords": [[f"word{i}" for i in range(900)]] * 30}])
    path, figures = write_gallery(layout)
    text = path.read_text(encoding="utf-8")
    assert figures["bytes"] < 200_000
    for phrase in ("and 492 more sentences", "(5,002 characters)", "and 850 more", "and 20 more pictures"):
        assert phrase in text
    monkeypatch.setattr(gallery, "MAX_BYTES", 40_000)
    path, figures = write_gallery(layout)
    assert 1 <= figures["items"] < 6
    assert figures["left_out"] == 6 - figures["items"]
    assert f"the last {figures['left_out']} items of the sample are left out" in path.read_text(encoding="utf-8")


def test_pictures_that_cannot_be_shown_are_counted_and_nothing_outside_the_folder_is_read(layout: Layout) -> None:
    (layout.root / "private.png").write_bytes(next(layout.picture_files.rglob("*.png")).read_bytes())
    (layout.picture_files / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    os.mkfifo(layout.picture_files / "pipe.jpg")
    (layout.picture_files / "loop.jpg").symlink_to("loop.jpg")
    (layout.picture_files / "link.jpg").symlink_to("../../private.png")
    names = ["../../private.png", "link.jpg", str(layout.root / "private.png"), "cut.jpg", "gone.jpg", "no\0file", "."]
    write_records(layout.pictures, [{"item_id": "A", "pictures": [*names, "pipe.jpg", "loop.jpg"]}])
    path, figures = write_gallery(layout)
    assert figures["pictures"] == 0
    assert sum(figures["unreadable_pictures"].values()) == 9
    assert figures["unreadable_pictures"]["outside the folder of pictures"] == 3
    assert cards(parsed(path))["A"].text().count("This picture cannot be shown") == 9
    for thumbnail in (0, 20_000):
        with pytest.raises(UserError, match=f"thumbnail is {thumbnail} pixels"):
            write_gallery(layout, thumbnail=thumbnail)


_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(_CHROMIUM is None, reason="no browser: neither chromium nor google-chrome is installed")
@pytest.mark.parametrize(("asked", "found"), [("q=TEA+bags", "1"), ("missing=image", "2"), ("q=box&missing=text", "1")])
def test_the_address_filters_by_word_and_by_what_is_missing(layout: Layout, asked: str, found: str) -> None:
    path, _ = write_gallery(layout)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    command = [str(_CHROMIUM), *flags, f"--user-data-dir={layout.root / 'profile'}", f"{path.as_uri()}#{asked}"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    page = LexborHTMLParser(done.stdout.decode())
    assert page.css_first("#status").text() == f"{found} of 6 items"
    assert len(page.css(".item:not([hidden])")) == int(found)
