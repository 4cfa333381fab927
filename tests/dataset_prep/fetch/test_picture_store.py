"""The folder of pictures named by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from dataset_prep.fetch.store import PictureStore


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_picture_lies_where_its_digest_says_and_once(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "pictures")
    digest = hashlib.sha256(b"body").hexdigest()
    assert store.add(b"body", ".jpg") == (f"{digest[:2]}/{digest}.jpg", True)
    assert store.add(b"body", ".jpg") == (f"{digest[:2]}/{digest}.jpg", False)
    assert files_below(store.folder) == [f"{digest[:2]}/{digest}.jpg"]
    assert (store.folder / f"{digest[:2]}/{digest}.jpg").read_bytes() == b"body"
    assert store.has(f"{digest[:2]}/{digest}.jpg", 4)


def test_a_user_s_file_is_linked_and_outlives_the_store(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(b"body")
    link = tmp_path / "link.jpg"
    link.symlink_to(mine)
    for source in (mine, link):
        store = PictureStore(tmp_path / source.stem)
        name, _ = store.add(b"body", ".jpg", source)
        stored = store.folder / name
        assert stored.samefile(mine)
        assert not stored.is_symlink()
        stored.unlink()
    assert mine.read_bytes() == b"body"


def test_a_file_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    mine = tmp_path / "mine.jpg"
    mine.write_bytes(b"body")
    monkeypatch.setattr(os, "link", other_disk)
    store = PictureStore(tmp_path / "pictures")
    name, is_new = store.add(b"body", ".jpg", mine)
    assert is_new
    assert not (store.folder / name).samefile(mine)
    assert (store.folder / name).read_bytes() == b"body"


def test_what_a_killed_run_left_half_written_is_swept(tmp_path: Path) -> None:
    store = PictureStore(tmp_path)
    store.sweep()  # nothing there yet
    kept, _ = store.add(b"whole", ".png")
    (tmp_path / ".incoming").mkdir(exist_ok=True)
    (tmp_path / ".incoming" / "abc").write_bytes(b"ha")
    store.sweep()
    assert files_below(tmp_path) == [kept]
    store.add(b"next", ".png")


def test_threads_that_store_the_same_picture_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = PictureStore(tmp_path)
    body = bytes(range(256)) * 500
    together = threading.Barrier(8)
    added = []

    def add() -> None:
        together.wait()
        added.append(store.add(body, ".gif"))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [name] = {name for name, _ in added}
    assert sorted(is_new for _, is_new in added) == [False] * 7 + [True]
    assert files_below(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == body
