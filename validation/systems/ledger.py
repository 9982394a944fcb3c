"""The ledger as `cascadesim claims` shows it: each figure beside its prediction, and what the latter is made of."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cascadesim.validation.systems.claim_row import ClaimRow
from cascadesim.validation.systems.predict import RowPrediction, predicted
from cascadesim.validation.systems.rows import read_rows
from cascadesim.validation.systems.system import CannotPredict, System, find_system, names_of, systems

SCHEMA = "cascadesim.claims/1"
SECONDS = ("attention", "model", "passes", "product")  # kinds of parts that are times


@dataclass(frozen=True)
class LedgerLine:
    """A figure and our answer: a prediction, or `kind` and `why` there is none."""

    row: ClaimRow
    prediction: RowPrediction | None
    kind: str = ""
    why: str = ""

    @property
    def value(self) -> float | None:
        return None if self.prediction is None else self.prediction.value

    @property
    def parts(self) -> Mapping[str, float]:
        return {} if self.prediction is None else self.prediction.parts

    @property
    def ratio(self) -> float | None:
        """Predicted over published."""
        return None if self.value is None or not self.row.value else self.value / self.row.value

    @property
    def known(self) -> bool:
        """Whether it says how accurate we are: every parameter is published, none was taken from it."""
        fitted = self.prediction is not None and self.prediction.rule.fitted
        return self.row.known and not self.row.backward and not fitted


@dataclass(frozen=True)
class Entry:
    """A system with all its figures."""

    system: System
    lines: tuple[LedgerLine, ...]

    @property
    def answered(self) -> tuple[LedgerLine, ...]:
        return tuple(line for line in self.lines if line.value is not None)

    @property
    def median_error(self) -> float | None:
        """Of the figures whose parameters are all known, backward passes left out."""
        errors = [abs(line.ratio - 1) for line in self.answered if line.ratio is not None and line.known]
        return statistics.median(errors) if errors else None

    @property
    def gaps(self) -> tuple[tuple[str, str, int], ...]:
        """(kind, why, how many figures), the most frequent first."""
        counted = Counter((line.kind, line.why) for line in self.lines if line.value is None)
        return tuple((kind, why, number) for (kind, why), number in counted.most_common())

    @property
    def says(self) -> str:
        """One line: what is predicted, or why nothing is."""
        if self.answered:
            return f"{len(self.answered)} of {len(self.lines)} predicted"
        if not self.lines:
            return "no row holds a figure"
        kind, why, _ = min(self.gaps, key=lambda gap: gap[0] != "missing")
        return f"{_WORDS[kind]} {why}"


_WORDS = {"lacks": "its figures lack", "missing": "we lack", "later": "waits for"}


def ledger(name: str | None = None, data: Path | None = None) -> tuple[Entry, ...]:
    """All systems, or one; `data`: rows of a file in the place of our own. Raises CascadeSimError."""
    chosen = systems().values() if name is None else (find_system(name),)
    rows = read_rows(data)
    return tuple(Entry(system, tuple(line_of(row) for row in rows if row.system == system.name)) for system in chosen)


def line_of(row: ClaimRow) -> LedgerLine:
    try:
        return LedgerLine(row, predicted(row))
    except CannotPredict as reason:
        return LedgerLine(row, None, reason.kind, str(reason))


def document(entries: Sequence[Entry]) -> dict[str, object]:
    """The JSON of `cascadesim claims`."""
    return {"schema": SCHEMA, "systems": [_system(entry) for entry in entries]}


def _system(entry: Entry) -> dict[str, object]:
    system = entry.system
    return {
        "name": system.name, "does": system.does, "source": system.source, "pattern": system.pattern,
        "rows": len(entry.lines), "predicted": len(entry.answered), "median_abs_relative_error": entry.median_error,
        "gaps": [{"kind": kind, "why": why, "rows": number} for kind, why, number in entry.gaps],
        "figures": list(rows((entry,))),
    }  # fmt: skip


def rows(entries: Iterable[Entry]) -> Iterator[dict[str, object]]:
    """One for each figure, SI units as `quantity` says."""
    for entry in entries:
        for line in entry.lines:
            row = line.row
            yield {
                "system": row.system, "id": row.id, "quantity": row.quantity, "published": row.value,
                "half_width": row.half_width, "predicted": line.value, "ratio": line.ratio, "role": row.role,
                "certainty": row.certainty, "device": row.device or None, "seq_len": row.seq_len, "batch": row.batch,
                "mechanism": row.mechanism, "phase": row.phase, "parts": dict(line.parts) or None,
                "answer": "predicted" if line.value is not None else line.kind, "why": line.why or None,
                "source": row.source,
            }  # fmt: skip


def times_of(entry: Entry, line: LedgerLine) -> Mapping[str, float]:
    """The times that a figure is made of, in seconds, by the names that its rule has for them."""
    rule = line.prediction.rule.predict if line.prediction else None
    names = [name for name in names_of(rule or "") if _is_time(entry.system, name)]
    if len(names) == 1 and (inner := entry.system.parts[names[0]].number) is not None:
        names = [name for name in names_of(str(inner)) if _is_time(entry.system, name)]
    return {name: line.parts[name] for name in names if name in line.parts}


def _is_time(system: System, name: str) -> bool:
    """A part that is a time, or is made of some; counts of bytes and the like are not."""
    part = system.parts.get(name)
    if part is None or part.kind in SECONDS:
        return part is not None
    return part.kind == "number" and any(_is_time(system, inner) for inner in names_of(str(part.number)))
