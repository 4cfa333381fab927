"""A folder of the user's pictures: found, checked and stored as downloads are, and left as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dataset_prep.fetch.decode import decode
from dataset_prep.fetch.missing import missing_pictures
from dataset_prep.fetch.picture_sources import find_pictures, write_folder_sources
from dataset_prep.fetch.pictures import collect_pictures
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from dataset_prep.sources import CustomSource
from recbole_msm4sr.core.errors import UserError

_ROOT = Path(__file__).parents[3]
_REAL_DATA = [Path(os.environ.get("MSM4SR_REAL_DATA", _ROOT / "shared" / "data")), _ROOT.parent / "shared" / "data"]


def draw(path: Path, colour: str = "red", size: tuple[int, int] = (20, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def result(layout: Layout) -> dict[str, list[str]]:
    lines = layout.pictures.read_text(encoding="utf-8").splitlines()
    return {record["item_id"]: record["pictures"] for record in map(json.loads, lines)}


def state_of(folder: Path) -> dict[str, tuple[int, bytes, int]]:
    """Mode, content and time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mode, path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "dataset" / "mine")


def test_a_folder_becomes_pictures_and_stays_as_it_was(tmp_path: Path, layout: Layout) -> None:
    folder = tmp_path / "my pictures"
    draw(folder / "A.png", "red")
    draw(folder / "A_2.jpg", "green")
    draw(folder / "B" / "front.png", "red")  # the same picture as A's first
    draw(folder / "other.png")
    (folder / "B" / "page.png").write_text("<html>")
    (folder / "A_3.jpg").write_bytes((folder / "A_2.jpg").read_bytes()[:200])
    before = state_of(folder)

    figures = write_folder_sources(folder, layout.picture_sources, ["C", "B", "A"])
    assert (figures["items"], figures["items_with_pictures"], figures["pictures"]) == (3, 2, 5)
    assert figures["left_out"]["by_reason"] == {"no such item": 1}
    assert "other.png" in figures["left_out"]["examples"][0]

    figures = collect_pictures(layout, client=None, workers=2)
    assert list(result(layout)) == ["C", "B", "A"]
    assert {item: len(found) for item, found in result(layout).items()} == {"C": 0, "B": 1, "A": 2}
    assert result(layout)["A"][0] == result(layout)["B"][0]
    assert (figures["stored"], figures["reused"], figures["asked"], figures["missing"]) == (2, 1, 5, 2)
    assert set(figures["failed"]["by_reason"]) == {"cannot be decoded", "not a JPEG, PNG, GIF, WebP or BMP picture"}
    assert [item for item, _ in missing_pictures(layout)] == ["C"]
    assert (layout.picture_files / result(layout)["A"][1]).samefile(folder / "A_2.jpg")  # no second copy on the disk
    assert state_of(folder) == before
    layout.pictures.unlink()  # as before the first collection has ended
    with pytest.raises(UserError, match="was interrupted; run the pictures step to its end"):
        list(missing_pictures(layout))


def test_what_changed_is_read_again_and_nothing_else(tmp_path: Path, layout: Layout) -> None:
    folder = tmp_path / "pictures"
    for number in range(6):
        draw(folder / f"I{number}.png", size=(20 + number, 20))
    (folder / "I5.png").write_bytes(b"damaged")
    items = [f"I{number}" for number in range(6)]
    write_folder_sources(folder, layout.picture_sources, items)
    assert collect_pictures(layout, client=None)["had"] == 5
    (folder / "I0.png").unlink()  # an editor saves a new file
    draw(folder / "I0.png", "blue", (50, 50))
    draw(folder / "I5.png", "blue", (60, 60))
    (folder / "I1.png").unlink()
    figures = collect_pictures(layout, client=None)
    assert (figures["asked"], figures["stored"], figures["had"]) == (3, 2, 5)
    assert figures["failed"]["by_reason"] == {"no such file": 1}
    assert decode((layout.picture_files / result(layout)["I0"][0]).read_bytes()).size == (50, 50)
    assert result(layout)["I1"] == []
    figures = collect_pictures(layout, client=None)
    assert (figures["asked"], figures["dead_skipped"]) == (0, 1)


def test_only_regular_files_within_the_limits_are_read(tmp_path: Path, layout: Layout) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    good = draw(tmp_path / "good.png")
    (tmp_path / "large.png").write_bytes(bytes(20_000_001))
    sources = {
        "pipe": f"{tmp_path}/pipe.png",  # opening it would wait forever
        "folder": str(tmp_path),
        "device": "/dev/zero",
        "absent": f"{tmp_path}/absent.png",
        "relative": "good.png",
        "url": "http://127.0.0.1:9/a.png",
        "nul": f"{tmp_path}/a\x00.png",
        "large": f"{tmp_path}/large.png",
        "good": str(good),
    }
    write_records(layout.picture_sources, ({"item_id": item, "pictures": [[sources[item]]]} for item in sources))
    figures = collect_pictures(layout, client=None)
    assert [item for item, found in result(layout).items() if found] == ["good"]
    assert figures["failed"]["by_reason"] == {
        "not a file": 3,
        "not an absolute path": 2,
        "no such file": 1,
        "cannot be read": 1,
        "too large": 1,
    }


def test_a_known_item_that_ends_in_a_number_keeps_its_picture(tmp_path: Path) -> None:
    for name in ("A.jpg", "A_2.jpg", "B_7.jpg", "B_7_2.jpg", "B_7_10.jpg"):
        draw(tmp_path / name)
    named = {item: [path.name for path in paths] for item, paths in find_pictures(tmp_path, {"A", "B_7"}).items()}
    assert named == {"A": ["A.jpg", "A_2.jpg"], "B_7": ["B_7.jpg", "B_7_2.jpg", "B_7_10.jpg"]}
    both = find_pictures(tmp_path, {"A", "A_2", "B_7"})
    assert [path.name for path in both["A_2"]] == ["A_2.jpg"]


def test_a_folder_without_any_picture_of_the_items_is_a_user_error(tmp_path: Path, layout: Layout) -> None:
    draw(tmp_path / "pictures" / "X.png")
    with pytest.raises(UserError, match=r"X\.png.*such as 'A'"):
        write_folder_sources(tmp_path / "pictures", layout.picture_sources, ["A", "B"])
    assert not layout.picture_sources.exists()


def test_file_names_that_are_not_unicode_are_counted(tmp_path: Path, layout: Layout) -> None:
    draw(tmp_path / "pictures" / "A.png")
    folder = os.fsencode(tmp_path / "pictures")
    try:
        os.link(os.path.join(folder, b"A.png"), os.path.join(folder, b"\xe9.png"))
    except OSError:
        pytest.skip("this file system takes Unicode names alone")
    figures = write_folder_sources(tmp_path / "pictures", layout.picture_sources, ["A"])
    assert (figures["pictures"], figures["left_out"]["by_reason"]) == (1, {"its name is not valid Unicode": 1})
    json.dumps(figures, ensure_ascii=False).encode()


def test_pictures_are_found_by_all_three_namings_in_order(tmp_path: Path) -> None:
    for name in ("B_10.png", "B_2.PNG", "B.jpg", "A/z.jpg", "A/b.webp", "C_1.jpeg", "B/x.png", ".hidden.png", "C.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_pictures(tmp_path)
    names = {item: [str(path.relative_to(tmp_path)) for path in paths] for item, paths in found.items()}
    assert names == {
        "A": ["A/b.webp", "A/z.jpg"],
        "B": ["B.jpg", "B_2.PNG", "B_10.png", "B/x.png"],
        "C": ["C_1.jpeg"],
    }
    assert list(names) == ["A", "B", "C"]


def test_what_is_not_a_regular_file_is_passed_over(tmp_path: Path, layout: Layout) -> None:
    folder = tmp_path / "pictures"
    draw(folder / "A.png")
    draw(folder / "B" / "x.png")
    (folder / "directory.jpg").mkdir()
    os.mkfifo(folder / "A_2.png")
    for link, target in {"A_3.png": "nowhere", "loop.png": "loop.png", "A_4.png": "/dev/zero", "self": "."}.items():
        (folder / link).symlink_to(target)
    (folder / "B" / "dangling.png").symlink_to("nowhere")
    found = {item: [str(path.relative_to(folder)) for path in paths] for item, paths in find_pictures(folder).items()}
    assert found == {"A": ["A.png"], "B": ["B/x.png"], "self": ["self/A.png"]}
    with pytest.raises(UserError, match="lies inside --images"):
        CustomSource(inter=folder / "A.png", images=folder).check(Layout.of(folder / "out"))


def test_a_folder_without_pictures_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        find_pictures(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no picture"):
        find_pictures(tmp_path)
