"""The rows of the ledger: the project's own copy, or a user's file of the collected or of the clean columns.

A file is told by its header: `claim_id` is the collected one's, which goes through `clean`. What was dropped of it
comes with the rows, each with its reason.
"""

from __future__ import annotations

import re
from pathlib import Path

from cascadesim.einsum_cascades.notation.schema import LARGEST_TABLE_BYTES, read_text
from cascadesim.validation.systems.claim_row import CLEAN, ClaimRow, claim_row
from cascadesim.validation.systems.clean import DROPPED, Cleaned, clean
from cascadesim.validation.table import parse_table, published_text

__all__ = ["FILE", "ClaimRow", "read_ledger", "read_rows"]
FILE = "systems.csv"
_DROPPED = re.compile(rf"{DROPPED}([^:]+): (.+)")


def read_rows(path: Path | None = None) -> tuple[ClaimRow, ...]:
    """The rows of a file; of our own copy without one. Raises SpecError with every problem of the file."""
    return read_ledger(path).rows


def read_ledger(path: Path | None = None) -> Cleaned:
    """The rows of a file and (id, why) of what holds no figure. Raises SpecError with every problem of the file."""
    text = published_text(FILE) if path is None else read_text(path, LARGEST_TABLE_BYTES)
    return parse_ledger(text, FILE if path is None else path.name)


def parse_ledger(text: str, source: str) -> Cleaned:
    """`read_ledger` of a text; `source` names it in errors."""
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if "claim_id" in (name.strip().lower() for name in header.split(",")):
        return clean(text, source)
    table = parse_table(text, CLEAN, source)
    dropped = (_DROPPED.fullmatch(comment) for comment in table.comments)
    rows = tuple(claim_row(dict(row.cells)) for row in table.rows)
    return Cleaned(rows, tuple((each[1], each[2]) for each in dropped if each))
