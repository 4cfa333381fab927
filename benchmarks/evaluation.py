"""Full-ranking evaluation: users a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import roofline
from benchmarks.context import Context
from benchmarks.fresh_process import Resident
from benchmarks.generate import OFFICE, PANTRY, DatasetSize
from benchmarks.measure import alternate
from benchmarks.rows import Row
from benchmarks.systems import System, literal, ours, stock_sasrec

_REPEATS = 3
_LITERAL_USERS = 4096  # one batch of RecBole's default size; its text alone is 6.3 GB on the Pantry-sized set


@dataclass(frozen=True)
class EvaluationBenchmark:
    """Ours, on all users, against a reference.

    Attributes:
        name: of the row.
        reference: stock (RecBole's evaluation of its SASRec, all users) or literal (some users).
        size: the data set.
    """

    name: str
    reference: str
    size: DatasetSize

    def __call__(self, context: Context) -> list[Row]:
        dataset = context.dataset(self.size)
        where = context.data_path, dataset
        with Resident(ours, "finetune", *where) as own, Resident(_reference, self.reference, *where) as other:
            rates = alternate(lambda run: own(_evaluate), lambda run: other(_evaluate), context.times(_REPEATS))
            users = [own(System.count_users), other(System.count_users)]
            flop = own(_flop)
        details = {
            "spread": [rate.spread for rate in rates],
            "users": users,
            "roofline": roofline.report(flop, rates[0].median),
        }
        return [Row(self.name, "users/s", rates[0].median, rates[1].median, details)]


def _reference(name: str, data_path: Path, dataset: str) -> System:
    if name == "stock":
        return stock_sasrec(data_path, dataset)
    return literal("finetune", data_path, dataset, n_valid_users=_LITERAL_USERS)


def _evaluate(system: System) -> int:
    system.evaluate()
    return system.count_users()


def _flop(system: System) -> float:
    """Operations a user."""
    return roofline.flop_of(lambda: _evaluate(system))


BENCHMARKS = (
    EvaluationBenchmark("evaluation vs stock SASRec", "stock", PANTRY),
    EvaluationBenchmark("evaluation vs literal", "literal", PANTRY),
    EvaluationBenchmark("evaluation vs stock SASRec, Office", "stock", OFFICE),
    EvaluationBenchmark("evaluation vs literal, Office", "literal", OFFICE),
)
