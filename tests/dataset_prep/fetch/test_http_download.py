"""Downloads that are interrupted in every way end in the same file."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer, Handler, Route, body, cut, ranged, stall, status

import dataset_prep.fetch.download as download_module
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.download import download
from dataset_prep.fetch.errors import FetchError
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import fingerprint

# Bytes that do not compress, so that the file has a size to speak of.
DATA = gzip.compress(random.Random(7).randbytes(400_000), mtime=0)
OTHER = gzip.compress(random.Random(8).randbytes(400_000), mtime=0)


def get(url: str, target: Path, patience: float = 60.0, **options: Any) -> dict[str, Any]:
    with HttpClient(**{"allow_private": True, "backoff": 0.01, "timeout": (2.0, 0.3), **options}) as client:
        return download(client, url, target, patience=patience)


def ranges(server: FaultServer) -> list[str | None]:
    return [request.headers.get("Range") for request in server.requests]


def leave_part(url: str, target: Path) -> int:
    """Run until it fails; returns the number of bytes that have come."""
    with pytest.raises(FetchError):
        get(url, target, retries=0)
    assert not target.exists()
    return target.with_name(target.name + ".part").stat().st_size


def test_a_file_arrives_whole_and_nothing_stays_beside_it(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.json.gz"
    got = get(fault_server.serve("/a.json.gz", ranged(DATA)), target)
    assert target.read_bytes() == DATA
    url = fault_server.url("/a.json.gz")
    found = fingerprint(target)
    assert got == {"bytes": found.pop("size"), **found, "url": url, "resumed_at": 0}
    assert list(target.parent.iterdir()) == [target]


def test_a_cut_connection_goes_on_where_it_was_cut(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "a.gz"
    get(fault_server.serve("/a.gz", ranged(DATA, at_most=150_000)), target, retries=1)
    assert target.read_bytes() == DATA
    assert ranges(fault_server) == [None, "bytes=150000-", "bytes=300000-"]


@pytest.mark.parametrize("fault", [status(500), status(429, Retry_After="0"), stall(DATA[:1000], len(DATA))])
def test_a_fault_in_between_is_retried(fault_server: FaultServer, tmp_path: Path, fault: Route) -> None:
    target = tmp_path / "a.gz"
    get(fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), fault, ranged(DATA)), target)
    assert target.read_bytes() == DATA


def test_a_later_run_goes_on_where_the_last_one_stopped(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), status(503), ranged(DATA))
    assert leave_part(url, target) == 150_000
    assert leave_part(url, target) == 150_000
    assert get(url, target)["resumed_at"] == 150_000
    assert target.read_bytes() == DATA
    assert ranges(fault_server) == [None, "bytes=150000-", "bytes=150000-"]


def test_a_date_serves_where_there_is_no_strong_etag(fault_server: FaultServer, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    options: dict[str, Any] = {"etag": 'W/"weak"', "last_modified": date}
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000, **options), ranged(DATA, **options))
    leave_part(url, tmp_path / "a.gz")
    assert get(url, tmp_path / "a.gz")["resumed_at"] == 150_000
    assert fault_server.requests[1].headers["If-Range"] == date


def test_a_file_that_has_changed_starts_again(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), ranged(OTHER))
    leave_part(url, target)
    get(url, target)
    assert target.read_bytes() == OTHER


def test_a_server_without_validators_starts_again(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000, etag=""), ranged(OTHER, etag=""))
    leave_part(url, target)
    assert get(url, target)["resumed_at"] == 0
    assert target.read_bytes() == OTHER
    assert ranges(fault_server) == [None, None]


def test_a_server_that_ignores_ranges_starts_again(fault_server: FaultServer, tmp_path: Path) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), body(DATA))
    leave_part(url, target)
    get(url, target)
    assert target.read_bytes() == DATA


def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(fault_server: FaultServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="connection cut"):
        get(fault_server.serve("/a.gz", cut(DATA, 150_000)), tmp_path / "a.gz", retries=3)
    assert len(fault_server.requests) == 4


def _with_content_range(content_range: str, **headers: str) -> Route:
    def answer(handler: Handler) -> None:
        rest = DATA[150_000:]
        handler.start(206, {"Content-Range": content_range, "Content-Length": str(len(rest)), **headers})
        handler.wfile.write(rest)

    return answer


@pytest.mark.parametrize(
    "wrong",
    [
        status(416),
        _with_content_range(f"bytes 7-{len(DATA) - 1}/{len(DATA)}"),
        _with_content_range(f"bytes 150000-{len(DATA) - 1}/{len(DATA) + 5}"),
        _with_content_range(f"bytes 150000-{len(DATA) - 1}/{len(DATA)}", ETag='"another"'),
        _with_content_range("something"),
    ],
    ids=["416", "another start", "another length", "another version", "unreadable"],
)
def test_a_wrong_range_is_not_appended(fault_server: FaultServer, tmp_path: Path, wrong: Route) -> None:
    target = tmp_path / "a.gz"
    get(fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), wrong, ranged(DATA)), target)
    assert target.read_bytes() == DATA
    assert ranges(fault_server) == [None, "bytes=150000-", None]


def test_a_damaged_gzip_file_is_fetched_once_more(fault_server: FaultServer, tmp_path: Path) -> None:
    broken = DATA[:200_000] + b"\0" * 100 + DATA[200_100:]
    target = tmp_path / "a.gz"
    get(fault_server.serve("/a.gz", ranged(broken), ranged(DATA)), target)
    assert target.read_bytes() == DATA
    with pytest.raises(FetchError) as caught:
        get(fault_server.serve("/b.gz", ranged(broken)), tmp_path / "b.gz")
    assert (caught.value.reason, caught.value.permanent) == ("damaged file", True)
    assert len(fault_server.log_of("/b.gz")) == 2
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_file_is_not_taken(fault_server: FaultServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="empty"):
        get(fault_server.serve("/a.csv", body(b"", "text/csv")), tmp_path / "a.csv")


def test_a_web_page_in_place_of_the_file_is_refused(fault_server: FaultServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        get(fault_server.serve("/a.csv", body(b"<html>moved</html>", "text/html")), tmp_path / "a.csv")
    assert (caught.value.reason, caught.value.permanent) == ("wrong content type", True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_length_is_not_known_arrives(fault_server: FaultServer, tmp_path: Path) -> None:
    def chunked(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "text/csv", "Transfer-Encoding": "chunked"})
        for start in range(0, len(DATA), 70_000):
            piece = DATA[start : start + 70_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    get(fault_server.serve("/a.gz", chunked), tmp_path / "a.gz")
    assert (tmp_path / "a.gz").read_bytes() == DATA


@pytest.mark.parametrize(
    "notes", ["", "{", "[]", '{"validator": "a\\nb", "length": 9}', '{"validator": "日", "length": 9}']
)
def test_notes_of_an_interrupted_run_that_cannot_be_used_start_again(
    fault_server: FaultServer, tmp_path: Path, notes: str
) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA, at_most=150_000), ranged(DATA))
    leave_part(url, target)
    (tmp_path / "a.gz.part.json").write_text(notes)
    assert get(url, target)["resumed_at"] == 0
    assert target.read_bytes() == DATA


_RUN = """
import sys
from pathlib import Path
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.download import download
with HttpClient(allow_private=True) as client:
    download(client, sys.argv[1], Path(sys.argv[2]))
"""


def test_kill_minus_9_loses_nothing_that_has_come(fault_server: FaultServer, tmp_path: Path) -> None:
    target, part = tmp_path / "a.gz", tmp_path / "a.gz.part"
    url = fault_server.serve("/a.gz", ranged(DATA, block=20_000, interval=0.05), ranged(DATA))
    process = subprocess.Popen([sys.executable, "-c", _RUN, url, str(target)])
    try:
        while process.poll() is None and not (part.exists() and part.stat().st_size > 60_000):
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    left = part.stat().st_size
    assert not target.exists()
    assert get(url, target)["resumed_at"] == left > 60_000
    assert target.read_bytes() == DATA
    assert ranges(fault_server)[1] == f"bytes={left}-"


def test_kill_minus_9_before_the_rename_needs_no_further_request(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA))

    replace = os.replace

    def killed(source: Path, name: Path) -> None:
        if name == target:
            raise KeyboardInterrupt
        replace(source, name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            get(url, target)
    assert get(url, target)["resumed_at"] == len(DATA)
    assert target.read_bytes() == DATA
    assert len(fault_server.requests) == 1


class _FullDisk(io.FileIO):
    """A file on a disk with room for 100,000 bytes: the last write that fits is cut short."""

    room = 100_000

    def write(self, data: Any) -> int:
        fits = min(len(data), self.room - self.tell())
        if fits <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(memoryview(data)[:fits])


def test_a_full_disk_keeps_what_has_come(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.gz"
    url = fault_server.serve("/a.gz", ranged(DATA))

    def full(path: Path, mode: str) -> Any:
        return io.BufferedWriter(_FullDisk(path, mode)) if mode == "ab" else open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(download_module, "open", full, raising=False)
        with pytest.raises(UserError, match="disk is full"):
            get(url, target)
    assert not target.exists()
    left = (tmp_path / "a.gz.part").read_bytes()
    assert 0 < len(left) <= 100_000
    assert DATA.startswith(left)
    assert get(url, target)["resumed_at"] == len(left)
    assert target.read_bytes() == DATA


def test_a_file_that_will_not_fit_is_not_begun(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(DATA) - 1))
    with pytest.raises(UserError, match=r"a\.gz needs 0\.0 GB more"):
        get(fault_server.serve("/a.gz", ranged(DATA)), tmp_path / "a.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_only_trickles_is_opened_again(fault_server: FaultServer, tmp_path: Path) -> None:
    slow = ranged(DATA, block=1000, interval=0.02)
    get(fault_server.serve("/a.gz", slow, ranged(DATA)), tmp_path / "a.gz", patience=0.3)
    assert (tmp_path / "a.gz").read_bytes() == DATA
    assert len(fault_server.requests) == 2
