"""Collecting pictures from a web server with every fault of the real ones."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_server import FaultServer, Route, body, cut, stall, status
from PIL import Image

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.ledger import Ledger
from dataset_prep.fetch.missing import missing_pictures
from dataset_prep.fetch.pictures import collect_pictures
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.errors import UserError


def picture(seed: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    colours = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(colours).save(file, kind)
    return file.getvalue()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "dataset" / "shop")


def write_sources(layout: Layout, items: dict[str, list[list[str]]]) -> None:
    write_records(layout.picture_sources, ({"item_id": item, "pictures": items[item]} for item in items))


def collect(layout: Layout, items: dict[str, list[list[str]]] | None = None, **options: Any) -> dict[str, Any]:
    if items is not None:
        write_sources(layout, items)
    asking = {name: options.pop(name) for name in ("allow_private", "retries", "per_host") if name in options}
    settings = {"allow_private": True, "backoff": 0.01, "timeout": (2.0, 0.3), "retries": 2, **asking}
    with HttpClient(**settings) as client:
        return collect_pictures(layout, client=client, **{"workers": 4, **options})


def result(layout: Layout) -> dict[str, list[str]]:
    lines = layout.pictures.read_text(encoding="utf-8").splitlines()
    return {record["item_id"]: record["pictures"] for record in map(json.loads, lines)}


def bodies(layout: Layout, item: str) -> list[bytes]:
    return [(layout.picture_files / name).read_bytes() for name in result(layout)[item]]


def requests(server: FaultServer) -> Counter[str]:
    return Counter(request.path for request in server.requests)


def test_every_item_gets_its_pictures_in_order_and_a_line(fault_server: FaultServer, layout: Layout) -> None:
    urls = {name: fault_server.serve(f"/{name}", body(picture(ord(name)))) for name in "abcd"}
    items = {
        "two": [[urls["b"]], [urls["a"]]],
        "none": [],
        "shared": [[urls["a"]]],
        "twice": [[urls["c"]], [urls["d"]], [urls["c"]]],
    }
    figures = collect(layout, items)
    assert list(result(layout)) == list(items)
    assert bodies(layout, "two") == [picture(ord("b")), picture(ord("a"))]
    assert bodies(layout, "shared") == [picture(ord("a"))]
    assert bodies(layout, "twice") == [picture(ord("c")), picture(ord("d"))]
    assert bodies(layout, "none") == []
    assert requests(fault_server) == dict.fromkeys(("/a", "/b", "/c", "/d"), 1)
    assert figures["failed"] == {"total": 0, "by_reason": {}, "examples": []}
    expected = {"items": 4, "items_with_pictures": 3, "coverage": 0.75, "wanted": 6, "had": 5, "missing": 0}
    expected |= {"asked": 4, "stored": 4, "bytes": sum(len(picture(ord(name))) for name in "abcd"), "reused": 2}
    assert {name: figures[name] for name in expected} == expected
    json.dumps(figures)


def test_the_best_source_that_is_good_is_taken(fault_server: FaultServer, layout: Layout) -> None:
    large = fault_server.serve("/large.jpg", body(picture(1)))
    small = fault_server.serve("/small.jpg", body(picture(2)))
    gone = fault_server.url("/gone.jpg")
    figures = collect(layout, {"A": [[gone, large, small]], "B": [[gone, gone]]})
    assert bodies(layout, "A") == [picture(1)]
    assert result(layout)["B"] == []
    assert requests(fault_server) == {"/gone.jpg": 1, "/large.jpg": 1}
    assert (figures["missing"], figures["failed"]["by_reason"]) == (1, {"404 Not Found": 3})


def test_at_most_so_many_pictures_and_bad_ones_make_room(fault_server: FaultServer, layout: Layout) -> None:
    urls = [fault_server.serve(f"/{number}", body(picture(number))) for number in range(6)]
    figures = collect(layout, {"A": [[fault_server.url("/gone")], *([url] for url in urls)]}, max_pictures=3)
    assert bodies(layout, "A") == [picture(0), picture(1), picture(2)]
    assert "/3" not in requests(fault_server)
    assert (figures["wanted"], figures["had"], figures["missing"]) == (3, 3, 1)


def test_faults_that_stay_are_counted_by_reason_and_nothing_is_kept(
    fault_server: FaultServer, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    good = picture(0)
    fault_server.serve("/loop1", status(302, Location="/loop2"))
    fault_server.serve("/loop2", status(302, Location="/loop1"))
    faults = {
        "/gone": "404 Not Found",
        "/loop1": "redirect loop",
        "/page": "not a JPEG, PNG, GIF, WebP or BMP picture",
        "/half": "cannot be decoded",
        "/dot": "too small",
        "/huge": "too large",
        "/file": "not an http or https URL",
        "/500": "500 Internal Server Error",
        "/cut": "connection cut",
        "/stall": "timed out",
    }
    fault_server.serve("/page", body(b"<html>no picture here</html>", "text/html"))
    fault_server.serve("/half", body(good[: len(good) // 2]))
    fault_server.serve("/dot", body(_one_pixel(), "image/gif"))
    fault_server.serve("/huge", body(bytes(20_000_001)))
    fault_server.serve("/500", status(500))
    fault_server.serve("/cut", cut(good, 100))
    fault_server.serve("/stall", stall(good[:50]))
    items = {path: [["file:///etc/passwd" if path == "/file" else fault_server.url(path)]] for path in faults}
    items["good"] = [[fault_server.serve("/good", body(good, "text/plain"))]]  # the label does not matter
    figures = collect(layout, items, retries=1)
    assert {item: len(found) for item, found in result(layout).items()} == {**dict.fromkeys(faults, 0), "good": 1}
    assert figures["failed"]["by_reason"] == dict.fromkeys(faults.values(), 1)
    assert figures["try_again"] == 3
    assert "8 of 11" not in caplog.text
    assert "10 of 11 are missing" in caplog.text
    assert "coverage is low" in caplog.text

    before = requests(fault_server)
    again = collect(layout, retries=1)
    asked = requests(fault_server) - before
    assert asked == {"/500": 2, "/cut": 2, "/stall": 2}  # dead links are left alone; each has one retry
    assert (again["dead_skipped"], again["asked"], again["failed"]) == (7, 3, figures["failed"])

    before = requests(fault_server)
    collect(layout, retries=0, retry_dead=True)
    assert requests(fault_server) - before == dict.fromkeys([*faults.keys() - {"/file"}, "/loop2"], 1)


def test_what_lacks_pictures_is_listed_with_every_reason(fault_server: FaultServer, layout: Layout) -> None:
    good = fault_server.serve("/good", body(picture(0)))
    gone, late = fault_server.url("/gone"), fault_server.serve("/late", status(503))
    collect(layout, {"A": [[gone, late], [gone]], "B": [[gone, good]], "C": []}, retries=0)
    missing = dict(missing_pictures(layout))
    assert missing == {
        "A": [(gone, "404 Not Found", True), (late, "503 Service Unavailable", False), (gone, "404 Not Found", True)],
        "C": [],
    }


def test_a_source_that_many_items_share_is_asked_once_in_a_run(fault_server: FaultServer, layout: Layout) -> None:
    shared = fault_server.serve("/shared", body(picture(0)))
    broken = fault_server.serve("/broken", status(500))
    collect(layout, {f"I{number}": [[broken, shared]] for number in range(40)}, workers=8, retries=0)
    assert requests(fault_server) == {"/shared": 1, "/broken": 1}
    assert all(len(found) == 1 for found in result(layout).values())


def test_a_second_run_asks_nothing_and_writes_the_same(fault_server: FaultServer, layout: Layout) -> None:
    items = {f"I{number}": [[fault_server.serve(f"/{number}", body(picture(number)))]] for number in range(20)}
    collect(layout, items, workers=8)
    first = layout.pictures.read_bytes()
    n_requests = len(fault_server.requests)
    figures = collect(layout, workers=3)
    assert len(fault_server.requests) == n_requests
    assert layout.pictures.read_bytes() == first
    assert (figures["asked"], figures["stored"], figures["reused"], figures["had"]) == (0, 0, 20, 20)


def test_a_picture_that_was_deleted_or_emptied_is_fetched_again(fault_server: FaultServer, layout: Layout) -> None:
    items = {f"I{number}": [[fault_server.serve(f"/{number}", body(picture(number)))]] for number in range(3)}
    collect(layout, items)
    (layout.picture_files / result(layout)["I0"][0]).unlink()
    (layout.picture_files / result(layout)["I1"][0]).write_bytes(b"")
    collect(layout)
    assert requests(fault_server) == {"/0": 2, "/1": 2, "/2": 1}
    assert all(bodies(layout, f"I{number}") == [picture(number)] for number in range(3))


def test_a_killed_run_is_resumed_without_asking_twice(fault_server: FaultServer, layout: Layout) -> None:
    n_items, n_answered, workers = 40, 15, 4
    good = {number: body(picture(number)) for number in range(n_items)}
    urls = [fault_server.serve(f"/{n}", *([good[n]] if n < n_answered else [stall(), good[n]])) for n in range(n_items)]
    write_sources(layout, {f"I{number}": [[url]] for number, url in enumerate(urls)})
    script = f"""
from pathlib import Path
from dataset_prep.fetch.client import HttpClient
from dataset_prep.layout import Layout
from dataset_prep.fetch.pictures import collect_pictures
collect_pictures(Layout.of({str(layout.root)!r}), client=HttpClient(allow_private=True), workers={workers})
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    try:
        _wait_until(lambda: len(fault_server.requests) == n_answered + workers)  # all workers are stuck in one
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not layout.pictures.exists()
    for number in range(n_answered + workers, n_items):
        fault_server.serve(f"/{number}", good[number])
    figures = collect(layout, workers=workers)
    asked = requests(fault_server)
    assert {asked[f"/{number}"] for number in range(n_answered)} == {1}
    assert (figures["asked"], figures["reused"]) == (n_items - n_answered, n_answered)
    assert all(bodies(layout, f"I{number}") == [picture(number)] for number in range(n_items))


@pytest.mark.parametrize("busy", [status(429, Retry_After="60"), stall()], ids=["paused", "stalled"])
def test_ctrl_c_ends_the_run_at_once_and_keeps_what_is_done(
    fault_server: FaultServer, layout: Layout, busy: Route
) -> None:
    good = fault_server.serve("/good", body(picture(0)))
    late = fault_server.serve("/busy", busy)
    write_sources(layout, {"A": [[good]], **{f"I{number}": [[late]] for number in range(8)}})
    script = f"""
import signal, threading
from pathlib import Path
from dataset_prep.fetch.client import HttpClient
from dataset_prep.layout import Layout
from dataset_prep.fetch.pictures import collect_pictures
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell has started in the background
try:
    collect_pictures(Layout.of({str(layout.root)!r}), client=HttpClient(allow_private=True), workers=4)
except KeyboardInterrupt:
    print("interrupted", [t.name for t in threading.enumerate() if "ThreadPool" in t.name], flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    _wait_until(lambda: {"/good", "/busy"} <= requests(fault_server).keys())
    time.sleep(0.2)  # the good one is on its way into the ledger
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=20)
    assert output == "interrupted []\n"
    assert time.monotonic() - start < 5
    assert not layout.pictures.exists()
    with Ledger(layout.ledger) as ledger:
        assert ledger.get(good) is not None
        assert ledger.get(late) is None  # it was not asked to the end


@pytest.mark.parametrize("place", ["store", "ledger", "result"])
def test_a_full_disk_ends_the_run_with_one_error_and_loses_nothing(
    fault_server: FaultServer, layout: Layout, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    items = {f"I{number}": [[fault_server.serve(f"/{number}", body(picture(number)))]] for number in range(12)}
    write_sources(layout, items)
    writes = iter(range(100))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        if place == "store":
            synced = os.fsync

            def fail_later(file: int) -> None:
                if next(writes) >= 12:  # a file's and its folder's
                    raise full
                synced(file)

            patch.setattr(os, "fsync", fail_later)
        elif place == "ledger":
            Ledger(layout.ledger).close()
            base = sqlite3.connect(layout.ledger)
            base.execute("CREATE TRIGGER full BEFORE INSERT ON sources WHEN (SELECT count(*) FROM sources) >= 5 "
                         "BEGIN SELECT raise(ABORT, 'database or disk is full'); END")  # fmt: skip
            base.close()
        else:

            def fail(_: Path, records: Any) -> None:
                for _ in records:
                    pass
                raise full

            patch.setattr("dataset_prep.fetch.pictures.write_records", fail)
        with pytest.raises((UserError, OSError), match=r"full|No space left") as caught:
            collect(layout, workers=2)
    assert str(layout.prep) in str(caught.value) or place == "result"
    assert "\n" not in str(caught.value)
    assert not layout.pictures.exists()
    stored = [path for path in layout.picture_files.rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in stored} <= {picture(number) for number in range(12)}
    if place == "ledger":
        base = sqlite3.connect(layout.ledger)
        base.execute("DROP TRIGGER full")
        base.close()
    figures = collect(layout)
    assert figures["had"] == 12
    assert figures["reused"] >= 5


def test_without_a_network_one_error_says_so_and_earlier_pictures_stay(layout: Layout) -> None:
    layout.prep.mkdir(parents=True)
    layout.pictures.write_text('{"item_id": "old", "pictures": []}\n')
    items = {f"I{number}": [["http://127.0.0.1:9/a.jpg"], [f"http://127.0.0.1:9/{number}"]] for number in range(5)}
    with pytest.raises(UserError, match="check the network"):
        collect(layout, items, retries=0)
    assert "old" in layout.pictures.read_text()


def test_a_host_that_only_fails_is_left_alone_and_others_go_on(fault_server: FaultServer, layout: Layout) -> None:
    good = fault_server.serve("/good", body(picture(0)))
    for number in range(30):
        fault_server.serve(f"/{number}", status(503))
    items = {f"I{n}": [[fault_server.url(f"/{n}", host="localhost"), good]] for n in range(30)}
    figures = collect(layout, items, workers=1, retries=0, silent_limit=5)
    assert len(fault_server.requests) == 6
    assert figures["had"] == 30
    reasons = {"not asked: its host failed again and again": 25, "503 Service Unavailable": 5}
    assert figures["failed"]["by_reason"] == reasons
    assert figures["try_again"] == 30
    collect(layout, workers=1, retries=0, silent_limit=5)  # a new run asks the host again
    assert len(fault_server.requests) == 11


def test_item_ids_never_become_paths(fault_server: FaultServer, layout: Layout, tmp_path: Path) -> None:
    url = fault_server.serve("/..%2f..%2fescape.jpg", body(picture(0)))
    up = fault_server.serve("/../../escape.jpg", body(picture(1)))
    ids = ["../../escape", "/etc/passwd", "a/b", "..", ".", "C:\\x", "~root", "nul", "ü" * 300]
    collect(layout, {item: [[url], [up]] for item in ids})
    assert list(result(layout)) == ids
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(layout.prep)]
    assert outside == []
    stored = [path for path in layout.picture_files.rglob("*") if path.is_file()]
    assert all(len(path.stem) == 64 for path in stored)


def test_unusable_sources_are_a_user_error(layout: Layout) -> None:
    with pytest.raises(UserError, match="is not a file"):
        collect(layout)
    layout.prep.mkdir(parents=True, exist_ok=True)
    for pictures in ('"http://a"', '["http://a"]', "null", '[["\\ud800"]]'):
        layout.picture_sources.write_text(
            f'{{"item_id": "A", "pictures": []}}\n{{"item_id": "B", "pictures": {pictures}}}'
        )
        with pytest.raises(UserError, match=r"picture_sources.jsonl:2: "):
            collect(layout)
    assert not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate())


def _one_pixel() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "GIF")
    return file.getvalue()


def _wait_until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
