"""Counting what cannot be used."""

from __future__ import annotations

from dataset_prep.readers.rejected import EXAMPLES, Rejected


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


def test_text_from_files_cannot_command_the_terminal_through_reasons_or_examples() -> None:
    rejected = Rejected()
    rejected.add("a\x1b[2J.csv:2", '"who\x07" is missing', "\u202eNone\n")
    assert rejected.by_reason == {'"who\ufffd" is missing': 1}
    assert rejected.examples == ['a\ufffd[2J.csv:2: "who\ufffd" is missing (\ufffdNone\ufffd)']
