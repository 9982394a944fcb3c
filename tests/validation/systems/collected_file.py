"""The collected file, written from the cells that a test gives, and read as rows of ours."""

from __future__ import annotations

import csv
from io import StringIO

from cascadesim.validation.systems.claim_row import ClaimRow
from cascadesim.validation.systems.clean import RAW, Cleaned, clean

NAMES = [column.name for column in RAW.columns]
FIRST = {"system": "Some", "claim_id": "some-01", "quantity": "latency_ms", "value": "12.5", "unit": "ms",
         "device": "H100-80GB", "certainty": "exact", "source": "a paper"}  # fmt: skip


def written(*rows: dict[str, str]) -> str:
    stream = StringIO()
    writer = csv.DictWriter(stream, NAMES, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**FIRST, "claim_id": f"some-{place:02}", **row} for place, row in enumerate(rows, start=1))
    return stream.getvalue()


def read(*rows: dict[str, str]) -> Cleaned:
    return clean(written(*rows), "some.csv")


def one(**cells: str) -> ClaimRow:
    (row,) = read(cells).rows
    return row
