"""The files of an Amazon category, from a folder or a mirror."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer, ranged, status

from dataset_prep.fetch.amazon import amazon_paths, get_amazon
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.releases import AMAZON, REVIEWS, release_files
from dataset_prep.layout import Layout
from recbole_msm4sr.core.errors import UserError

REVIEW_FILE = gzip.compress(b'{"reviewerID": "A"}\n' * 1000)
METADATA_FILE = gzip.compress(b'{"asin": "B"}\n' * 1000)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "dataset" / "Pantry")


def get(
    layout: Layout, release: int, category: str, reviews: str, raw: Path | None = None, **options: Any
) -> dict[str, Any]:
    paths = amazon_paths(layout, release, category, reviews, raw=raw)
    with HttpClient(allow_private=True, backoff=0.01, retries=1, timeout=(2.0, 0.3)) as client:
        return get_amazon(layout, release, paths, client=client, **options)


def fill(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)


def test_every_category_of_the_releases_has_its_two_files() -> None:
    assert [len(release.categories) for release in AMAZON.values()] == [29, 34]
    for number, release in AMAZON.items():
        assert tuple(release.reviews) == REVIEWS
        assert all(base.startswith("https://") and base.endswith("/") for base in release.bases)
        for category in release.categories:
            files = release_files(number, category, "full")
            assert category in files.reviews
            assert f"meta_{category}." in files.metadata


@pytest.mark.parametrize(
    ("release", "reviews", "expected"),
    [
        (2018, "full", "categoryFiles/Office_Products.json.gz"),
        (2018, "5-core", "categoryFilesSmall/Office_Products_5.json.gz"),
        (2018, "ratings", "categoryFilesSmall/Office_Products.csv"),
        (2023, "full", "raw/review_categories/Office_Products.jsonl.gz"),
        (2023, "5-core", "benchmark/5core/rating_only/Office_Products.csv.gz"),
        (2023, "ratings", "benchmark/0core/rating_only/Office_Products.csv.gz"),
    ],
)
def test_files_have_the_releases_names(release: int, reviews: str, expected: str) -> None:
    assert release_files(release, "Office_Products", reviews).reviews == expected


@pytest.mark.parametrize(
    ("release", "category", "hint"),
    [
        (2018, "Prime_Pantri", "is it Prime_Pantry"),
        (2018, "prime pantry", "is it Prime_Pantry"),
        (2018, "Pantry", "is it Prime_Pantry"),
        (2018, "Arts, Crafts & Sewing", "is it Arts_Crafts_and_Sewing"),
        (2018, "Amazon_Fashion", "is it AMAZON_FASHION"),
        (2023, "AMAZON_FASHION", "is it Amazon_Fashion"),
        (2023, "qqq", "give one of All_Beauty, "),
        (2018, "../../etc", "give one of AMAZON_FASHION"),
    ],
)
def test_an_unknown_category_is_told_what_comes_near(release: int, category: str, hint: str) -> None:
    with pytest.raises(UserError, match=re.escape(hint)):
        release_files(release, category, "full")


def test_an_unknown_release_or_kind_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match="2018, 2023"):
        release_files(2014, "Books", "full")
    with pytest.raises(UserError, match="full, 5-core, ratings"):
        release_files(2018, "Books", "10-core")
    with pytest.raises(UserError, match="no 5-core file of Appliances: ask for full or ratings"):
        release_files(2023, "Appliances", "5-core")


def test_files_of_a_folder_are_found_where_they_are(layout: Layout, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "deep/er/Prime_Pantry_5.json", "meta_Prime_Pantry.json.gz", "Prime_Pantry.json.gz", "meta_Books.json.gz")
    figures = get(layout, 2018, "Prime_Pantry", "5-core", raw=raw)
    found = amazon_paths(layout, 2018, "Prime_Pantry", "5-core", raw=raw)
    assert found.reviews == raw / "deep" / "er" / "Prime_Pantry_5.json"
    assert found.metadata == raw / "meta_Prime_Pantry.json.gz"
    assert figures["metadata"] == {"file": str(found.metadata), "bytes": len("meta_Prime_Pantry.json.gz")}
    assert not layout.root.exists()


def test_a_compressed_file_goes_before_the_unpacked_one_beside_it(layout: Layout, tmp_path: Path) -> None:
    fill(tmp_path, "Books.json", "Books.json.gz", "meta_Books.json.gz")
    assert amazon_paths(layout, 2018, "Books", "full", raw=tmp_path).reviews.name == "Books.json.gz"


def test_folders_tell_files_of_one_name_apart(layout: Layout, tmp_path: Path) -> None:
    none = "benchmark/0core/rating_only/Books.csv.gz"
    five = "benchmark/5core/rating_only/Books.csv"
    fill(tmp_path, "raw/meta_Books.jsonl.gz", none)
    with pytest.raises(UserError, match=r"has no Books\.csv\.gz"):
        amazon_paths(layout, 2023, "Books", "5-core", raw=tmp_path)
    fill(tmp_path, five)
    assert amazon_paths(layout, 2023, "Books", "5-core", raw=tmp_path).reviews == tmp_path / five
    assert amazon_paths(layout, 2023, "Books", "ratings", raw=tmp_path).reviews == tmp_path / none


def test_files_that_fit_equally_well_are_an_error(layout: Layout, tmp_path: Path) -> None:
    fill(tmp_path, "old/Books.json.gz", "new/Books.json.gz", "meta_Books.json.gz")
    with pytest.raises(UserError, match=r"new/Books\.json\.gz, old/Books\.json\.gz"):
        amazon_paths(layout, 2018, "Books", "full", raw=tmp_path)


def test_a_missing_file_is_named(layout: Layout, tmp_path: Path) -> None:
    fill(tmp_path, "Prime_Pantry.json.gz")
    with pytest.raises(UserError, match=r"no meta_Prime_Pantry\.json\.gz \(or, unpacked, meta_Prime_Pantry\.json\)"):
        amazon_paths(layout, 2018, "Prime_Pantry", "full", raw=tmp_path)
    with pytest.raises(UserError, match=r"has no Prime_Pantry\.csv, which"):
        amazon_paths(layout, 2018, "Prime_Pantry", "ratings", raw=tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        amazon_paths(layout, 2018, "Prime_Pantry", "full", raw=tmp_path / "nowhere")


def test_both_files_are_downloaded_from_a_mirror(fault_server: FaultServer, layout: Layout) -> None:
    fault_server.serve("/m/categoryFilesSmall/Prime_Pantry_5.json.gz", ranged(REVIEW_FILE))
    fault_server.serve("/m/metaFiles2/meta_Prime_Pantry.json.gz", ranged(METADATA_FILE))
    figures = get(layout, 2018, "Prime_Pantry", "5-core", mirror=fault_server.url("/m"))
    found = amazon_paths(layout, 2018, "Prime_Pantry", "5-core")
    assert found.reviews.read_bytes() == REVIEW_FILE
    assert found.metadata.read_bytes() == METADATA_FILE
    assert json.loads(json.dumps(figures)) == figures
    assert figures["reviews"]["url"] == fault_server.url("/m/categoryFilesSmall/Prime_Pantry_5.json.gz")
    assert figures["reviews"]["file"] == "prep/raw/categoryFilesSmall/Prime_Pantry_5.json.gz"
    assert figures["reviews"]["bytes"] == len(REVIEW_FILE)


def test_a_file_that_is_there_is_not_asked_for_again(fault_server: FaultServer, layout: Layout) -> None:
    fault_server.serve("/categoryFiles/Books.json.gz", ranged(REVIEW_FILE))
    url = fault_server.serve("/metaFiles2/meta_Books.json.gz", status(404), ranged(METADATA_FILE))
    with pytest.raises(UserError, match=rf"meta_Books\.json\.gz cannot be downloaded \({url}: 404 Not Found\)"):
        get(layout, 2018, "Books", "full", mirror=fault_server.url("/"))
    left_over = layout.raw / "categoryFiles" / "Books.json.gz.part.json"  # of a kill after the last rename
    left_over.touch()
    figures = get(layout, 2018, "Books", "full", mirror=fault_server.url("/"))
    assert not left_over.exists()
    assert figures["reviews"]["url"] is None
    assert len(figures["reviews"]["sha256"]) == 64
    assert len(fault_server.log_of("/categoryFiles/Books.json.gz")) == 1


def test_the_next_base_is_asked_where_one_has_nothing(
    fault_server: FaultServer, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tuple(fault_server.url(path) for path in ("/gone/", "/there/"))
    monkeypatch.setitem(AMAZON, 2018, AMAZON[2018].__class__(**vars(AMAZON[2018]) | {"bases": bases}))
    fault_server.serve("/there/categoryFiles/Books.json.gz", ranged(REVIEW_FILE))
    fault_server.serve("/there/metaFiles2/meta_Books.json.gz", ranged(METADATA_FILE))
    assert get(layout, 2018, "Books", "full")["metadata"]["url"].startswith(bases[1])


def test_what_one_base_has_sent_is_kept_for_it(
    fault_server: FaultServer, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tuple(fault_server.url(path) for path in ("/first/", "/second/"))
    monkeypatch.setitem(AMAZON, 2018, AMAZON[2018].__class__(**vars(AMAZON[2018]) | {"bases": bases}))
    fault_server.serve(
        "/first/categoryFiles/Books.json.gz",
        ranged(REVIEW_FILE, at_most=50),
        status(500),
        status(500),
        ranged(REVIEW_FILE),
    )
    fault_server.serve("/first/metaFiles2/meta_Books.json.gz", ranged(METADATA_FILE))
    fault_server.serve("/second/categoryFiles/Books.json.gz", ranged(REVIEW_FILE))
    with pytest.raises(UserError, match="it continues where it stopped"):
        get(layout, 2018, "Books", "full")
    assert get(layout, 2018, "Books", "full")["reviews"]["resumed_at"] == 50
    assert not fault_server.log_of("/second/categoryFiles/Books.json.gz")
