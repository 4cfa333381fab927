"""Events of a user's own table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from dataset_prep.readers.events import Event
from dataset_prep.readers.rejected import Rejected
from dataset_prep.readers.tables import parse_columns, table_events
from recbole_msm4sr.core.errors import UserError


def read(path: Path, content: str | bytes, columns: dict[str, str] | None = None) -> tuple[list[Event], Rejected]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rejected = Rejected()
    return list(table_events(path, rejected, columns)), rejected


@pytest.mark.parametrize(
    "content",
    [
        "user_id,item_id,timestamp\nu1,i1,3.5\n",
        "\ufeffuserId,movieId,rating,timestamp\r\nu1,i1,5,3.5\r\n",
        "uid;asin;parent_asin;time\nu1;variant;i1;3.5\n",
        '"User ID"|"Product ID"|"Date"\n"u1"|"i1"|"1970-01-01T00:00:03.5Z"\n',
        "timestamp\titem_id\tuser_id\n3.5\ti1\tu1\n",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t4\t3.5\n",
        "reviewerID,asin,unixReviewTime\n\nu1,i1,3.5",
    ],
)
def test_columns_with_usual_names_are_recognised(tmp_path: Path, content: str) -> None:
    events, rejected = read(tmp_path / "t", content)
    assert events == [("u1", "i1", 3.5)]
    assert rejected.total == 0


def test_columns_can_be_named(tmp_path: Path) -> None:
    content = "who,what,item,when\nu1,i1,x,7\n"
    events, _ = read(tmp_path / "t", content, parse_columns("user=who, item=what,timestamp=when"))
    assert events == [("u1", "i1", 7.0)]
    atomic = "who:token\titem_id:token\tat:float\nu1\ti1\t7\n"
    assert read(tmp_path / "t", atomic, {"user": "who", "timestamp": "at"})[0] == [("u1", "i1", 7.0)]


@pytest.mark.parametrize("text", ["who", "user=", "person=who", "user=a,user=b", ""])
def test_columns_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not one of user=NAME, item=NAME, timestamp=NAME"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("", {}, "is empty"),
        ("1,2,3\n4,5,6\n", {}, "no column for the user .* among '1', '2', '3'"),
        ("user_id,item_id\nu,i\n", {}, "no column for the timestamp"),
        ("user_id,item_id,time\n", {"item": "product"}, r"no column for the item \(product\)"),
        ("user_id,user_id,item,time\n", {}, "two columns for the user"),
        ("user,item,time\n", {"user": "item"}, "'item' is taken for the item and for another"),
        ("user,item,time\ru,i,1\r", {}, "t:1: the header cannot be read"),
    ],
)
def test_a_header_without_the_columns_is_refused(
    tmp_path: Path, content: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / "t", content, columns)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01 00:01:00", 60.0),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1.5e9", 1.5e9),
        ("-7", -7.0),
    ],
)
def test_times_are_numbers_or_iso_dates(tmp_path: Path, time: str, seconds: float) -> None:
    assert read(tmp_path / "t", f"user,item,time\nu,i,{time}\n")[0] == [("u", "i", seconds)]


def test_cells_in_quotes_may_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    content = 'user,item,text,time\n"a, b",i,"one\ntwo ""three""",1\nc,i,,x\n'
    events, rejected = read(tmp_path / "t", content)
    assert events == [("a, b", "i", 1.0)]
    assert rejected.examples[0].startswith(f"{tmp_path / 't'}:4: ")  # lines are counted, not records


def test_tables_with_tabs_have_no_quotes(tmp_path: Path) -> None:
    content = 'user\titem\ttitle\ttime\nu\ti\t"24 inch\t1\nu\tj\t10"\t2\n'
    assert read(tmp_path / "t", content)[0] == [("u", "i", 1.0), ("u", "j", 2.0)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"u,i", "does not have as many cells as the header"),
        (b"u,i,1,2", "does not have as many cells as the header"),
        (b",i,1", '"user" is missing'),
        (b"u,NaN,1", '"item" is missing'),
        (b"u,[PAD],1", '"item" is RecBole\'s padding'),
        (b'u,"""i",1', '"item" starts with a quote'),
        (b"u,\xe9,1", '"item" is not valid Unicode'),
        (b"u,i,", '"time" is neither a number nor an ISO 8601 date'),
        (b"u,i,12/31/2019", '"time" is neither a number nor an ISO 8601 date'),
        (b"u,i,inf", '"time" is not a number'),
        (b"u,i,1e39", '"time" is beyond float32\'s 3.4e38'),
        (b"u,i," + b"9" * 5000, '"time" is not a number'),
        (b"u\0,i,1", '"user" holds a control character'),
        (b"u,i,nan", '"time" is neither a number nor an ISO 8601 date'),
        (b"u,i\rj,1", "not valid CSV"),
        (b"u," + b"x" * 200_000 + b",1", "not valid CSV"),
    ],
)
def test_a_bad_line_is_counted_and_the_others_are_read(tmp_path: Path, line: bytes, reason: str) -> None:
    events, rejected = read(tmp_path / "t", b"user,item,time\nu,i,1\n" + line + b"\nu,j,2\n")
    assert events == [("u", "i", 1.0), ("u", "j", 2.0)]
    assert rejected.by_reason == {reason: 1}
    assert rejected.examples[0].startswith(f"{tmp_path / 't'}:3: ")


def test_text_that_is_not_utf8_elsewhere_in_a_line_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path / "t", b"user,item,name,time\nu,i,caf\xe9,1\n")[0] == [("u", "i", 1.0)]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (['"u,i,1', "u,j,2", "u,k,3"], ["j", "k"]),
        (['u,"i,1', "u,j,2", "u,k,3"], ["j", "k"]),
        (['"u,i,1', "u,j,2", '"u,k,3', "u,l,4"], ["j", "l"]),
        (['u,i,"1', "u,j,2", 'u,k,"3', "u,l,4"], ["j", "l"]),
    ],
)
def test_a_stray_quote_costs_its_own_line_alone(tmp_path: Path, lines: list[str], kept: list[str]) -> None:
    events, rejected = read(tmp_path / "t", "\n".join(["user,item,time", *lines]) + "\n")
    assert [item for _, item, _ in events] == kept
    assert rejected.by_reason == {"not valid CSV": len(lines) - len(kept)}
    assert rejected.examples[0] == f"{tmp_path / 't'}:2: not valid CSV (a quote is not closed)"


def test_a_stray_quote_in_a_column_that_is_not_read_loses_no_lines(tmp_path: Path) -> None:
    events, rejected = read(tmp_path / "t", 'user,item,title,time\nu,i,"24 inch,1\nu,j,x,2\nu,k,"9 inch,3\nu,l,,4\n')
    assert [item for _, item, _ in events] == ["j", "l"]
    assert rejected.total == 2


def write_parquet(path: Path, select: str) -> Path:
    duckdb.sql(f"SELECT {select} FROM range(3) AS numbers(n)").write_parquet(str(path))
    return path


@pytest.mark.parametrize(
    ("select", "columns", "event"),
    [
        ("'u' || n AS user_id, n AS item_id, 2.5 * n AS timestamp, [n] AS other", {}, ("u2", "2", 5.0)),
        ("n::INT8 AS uid, 'é' AS sku, TIMESTAMP '1970-01-02' AS at", {"timestamp": "at"}, ("2", "é", 86400.0)),
        ("'u' AS user, 'i' AS item, DATE '1970-01-02' AS date", {}, ("u", "i", 86400.0)),
        ("'u' AS user, 'i' AS item, '1970-01-01T00:00:03.5Z' AS time", {}, ("u", "i", 3.5)),
        ("'u' AS user, 'i' AS item, TIMESTAMPTZ '1970-01-01 02:00:00+02' AS time", {}, ("u", "i", 0.0)),
    ],
)
def test_parquet_is_read_as_a_table_is(
    tmp_path: Path, select: str, columns: dict[str, str], event: tuple[str, str, float]
) -> None:
    rejected = Rejected()
    path = write_parquet(tmp_path / "a [1]*.parquet", select)  # not a pattern of names
    events = list(table_events(path, rejected, columns))
    assert (len(events), events[2], rejected.total) == (3, event, 0)


def test_rows_of_parquet_that_cannot_be_used_are_counted_with_their_number(tmp_path: Path) -> None:
    select = (
        "CASE n WHEN 1 THEN NULL ELSE 'u' END AS user, 'i' AS item, CASE n WHEN 2 THEN 'NaN'::DOUBLE ELSE n END AS time"
    )
    path, rejected = write_parquet(tmp_path / "t.parquet", select), Rejected()
    assert list(table_events(path, rejected)) == [("u", "i", 0.0)]
    assert rejected.examples == [
        f'{path}: row 2: "user" is missing (None)',
        f'{path}: row 3: "time" is neither a number nor an ISO 8601 date (nan)',
    ]


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("'u' AS user, 'i' AS item", "no column for the timestamp"),
        ("n + 0.5::DOUBLE AS user, 'i' AS item, n AS time", r"column 'user' holds DOUBLE: store users and items as"),
        ("'u' AS user, [n] AS item, n AS time", r"column 'item' holds BIGINT\[\]"),
        ("'u' AS user, 'i' AS item, true AS time", "column 'time' holds BOOLEAN: store times as numbers"),
    ],
)
def test_parquet_without_the_columns_is_refused(tmp_path: Path, select: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(table_events(write_parquet(tmp_path / "t.parquet", select), Rejected()))


@pytest.mark.parametrize("keep", [4, 100, -20])
def test_parquet_that_is_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "t.parquet", "'u' AS user, 'i' AS item, n AS time")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"t\.parquet cannot be read as Parquet .*: it is damaged or cut off"):
        list(table_events(path, Rejected()))
