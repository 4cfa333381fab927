"""Pictures of a data set -> ``image_keywords.jsonl``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchrun import ENVIRONMENT, torchrun

from dataset_prep.demo.catalogue import Item, dictionary
from dataset_prep.demo.pictures import draw
from dataset_prep.encode import picture_words
from dataset_prep.encode.dictionary import dictionary_digest
from dataset_prep.encode.picture_encoder import Clip
from dataset_prep.encode.picture_rows import read_pictures
from dataset_prep.encode.picture_words import describe_pictures, nearest_words
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import read_image_keywords
from recbole_msm4sr.core.errors import UserError

POSTERS = Path(__file__).parents[3].parent / "shared" / "data" / "ml-100k" / "posters"
WORDS = dictionary()
# Runs the step as a process of its own, which kills itself when it is to decode a picture of that number.
SCRIPT = """
import os, signal, sys
from dataset_prep.demo.catalogue import dictionary
from dataset_prep.encode.picture_encoder import Clip
from dataset_prep.encode.picture_words import describe_pictures
from dataset_prep.layout import Layout

kill_at, read, pixels = int(sys.argv[3]), [], Clip.pixels

def pixels_or_die(self, picture):
    if len(read) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    read.append(picture)
    return pixels(self, picture)

Clip.pixels = pixels_or_die
describe_pictures(Layout.of(sys.argv[1]), Clip(sys.argv[2], "cpu"), words=dictionary(), top_n=6, batch_size=2,
                  workers=1, shard_size=4)
"""


def _describe(layout: Layout, clip: Path, **settings: object) -> dict[str, object]:
    options = {"words": WORDS, "top_n": 6, "batch_size": 2, "workers": 1, "shard_size": 4}
    return describe_pictures(layout, Clip(str(clip), "cpu"), **(options | settings))  # type: ignore[arg-type]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pictures that CLIP has been given, batch by batch."""
    batches: list[int] = []
    encode = Clip.encode

    def counting(self: Clip, pixels: np.ndarray) -> torch.Tensor:
        batches.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Clip, "encode", counting)
    return batches


def test_words_are_those_of_highest_cosine_best_first(drawn_layout: Layout, trained_clip: Path) -> None:
    """One picture and one word at a time, by the model's own similarity."""
    _describe(drawn_layout, trained_clip)
    found = read_image_keywords(drawn_layout.keywords)
    clip = Clip(str(trained_clip), "cpu")
    described = [(file, found[item][n]) for item, files in read_pictures(drawn_layout) for n, file in enumerate(files)]
    with torch.inference_mode():
        for file, words in described[:3]:
            with Image.open(drawn_layout.picture_files / file) as picture:
                pixels = clip.processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
            similarity = {}
            for word in WORDS:
                tokens = clip.tokenizer(word, return_tensors="pt")
                output = clip.model(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
                )
                similarity[word] = float(output.image_embeds[0] @ output.text_embeds[0])
            best = sorted(similarity.values(), reverse=True)[:6]
            np.testing.assert_allclose([similarity[word] for word in words], best, atol=1e-5)


def test_every_picture_gets_its_nearest_words_and_they_are_mostly_true(
    drawn_layout: Layout, drawn_items: list[Item], trained_clip: Path
) -> None:
    figures = _describe(drawn_layout, trained_clip)
    found = read_image_keywords(drawn_layout.keywords)
    pictures = dict(read_pictures(drawn_layout))
    assert list(found) == list(pictures), "items keep their order"
    assert {item: len(words) for item, words in found.items()} == {item: len(files) for item, files in pictures.items()}
    true = [len(set(found[item.token][0]) & item.visual_words()) for item in drawn_items if found[item.token]]
    assert np.mean(true) > 2.5, "by chance it is 0.6 of 6"
    assert not drawn_layout.shards("words").exists()
    assert not drawn_layout.shards("dictionary").exists()
    assert (figures["items"], figures["items_without_words"]) == (22, 2)


def test_equal_pictures_are_scored_once(drawn_layout: Layout, trained_clip: Path, scored: list[int]) -> None:
    figures = _describe(drawn_layout, trained_clip)
    assert figures["pictures"] == sum(len(files) for _, files in read_pictures(drawn_layout)) == 25
    assert figures["distinct_pictures"] == sum(scored) == 23
    found = read_image_keywords(drawn_layout.keywords)
    assert found["same"] == [found["P0001"][0]] == [found["P0002"][1]]


def test_figures_say_how_much_the_commonest_words_are(drawn_layout: Layout, trained_clip: Path) -> None:
    figures = _describe(drawn_layout, trained_clip)
    found = read_image_keywords(drawn_layout.keywords)
    of_file = {
        name: words
        for item, files in read_pictures(drawn_layout)
        for name, words in zip(files, found[item], strict=True)
    }
    counts = Counter(word for words in of_file.values() for word in words)
    assert figures["words_used"] == len(counts)
    top = sorted(counts.items(), key=lambda pair: (-pair[1], WORDS.index(pair[0])))[:20]
    assert figures["top_words"] == [list(pair) for pair in top]
    assert figures["top_words_share"] == pytest.approx(sum(count for _, count in top) / (23 * 6), abs=1e-4)
    assert figures["dictionary_sha256"] == dictionary_digest(WORDS)
    assert (figures["dictionary_words"], figures["clip"]) == (len(WORDS), "clip")
    assert str(figures["clip_revision"]).startswith("sha256:")


def test_a_killed_run_goes_on_where_it_stopped(drawn_layout: Layout, trained_clip: Path, scored: list[int]) -> None:
    whole = _describe(drawn_layout, trained_clip)
    expected = drawn_layout.keywords.read_bytes()
    drawn_layout.keywords.unlink()
    scored.clear()
    Path("step.py").write_text(SCRIPT)
    command = [sys.executable, "step.py", str(drawn_layout.root), str(trained_clip), "13"]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=False)
    assert done.returncode == -9
    assert not drawn_layout.keywords.exists()
    assert _describe(drawn_layout, trained_clip) == whole
    assert drawn_layout.keywords.read_bytes() == expected
    assert sum(scored) == 23 - 12, "three shards of four were done"


def test_two_processes_write_the_same_bytes(drawn_layout: Layout, trained_clip: Path) -> None:
    _describe(drawn_layout, trained_clip)
    expected = drawn_layout.keywords.read_bytes()
    drawn_layout.keywords.unlink()
    Path("step.py").write_text(SCRIPT)
    done = torchrun("step.py", str(drawn_layout.root), str(trained_clip), "-1")
    assert done.returncode == 0, done.stderr
    assert drawn_layout.keywords.read_bytes() == expected
    assert not list(drawn_layout.prep.rglob("*.npy"))


@pytest.mark.parametrize(("words", "scored_again"), [(WORDS, 0), ([*WORDS, "chequers"], 23)])
def test_finished_shards_are_used_again_unless_settings_have_changed(
    drawn_layout: Layout,
    trained_clip: Path,
    scored: list[int],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    scored_again: int,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(picture_words, "write_records", full)
        with pytest.raises(OSError, match="No space left"):
            _describe(drawn_layout, trained_clip)
    assert not drawn_layout.keywords.exists()
    scored.clear()
    _describe(drawn_layout, trained_clip, words=words)
    assert sum(scored) == scored_again


def test_an_undecodable_picture_is_counted_and_leaves_an_empty_list(
    make_layout: Callable[..., Layout], drawn_items: list[Item], trained_clip: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    draw(drawn_items[2], rng).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    layout = make_layout(
        {
            "A": [draw(drawn_items[0], rng), whole[: len(whole) // 2], draw(drawn_items[1], rng)],
            "B": [b"<html>404</html>"],
            "C": [draw(drawn_items[3], rng)],
        }
    )
    pictures = dict(read_pictures(layout))
    (layout.picture_files / pictures["C"][0]).unlink()
    figures = _describe(layout, trained_clip)
    found = read_image_keywords(layout.keywords)
    assert [len(words) for words in found["A"]] == [6, 0, 6], "the l-th list is the l-th picture's"
    assert (found["B"], found["C"]) == ([[]], [[]])
    undecodable = figures["undecodable"]
    assert isinstance(undecodable, dict)
    assert undecodable["total"] == 3
    assert pictures["B"][0] in str(undecodable["examples"])
    assert figures["items_without_words"] == 2


def test_nothing_but_damaged_pictures_is_an_error_and_the_next_run_tries_again(
    make_layout: Callable[..., Layout], drawn_items: list[Item], trained_clip: Path
) -> None:
    layout = make_layout({"A": [draw(drawn_items[0], np.random.default_rng(0))]})
    (name,) = dict(read_pictures(layout))["A"]
    content = (layout.picture_files / name).read_bytes()
    (layout.picture_files / name).write_bytes(content[:50])
    with pytest.raises(UserError, match="none of the 1 pictures"):
        _describe(layout, trained_clip)
    (layout.picture_files / name).write_bytes(content)
    _describe(layout, trained_clip)
    assert len(read_image_keywords(layout.keywords)["A"][0]) == 6


def test_of_equally_near_words_the_first_of_the_dictionary_comes_first() -> None:
    word_vectors = torch.eye(3)[[1, 0, 2, 0, 1, 0]]
    assert nearest_words(torch.eye(3)[[0, 1]], word_vectors, 4).tolist() == [[1, 3, 5, 0], [0, 4, 1, 2]]
    assert nearest_words(torch.eye(3)[[0]], word_vectors, 50).shape == (1, 6)


def test_an_empty_dictionary_is_a_clear_error(drawn_layout: Layout, trained_clip: Path) -> None:
    with pytest.raises(UserError, match="dictionary is empty"):
        _describe(drawn_layout, trained_clip, words=[])


def test_unusable_lists_of_pictures_are_clear_errors(make_layout: Callable[..., Layout], trained_clip: Path) -> None:
    layout = make_layout({"A": [], "B": []})
    with pytest.raises(UserError, match=r"no item in .* has a picture"):
        _describe(layout, trained_clip)
    layout.pictures.write_text('{"item_id": "A", "pictures": ["../../../outside.png"]}\n')
    with pytest.raises(UserError, match=r"pictures.jsonl:1: .*paths below"):
        _describe(layout, trained_clip)


def test_real_posters_go_through(make_layout: Callable[..., Layout], trained_clip: Path) -> None:
    if not POSTERS.is_dir():
        pytest.skip(f"{POSTERS} is not there: no real posters to try")
    posters = sorted(POSTERS.glob("*.jpg"))[:6]
    layout = make_layout({path.stem: [path.read_bytes()] for path in posters})
    figures = _describe(layout, trained_clip)
    assert (figures["pictures"], figures["undecodable"]) == (6, {"total": 0, "by_reason": {}, "examples": []})
    assert {len(words) for pictures in read_image_keywords(layout.keywords).values() for words in pictures} == {6}
