"""Full-ranking evaluation: users a second."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import roofline
from benchmarks.context import Context
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
        system = ours("finetune", context.data_path, dataset)
        if self.reference == "stock":
            other = stock_sasrec(context.data_path, dataset)
        else:
            other = literal("finetune", context.data_path, dataset, n_valid_users=_LITERAL_USERS)
        rates = alternate(lambda run: _evaluate(system), lambda run: _evaluate(other), context.times(_REPEATS))
        length = system.parts[1].inter_feat[system.config["ITEM_LIST_LENGTH_FIELD"]]
        cost = roofline.evaluation(system.config, system.parts[0], length, system.n_weights).per(system.n_users)
        details = {
            "spread": [rate.spread for rate in rates],
            "users": [system.n_users, other.n_users],
            "roofline": roofline.report(cost, rates[0].median),
        }
        return [Row(self.name, "users/s", rates[0].median, rates[1].median, details)]


def _evaluate(system: System) -> int:
    system.evaluate()
    return system.n_users


BENCHMARKS = (
    EvaluationBenchmark("evaluation vs stock SASRec", "stock", PANTRY),
    EvaluationBenchmark("evaluation vs literal", "literal", PANTRY),
    EvaluationBenchmark("evaluation vs stock SASRec, Office", "stock", OFFICE),
    EvaluationBenchmark("evaluation vs literal, Office", "literal", OFFICE),
)
