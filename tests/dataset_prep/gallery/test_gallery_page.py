"""The page without a browser: what it holds, what it never holds, how large it gets."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from html_reader import Element, by_id, read_html
from PIL import Image
from small_data_set import ITEMS, finish_step, small_data_set, write_interactions

from dataset_prep.gallery.write import write_gallery
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return small_data_set(tmp_path / "dataset" / "Pantry")


def elements_of(layout: Layout, **options: object) -> list[Element]:
    path, _ = write_gallery(layout, **options)  # type: ignore[arg-type]
    return read_html(path.read_text(encoding="utf-8"))


def cards(elements: list[Element]) -> dict[str, Element]:
    """Item -> its list entry."""
    found = [element for element in elements if element.attributes.get("class") == "item"]
    return {heading(elements, card): card for card in found}


def heading(elements: list[Element], card: Element) -> str:
    (title,) = [element for element in elements if element.tag == "h3" and card in element.inside]
    return title.text


def inside(elements: list[Element], card: Element, tag: str) -> list[Element]:
    return [element for element in elements if element.tag == tag and card in element.inside]


def test_the_page_is_written_into_the_data_set_and_figures_say_what_is_on_it(layout: Layout) -> None:
    path, figures = write_gallery(layout)
    assert path == layout.root / "gallery.html"
    assert figures == {
        "items": 6,
        "added": 0,
        "left_out": 0,
        "pictures": 5,
        "unreadable_pictures": {},
        "bytes": path.stat().st_size,
    }


def test_every_item_stands_with_its_sentences_and_the_words_beneath_each_picture(layout: Layout) -> None:
    elements = elements_of(layout)
    items = cards(elements)
    assert set(items) == set(ITEMS)
    for item, (sentences, words) in ITEMS.items():
        card = items[item]
        shown = [element.text for element in inside(elements, card, "li") if "data-find" in element.attributes]
        assert shown == sentences
        figures = inside(elements, card, "figure")
        assert [inside(elements, figure, "img")[0].attributes["src"][:23] for figure in figures] == [
            "data:image/webp;base64," for _ in words
        ]
        captions = [inside(elements, figure, "figcaption")[0] for figure in figures]
        assert [[word.text for word in inside(elements, caption, "bdi")] for caption in captions] == words
    assert items["A"].attributes["data-missing"] == ""
    assert [items[item].attributes["data-missing"] for item in "DEF"] == ["text", "image", "text image"]


def test_nothing_is_asked_of_any_server(layout: Layout) -> None:
    path, _ = write_gallery(layout)
    text = path.read_text(encoding="utf-8")
    elements = read_html(text)
    for element in elements:
        for name, value in element.attributes.items():
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                assert value.startswith(("data:image/webp;base64,", "#")), (element.tag, name)
            assert not name.startswith("on")
        assert element.tag not in ("link", "base", "iframe", "object", "embed")
    assert "http://" not in text
    assert "https://" not in text
    (style,) = [element.text for element in elements if element.tag == "style"]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_this_style_and_this_script_alone(layout: Layout) -> None:
    elements = elements_of(layout)
    (policy,) = [e.attributes["content"] for e in elements if "http-equiv" in e.attributes]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (element,) = [element for element in elements if element.tag == tag]
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_thumbnails_are_no_larger_than_asked(layout: Layout) -> None:
    elements = elements_of(layout, thumbnail=60)
    pictures = [element.attributes for element in elements if element.tag == "img"]
    assert len(pictures) == 5
    for picture in pictures:
        body = base64.b64decode(picture["src"].partition(",")[2])
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (60, 40) == (int(picture["width"]), int(picture["height"]))


def test_the_head_has_the_figures_of_the_whole_data_set(layout: Layout) -> None:
    elements = elements_of(layout, max_items=1)
    tiles = [
        e.text.split()
        for e in elements
        if e.tag == "div" and any("tiles" in i.attributes.get("class", "") for i in e.inside)
    ]
    assert tiles[0] == ["users", "3", "table", "I:", "13,614,", "-100.0", "%"]
    assert tiles[3] == ["interactions", "a", "user", "4.00", "table", "I:", "9.65,", "-58.5", "%"]
    rows = [row.text.split() for row in elements if row.tag == "tr"]
    assert rows[1:] == [
        ["sentences", "66.7", "%", "2", "7", "1.75"],
        ["pictures", "66.7", "%", "2", "5", "1.25"],
        ["words", "66.7", "%", "2", "5", "1.25"],
        ["text", "features", "66.7", "%", "2", "7", "1.75"],
        ["image", "features", "66.7", "%", "2", "5", "1.25"],
    ]
    text = "".join(element.text for element in elements if element.tag == "body")
    assert "tiny-bert, revision r1, 4 numbers a vector" in " ".join(text.split())
    assert "404 Not Found" in text
    assert "Steps done: 1" in text


def test_what_is_not_in_the_folder_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "partly")
    write_records(layout.keywords, [{"item_id": "A", "keywords": [["oats"], []]}])
    elements = elements_of(layout)
    (card,) = cards(elements).values()
    assert [caption.text.split() for caption in inside(elements, card, "figcaption")] == [["oats"], ["No", "words"]]
    assert not inside(elements, card, "img")
    text = " ".join("".join(element.text for element in elements if element.tag == "body").split())
    assert "their interactions are not known" in text
    for missing in ("partly.inter", "text.jsonl", "prep/pictures.jsonl", "features/text", "features/image"):
        assert missing in text
    assert card.attributes["data-missing"] == ""  # nothing tells whether the item has text


def test_a_folder_of_features_alone_has_a_page(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "imported")
    write_interactions(layout, {"A": 2, "B": 1})
    FeatureStore.write(layout.features("image"), ["A", "B"], [np.ones((1, 2)), np.ones((0, 2))], encoder="unknown")
    elements = elements_of(layout)
    assert {item: card.attributes["data-missing"] for item, card in cards(elements).items()} == {"A": "", "B": "image"}
    assert "image 1" in cards(elements)["A"].text


def test_an_item_lacks_a_modality_only_if_no_file_has_any_of_it(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "mixed")
    write_records(layout.pictures, [{"item_id": item, "pictures": []} for item in "ABC"])
    write_records(layout.keywords, [{"item_id": "A", "keywords": [["oats"]]}])
    FeatureStore.write(layout.features("image"), ["B"], [np.ones((1, 2))], encoder="unknown")
    items = cards(elements_of(layout))
    assert {item: card.attributes["data-missing"] for item, card in items.items()} == {"A": "", "B": "", "C": "image"}
    assert "Picture 1 is not in this folder" in items["A"].text


def test_a_damaged_file_is_named_without_the_folder_it_lies_in(layout: Layout) -> None:
    layout.sentences.write_text('{"item_id": "A", "sentences": ["x"]}\n{"item_id": \n')
    path, _ = write_gallery(layout)
    text = path.read_text(encoding="utf-8")
    assert "text.jsonl:2: is not valid JSON" in text
    assert str(layout.root) not in text
    assert "oats" in text


def test_the_page_keeps_its_size_limit_and_says_what_it_left_out(layout: Layout) -> None:
    _, whole = write_gallery(layout)
    path, figures = write_gallery(layout, max_bytes=whole["bytes"] - 1000)
    assert path.stat().st_size <= whole["bytes"] - 1000
    assert 1 <= figures["items"] < 6
    assert figures["left_out"] == 6 - figures["items"]
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert f"the last {figures['left_out']} items of the sample are left out" in text
    assert text.count('<li class="item"') == figures["items"]
    assert f"{figures['items']} of 6 items, drawn at random" in text
    with pytest.raises(UserError, match="no room for an item"):
        write_gallery(layout, max_bytes=2000)


def test_an_item_with_far_too_much_of_everything_shows_the_beginning(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "much")
    write_records(
        layout.sentences,
        [
            {
                "item_id": "A",
                "sentences": [f"{'x' * 5000} {i}" for i in range(2)] + [f"Sentence {i}" for i in range(500)],
            }
        ],
    )
    write_records(layout.keywords, [{"item_id": "A", "keywords": [[f"word{i}" for i in range(900)]] * 30}])
    path, figures = write_gallery(layout)
    text = path.read_text(encoding="utf-8")
    assert figures["bytes"] < 100_000
    assert "and 492 more" in text
    assert "x… (5,002 characters)" in text
    assert "and 850 more" in text
    assert "and 20 more" in text


def test_pictures_that_cannot_be_shown_are_counted_and_nothing_outside_the_folder_is_read(layout: Layout) -> None:
    (layout.root / "private.png").write_bytes(next(layout.picture_files.rglob("*.png")).read_bytes())
    (layout.picture_files / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    names = ["../../private.png", str(layout.root / "private.png"), "cut.jpg", "gone.jpg", "no\0file", "."]
    write_records(layout.pictures, [{"item_id": "A", "pictures": names}])
    path, figures = write_gallery(layout)
    assert figures["pictures"] == 0
    assert sum(figures["unreadable_pictures"].values()) == 6
    assert figures["unreadable_pictures"]["outside the folder of pictures"] == 2
    assert figures["unreadable_pictures"]["no such file"] == 1
    elements = read_html(path.read_text(encoding="utf-8"))
    assert cards(elements)["A"].text.count("This picture cannot be shown") == 6


def test_every_picture_and_every_control_has_a_name_for_those_who_do_not_see_it(layout: Layout) -> None:
    elements = elements_of(layout)
    assert next(e for e in elements if e.tag == "html").attributes["lang"] == "en"
    labels = {element.attributes["for"] for element in elements if element.tag == "label"}
    for element in elements:
        if element.tag == "img":
            assert re.fullmatch(r"Picture \d of item \w", element.attributes["alt"])
        if element.tag == "input":
            assert element.attributes["id"] in labels
    assert by_id(elements, "status").attributes["role"] == "status"


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(layout: Layout, scheme: int) -> None:
    """WCAG 2.2, success criterion 1.4.3: a contrast of at least 4.5 : 1."""
    (style,) = [element.text for element in elements_of(layout) if element.tag == "style"]
    colours = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in style.split("@media")[:2]][scheme]
    pairs = [("ink", "ground"), ("ink", "card"), ("soft", "ground"), ("soft", "card"), ("accent", "ground")]
    pairs += [("accent-ink", "accent"), ("word", "card"), ("gap-ink", "gap-ground"), ("match-ink", "match")]
    for front, back in pairs:
        darker, lighter = sorted((_luminance(colours[front]), _luminance(colours[back])))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_full_disk_leaves_the_earlier_page(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_gallery(layout)
    before, names = path.read_bytes(), sorted(os.listdir(layout.root))

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_gallery(layout, max_items=1)
    assert path.read_bytes() == before
    assert sorted(os.listdir(layout.root)) == names


def test_the_same_seed_writes_the_same_bytes(layout: Layout, tmp_path: Path) -> None:
    pages = [write_gallery(layout, max_items=3, seed=seed, out=tmp_path / name)[0].read_bytes() for seed, name in
             ((5, "a.html"), (5, "b.html"), (6, "c.html"))]  # fmt: skip
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


def test_more_reasons_than_fit_are_counted(layout: Layout) -> None:
    finish_step(layout, "text", {"rejected": {"total": 30, "by_reason": {f"reason {i}": 1 for i in range(30)}}})
    text = write_gallery(layout)[0].read_text(encoding="utf-8")
    assert "reason 19" in text
    assert "reason 20" not in text
    assert "and 10 more reasons" in text


def test_a_thumbnail_of_no_size_is_refused(layout: Layout) -> None:
    with pytest.raises(UserError, match="thumbnail is 0 pixels"):
        write_gallery(layout, thumbnail=0)
