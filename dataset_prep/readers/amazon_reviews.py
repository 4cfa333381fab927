"""Events of the Amazon releases of 2018 and 2023, from their reviews or from their tables of ratings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from dataset_prep.readers.events import Event, checked_number, checked_token, named_token
from dataset_prep.readers.jsonl import LeaveOut, each_line, json_object
from dataset_prep.readers.lines import read_lines
from dataset_prep.readers.rejected import ReasonError, Rejected
from recbole_msm4sr.core.errors import UserError


@dataclass(frozen=True)
class ReviewFormat:
    """What a release calls the fields of a review, and the order of its table of ratings."""

    user: str
    item: str
    time: str
    ticks: int  # of its clock in a second
    columns: tuple[str, ...]


FORMATS = {
    # Its tables of ratings have no header, and the item first; those of 2014 have the user first.
    2018: ReviewFormat("reviewerID", "asin", "unixReviewTime", 1, ("asin", "reviewerID", "overall", "unixReviewTime")),
    # asin is the variant (a colour, a size) that was bought; the metadata is by parent_asin.
    2023: ReviewFormat("user_id", "parent_asin", "timestamp", 1000, ("user_id", "parent_asin", "rating", "timestamp")),
}
_ASIN_LENGTH = 10


def amazon_events(path: str | os.PathLike[str], release: int, rejected: Rejected) -> Iterator[Event]:
    """Yield the events of a file of reviews (JSON lines, full or 5-core) or of ratings (CSV), gzip or not, in order.

    What a file holds is seen from its first line. Every rating is an event, whatever its value (section IV-A).

    Args:
        release: 2018 or 2023.
        rejected: records that cannot be used are counted there, with file and line.

    Raises:
        UserError: the columns are those of 2014, or as :func:`~dataset_prep.readers.lines.read_lines`.
    """
    fields = FORMATS[release]
    lines = read_lines(path)
    first = next((found for found in lines if not found[1].isspace()), None)
    if first is None:
        return
    if first[1].lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
        parse, has_header = _review_parser(fields), False
    else:
        parse, has_header = _rating_parser(fields, first[1], f"{path}:{first[0]}")
    yield from each_line(path, lines if has_header else chain([first], lines), parse, rejected)


def _review_parser(fields: ReviewFormat) -> Callable[[bytes, LeaveOut], Event]:
    def parse(line: bytes, leave_out: LeaveOut) -> Event:
        record = json_object(line)
        user, item = named_token(record, fields.user), named_token(record, fields.item)
        if record.get(fields.time) is None:
            raise ReasonError(f'no "{fields.time}"')
        return user, item, checked_number(record[fields.time], fields.time) / fields.ticks

    return parse


def _rating_parser(fields: ReviewFormat, first: bytes, where: str) -> tuple[Callable[[bytes, LeaveOut], Event], bool]:
    """The parser of a table of ratings, and whether the first line is a header. The tables have no quotes."""
    cells = first.decode("utf-8-sig", errors="replace").strip().split(",")
    has_header = {fields.user, fields.item, fields.time} <= set(cells)
    columns = cells if has_header else list(fields.columns)
    user, item, time = (columns.index(field) for field in (fields.user, fields.item, fields.time))
    item_first = not has_header and item < user
    if item_first and len(cells) > user and len(cells[user]) == _ASIN_LENGTH < len(cells[item]):
        raise UserError(
            f"{where}: the user stands before the item, as in the release of 2014; in that of 2018 it is the other way "
            "round: put the line user_id,item_id,rating,timestamp in front and read it as a data set of your own"
        )

    def parse(line: bytes, leave_out: LeaveOut) -> Event:
        try:
            cells = line.decode("utf-8").rstrip("\r\n").split(",")
        except UnicodeDecodeError as error:
            raise ReasonError("not UTF-8", error.reason) from None
        if len(cells) != len(columns):
            raise ReasonError(f"does not have {len(columns)} cells", f"{len(cells)}")
        return (
            checked_token(cells[user], fields.user),
            checked_token(cells[item], fields.item),
            checked_number(cells[time], fields.time) / fields.ticks,
        )

    return parse, has_header
