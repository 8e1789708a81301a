"""What `anthrotap verify` prints."""

from __future__ import annotations

from pathlib import Path

from anthrotap_hf.cli.verify import summary
from anthrotap_hf.data.row_checks import CheckedRow
from anthrotap_hf.data.verify import Report


def test_fifty_problems_are_listed():
    report = Report()
    for number in range(60):
        report.add("data/train-00000-of-00001.parquet", "bad", CheckedRow(number))
    printed = summary(Path("labels"), report)
    assert len(printed) == 52
    assert printed[50] == "... and 10 more problems; --json lists them"
    assert printed[51].startswith("labels: 60 problems in 0 files")
