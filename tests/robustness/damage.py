"""Ways in which bytes, tables and values go wrong, as hypothesis strategies."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st

Damage = Callable[[bytes], bytes]


def inputs(percent: float) -> settings:
    """Settings of a test that takes so many of all inputs: of 300, or of ``FUZZ_EXAMPLES`` (``make fuzz``)."""
    total = int(os.environ.get("FUZZ_EXAMPLES", "300"))
    return settings(settings.get_profile("robustness"), max_examples=max(2, round(total * percent / 100)))


#: Cells of a table that are, or look like, something else.
CELLS = [
    *(b"", b" ", b"NA", b"nan", b"NaN", b"null", b"None", b"N/A", b"inf", b"-inf", b"1e39", b"1e400", b"-1", b"0"),
    *(b"1e3", b"0x10", b"1_000", b"1,5", b"9" * 400, b"[PAD]", b'"', b'"u01', b'u"1', b"'", b"a b", b" u01", b"u01 "),
    *(
        b"\x00",
        b"u\x0001",
        b"\xff",
        b"\xc3\xa9",
        b"\x1b[31m",
        b"\r",
        b"u01\r",
        b"\xe2\x80\xa8",
        b"\x85",
        b"#u01",
        b"\\",
    ),
    *(b"true", b"2020-13-45", b"\xef\xbb\xbfu01", b"u01\tu02", b"i05\ti06\t7", b"\t", b"\n", b"\n\n"),
]
_position = st.floats(0, 1, exclude_max=True)
_cell = st.sampled_from(CELLS) | st.binary(max_size=4)


def _at(position: float, length: int) -> int:
    return int(position * length)


def _replace_cell(line: float, column: float, cell: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        number = _at(line, len(lines))
        cells = lines[number].split(b"\t")
        cells[_at(column, len(cells))] = cell
        lines[number] = b"\t".join(cells)
        return b"\n".join(lines)

    return damage


def _change_lines(line: float, kind: str, cell: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        number = _at(line, len(lines))
        if kind == "delete":
            del lines[number]
        elif kind == "repeat":
            lines.insert(number, lines[number])
        elif kind == "insert":
            lines.insert(number, cell)
        elif kind == "append cell":
            lines[number] += b"\t" + cell
        elif kind == "quote two":
            for other in {number, _at(line / 2, len(lines))}:
                lines[other] = b'"' + lines[other]
        else:
            lines[number] = lines[number].rpartition(b"\t")[0]
        return b"\n".join(lines)

    return damage


def _change_header(kind: str) -> Damage:
    def damage(content: bytes) -> bytes:
        header, newline, rest = content.partition(b"\n")
        columns = header.split(b"\t")
        if kind == "repeat":
            columns.append(columns[-1])
        elif kind == "untyped":
            columns[-1] = columns[-1].partition(b":")[0]
        elif kind == "other type":
            columns[-1] = columns[-1].partition(b":")[0] + b":token_seq"
        elif kind == "swap":
            columns.reverse()
        else:
            columns.append(b"more:float")
        return b"\t".join(columns) + newline + rest

    return damage


def _insert(position: float, inserted: bytes, overwritten: int) -> Damage:
    def damage(content: bytes) -> bytes:
        number = _at(position, len(content))
        return content[:number] + inserted + content[number + overwritten :]

    return damage


def _flip(position: float, bit: int) -> Damage:
    def damage(content: bytes) -> bytes:
        if not content:
            return content
        number = _at(position, len(content))
        return content[:number] + bytes([content[number] ^ (1 << bit)]) + content[number + 1 :]

    return damage


def _whole(kind: str) -> Damage:
    return {
        "empty": lambda content: b"",
        "half": lambda content: content[: len(content) // 2],
        "crlf": lambda content: content.replace(b"\n", b"\r\n"),
        "byte order mark": lambda content: b"\xef\xbb\xbf" + content,
        "utf-16": lambda content: content.decode("latin-1").encode("utf-16"),
        "zeros": lambda content: bytes(len(content)),
        "cut last byte": lambda content: content[:-1],
        "twice": lambda content: content + content,
        "json null": lambda content: b"null",
        "json list": lambda content: b"[[1, 2], {}]",
        "json deep": lambda content: b"[" * 20_000,
        "json other": lambda content: b'{"a": 1, "format_version": [], "sha256": {"x": NaN}}',
    }[kind]


_WHOLE = [
    *("empty", "half", "crlf", "byte order mark", "utf-16", "zeros", "cut last byte", "twice"),
    *("json null", "json list", "json deep", "json other"),
]

#: Damage to any file.
bytes_damage: st.SearchStrategy[Damage] = st.one_of(
    st.builds(_flip, _position, st.integers(0, 7)),
    st.builds(_insert, _position, _cell, st.integers(0, 6)),
    st.builds(_whole, st.sampled_from(_WHOLE)),
)
#: Damage to tab-separated text with a header.
table_damage: st.SearchStrategy[Damage] = st.one_of(
    st.builds(_replace_cell, _position, _position, _cell),
    st.builds(
        _change_lines,
        _position,
        st.sampled_from(["delete", "repeat", "insert", "append cell", "quote two", "drop cell"]),
        _cell,
    ),
    st.builds(_change_header, st.sampled_from(["repeat", "untyped", "other type", "swap", "add"])),
    bytes_damage,
)


def damaged(content: bytes, damages: list[Damage]) -> bytes:
    """``content`` after all damages, one upon the other."""
    for damage in damages:
        content = damage(content)
    return content
