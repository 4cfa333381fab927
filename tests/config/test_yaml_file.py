"""The reader of YAML that users write: plain values, in bounded time, or one line that says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recbole_msm4sr.config.yaml_file import parse_scalar, read_yaml
from recbole_msm4sr.core.errors import UserError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -100_000.0),
        ("1.5e3", 1500.0),
        ("0.1", 0.1),
        ("7", 7),
        ("None", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("[text]", ["text"]),
        ("[1e-3, None]", [0.001, None]),
        ("['text', 'image']", ["text", "image"]),
        ("{'LS': 'valid_only'}", {"LS": "valid_only"}),
        ("[5,inf)", "[5,inf)"),
        ("Recall@20", "Recall@20"),
        ("None.yaml", "None.yaml"),
        ("1e-3x", "1e-3x"),
        ("saved/run 1", "saved/run 1"),
        ("2020-01-02", "2020-01-02"),
        ("2020-13-45", "2020-13-45"),
        ("&a x", "&a x"),
        ("!!python/name:os.system", "!!python/name:os.system"),
        ("__import__('os').system('touch pwned')", "__import__('os').system('touch pwned')"),
        ("9" * 5000, "9" * 5000),
        ("[" * 5000, "[" * 5000),
        ("a\x1b[31m", "a\x1b[31m"),
    ],
)
def test_values_are_read_as_yaml_as_recbole_users_write_them(text: str, value: Any) -> None:
    read = parse_scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "is not YAML"),
        (b"- a\n", "must hold `key: value` lines"),
        (b"5\n", "must hold"),
        (BOMB.encode(), "aliases"),
        (b"a: &x 1\n", "aliases"),
        (b"a: !!python/object/apply:os.system [ls]\n", "tags"),
        (b"a: !!bool abc\n", "tags"),
        (b"epochs: 1\nseed: 2\nepochs: 3\n", "'epochs' is given twice"),
        (b"a: {b: 1, b: 2}\n", "'b' is given twice"),
        (b"a: " + b"[" * 30 + b"]" * 30, "nested deeper than 20 levels"),
        (b"a: " + b"[" * 100_000, "is not YAML"),
        (b"a: " + b"9" * 5000, "is not YAML"),
        (b"name: caf\xe9\n", "is not UTF-8"),
        (b"a:\n\tb: 1\n", "is not YAML"),
        (b"a: 1\0\n", "is not YAML"),
        (b"? [1, 2]\n: x\n", "is not YAML"),
        (b"#" * (2**20 + 1), "is longer than"),
    ],
)
def test_a_file_that_is_not_plain_settings_is_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(tmp_path / "given.yaml")
    message = str(caught.value)
    assert words in message
    assert "given.yaml" in message
    assert "\n" not in message
    assert len(message) < 1000


def test_a_missing_file_a_folder_and_a_pipe_are_refused_and_an_empty_file_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration file .*nothing.yaml: No such file"):
        read_yaml(tmp_path / "nothing.yaml")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="is not a plain file"):
            read_yaml(path)
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}
