"""Counting what cannot be used, and the tokens that cannot be."""

from __future__ import annotations

import pytest

from dataset_prep.readers.rejected import EXAMPLES, Rejected
from dataset_prep.tokens import token_problem


def test_all_are_counted_by_reason_and_the_first_few_are_shown() -> None:
    rejected = Rejected()
    for line in range(1, 8):
        rejected.add(f"a.json:{line}", "not valid JSON", "column 3")
    rejected.add("a.json:9", 'no "asin"')
    summary = rejected.as_dict()
    assert summary["total"] == rejected.total == 8
    assert summary["by_reason"] == {"not valid JSON": 7, 'no "asin"': 1}
    assert summary["examples"] == [f"a.json:{line}: not valid JSON (column 3)" for line in range(1, EXAMPLES + 1)]
    assert rejected.describe(1547, "records").startswith(
        '8 of 1,547 records left out: not valid JSON (7), no "asin" (1); a.json:1: not valid JSON (column 3); '
    )


@pytest.mark.parametrize("token", ["B00", "../x/y", "a b", "é", "[PAD] "])
def test_tokens_that_can_be_used(token: str) -> None:
    assert token_problem(token) is None


@pytest.mark.parametrize("token", ["", " ", "a\tb", "a\nb", "[PAD]", "NA", "null", '"quoted', 7, None, "\ud800"])
def test_tokens_that_cannot(token: object) -> None:
    assert token_problem(token) is not None
