"""All events in DuckDB: loaded once, filtered by rules, and read in the order of the ``.inter`` file.

DuckDB is embedded, uses all cores, and moves what does not fit into its memory to files in a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from dataset_prep.interactions.rules import MEMORY, Rules, check_memory
from dataset_prep.interactions.table_one import Sizes
from dataset_prep.readers.events import Event
from recbole_msm4sr.core.errors import UserError

_BATCH = 100_000  # events that are held as Python objects at a time
#: Which of a user's events with the same item stay; of equal times, by the order of the input, which ``n`` is.
_ONE_OF_A_PAIR = "SELECT * FROM given QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY {}) = 1"
_REPEATS = {
    "all": "SELECT * FROM given",
    "distinct": "SELECT min(n) AS n, user_id, item_id, time FROM given GROUP BY user_id, item_id, time",
    "first": _ONE_OF_A_PAIR.format("time, n"),
    "last": _ONE_OF_A_PAIR.format("time DESC, n DESC"),
}


@contextmanager
def event_table(folder: Path, memory: str = MEMORY, threads: int = 1) -> Iterator[EventTable]:
    """Yield an empty table that moves data to ``folder`` when ``memory`` is full; afterwards the folder is gone.

    Raises:
        UserError: ``memory`` has another form, or neither it nor the disk is enough.
    """
    check_memory(memory)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    settings: dict[str, Any] = {
        "memory_limit": memory,
        "threads": threads,
        "temp_directory": str(folder),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            yield EventTable(connection)
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        cause = " ".join(str(error).split("\n\n")[0].split())
        raise UserError(
            f"the interactions need more memory or disk space ({cause}): give more with --memory, or free space on the "
            f"disk of {folder}"
        ) from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class EventTable:
    """Events in two tables: ``events``, all of them, and ``kept``, those that the rules applied last have left.

    ``n`` numbers the events in the order of the input. A user's (an item's) number is that of its first event.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._sql = connection.execute

    def load(self, events: Iterable[Event], item_sets: Mapping[str, Collection[str]] | None = None) -> Sizes:
        """Read all events, and the sets of items that rules can name; returns how large they are together."""
        self._sql("CREATE TABLE given (n BIGINT, user_id VARCHAR, item_id VARCHAR, time DOUBLE)")
        n, stream = 0, iter(events)
        while batch := list(islice(stream, _BATCH)):
            users, items, times = zip(*batch, strict=True)
            numbers = np.arange(n, n + len(batch))
            columns = {"n": numbers, "user_id": _texts(users), "item_id": _texts(items), "time": np.array(times)}
            self._insert("given", columns)
            n += len(batch)
        for kind in ("user", "item"):
            self._sql(f"CREATE TABLE {kind}s AS SELECT {kind}_id AS token, min(n) AS id FROM given GROUP BY token")
        self._sql(
            "CREATE TABLE events AS SELECT n, users.id AS user_id, items.id AS item_id, time FROM given "
            "JOIN users ON user_id = users.token JOIN items ON item_id = items.token"
        )
        self._sql("DROP TABLE given")
        self._sql("CREATE TABLE item_sets (name VARCHAR, token VARCHAR)")
        for name, tokens in (item_sets or {}).items():
            self._insert("item_sets", {"name": _texts([name] * len(tokens)), "token": _texts(tokens)})
        return self._sizes("events")

    def apply(self, rules: Rules) -> dict[str, int]:
        """Fill ``kept`` anew. Returns: rule in words -> how many events were left after it, in order."""
        left: dict[str, int] = {}
        given = "SELECT * FROM events"
        if rules.item_set is not None:
            self._sql("SET VARIABLE item_set = ?", [rules.item_set])
            in_set = "SELECT token FROM item_sets WHERE name = getvariable('item_set')"
            given += f" WHERE item_id IN (SELECT id FROM items WHERE token IN ({in_set}))"
            left[f"items with {rules.item_set}"] = self._number(f"SELECT count(*) FROM ({given})")
        self._sql(f"CREATE OR REPLACE TABLE kept AS WITH given AS ({given}) {_REPEATS[rules.repeats]}")
        left[rules.describe_repeats()] = self._number("SELECT count(*) FROM kept")
        self._drop_rare("user", rules.min_user)
        left[f"users >= {rules.min_user}"] = self._number("SELECT count(*) FROM kept")
        if rules.min_item:
            dropped = self._drop_rare("item", rules.min_item)
            while dropped and rules.to_fixed_point:
                dropped = self._drop_rare("user", rules.min_user) and self._drop_rare("item", rules.min_item)
            left[rules.describe_core()] = self._number("SELECT count(*) FROM kept")
        return left

    def kept_sizes(self) -> Sizes:
        """How much the rules applied last have left."""
        return self._sizes("kept")

    def kept(self) -> Iterator[list[Event]]:
        """What is left: users in the order of their first event, each user's by time; in batches."""
        found = self._sql(
            "SELECT users.token, items.token, time FROM kept "
            "JOIN (SELECT user_id, min(n) AS first FROM kept GROUP BY user_id) USING (user_id) "
            "JOIN users ON users.id = user_id JOIN items ON items.id = item_id ORDER BY first, time, n"
        )
        while events := found.fetchmany(_BATCH):
            yield events

    def _drop_rare(self, kind: str, least: int) -> int:
        """Drop the events of users (items) with fewer than ``least``; returns how many went."""
        rare = f"SELECT {kind}_id FROM kept GROUP BY {kind}_id HAVING count(*) < {least:d}"
        return self._number(f"DELETE FROM kept WHERE {kind}_id IN ({rare})")

    def _insert(self, table: str, columns: dict[str, NDArray]) -> None:
        self._connection.register("batch", columns)
        self._sql(f"INSERT INTO {table} SELECT * FROM batch")

    def _sizes(self, table: str) -> Sizes:
        found = self._sql(f"SELECT count(DISTINCT user_id), count(DISTINCT item_id), count(*) FROM {table}").fetchone()
        return Sizes(*found) if found else Sizes(0, 0, 0)

    def _number(self, query: str) -> int:
        found = self._sql(query).fetchone()
        return int(found[0]) if found else 0


def _texts(tokens: Collection[str]) -> NDArray:
    return np.array(list(tokens), dtype=object)
