"""Suites that hold models against our own measurements. Where there are no records they say so, and have not passed.

Records are JSON lines that `cascadesim measure` writes; they live under measurements/<device>/ beside this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.validation.compare import Verdict

RECORD_SUITES: Mapping[str, str] = {
    "kernels-measured": "the GPU model's times against our kernels'",
    "gna-kernels": "the GNA simulator's speedup against our kernel's",
    "spatten-kernels": "savings of pruning against counters of our kernels: bytes from DRAM, matrix instructions",
    "cascade-passes": "bytes that 1-, 2- and 3-pass kernels read, against the cascades' lower bounds",
}
FROM_COUNTERS = ("spatten-kernels", "cascade-passes")


def record_files() -> tuple[Path, ...]:
    folder = Path(str(resources.files("cascadesim.validation"))) / "measurements"
    return tuple(sorted(folder.rglob("*.jsonl")))


def divided(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(suites of published figures, suites of records) among the named ones; all of the latter if none is named."""
    if not names:
        return (), tuple(RECORD_SUITES)
    return tuple(name for name in names if name not in RECORD_SUITES), tuple(
        name for name in dict.fromkeys(names) if name in RECORD_SUITES
    )


def verdicts_of_records(name: str) -> tuple[Verdict, ...]:
    """None where there is no record, or nothing to hold it against."""
    files = record_files()
    if not files:
        return ()
    from cascadesim.validation.record_claims import judged

    return judged(name, files)


def not_judged(name: str) -> str:
    """One line that says why the suite judges nothing."""
    files = record_files()
    if not files:
        options = " --counters" * (name in FROM_COUNTERS)
        return f"{name}: no records, so not passed; `cascadesim measure{options}` on a GPU writes them"
    return f"{name}: {len(files)} files of records, but nothing to hold against them, so not passed"
