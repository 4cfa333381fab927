"""token_problem: which text can name a user or an item, for all readers and writers."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from recbole_msm4sr.data.tokens import MISSING, token_problem


@pytest.mark.parametrize("token", ["B00", "../x/y", "a b", " a", "é", "[PAD] ", "日本", 'six"', "na", "\u00a0a"])
def test_tokens_that_can_be_used(token: str) -> None:
    assert token_problem(token) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        "\u3000",
        "a\tb",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\x7f",
        "a\x85b",
        "a\u2028b",
        "[PAD]",
        "NA",
        "null",
        '"quoted',
        7,
        None,
        b"B00",
        "\ud800",
    ],
)
def test_tokens_that_cannot(token: object) -> None:
    assert token_problem(token) is not None


def test_missing_values_are_those_that_pandas_reads_as_such() -> None:
    words = sorted(MISSING - {""})
    assert pd.read_csv(io.StringIO("\n".join(["word", *words])))["word"].isna().all()
    assert token_problem("None") == token_problem("nan") == "stands for a missing value"
