"""Suites that hold models against our own measurements. Where there are no records they say so, and have not passed.

Records are JSON lines that `cascadesim measure` writes; they live under measurements/<device>/ beside this module, or
where `--data` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.kernels.record_lines import Record, read

if TYPE_CHECKING:
    from cascadesim.validation.compare import Verdict

RECORD_SUITES: Mapping[str, str] = {
    "kernels-predicted": "the times that were committed before the first record, against our kernels'",
    "kernels-measured": "the GPU model's times against our kernels'",
    "gna-kernels": "the GNA simulator's speedup against our kernel's",
    "spatten-kernels": "savings of pruning against counters of our kernels: bytes from DRAM, matrix instructions",
    "cascade-passes": "bytes that 1-, 2- and 3-pass kernels read, against the cascades' lower bounds",
}
FROM_COUNTERS = ("spatten-kernels", "cascade-passes")


@dataclass(frozen=True)
class Records:
    """What some files hold. `complaints`: one line for each file with damaged lines."""

    files: tuple[Path, ...]
    records: tuple[Record, ...] = ()
    complaints: tuple[str, ...] = ()

    def verdicts(self, name: str) -> tuple[Verdict, ...]:
        """None where there is no record, or nothing to hold it against."""
        if not self.records:
            return ()
        from cascadesim.validation.kernels.record_claims import judged

        return judged(name, self.records)

    def not_judged(self, name: str) -> str:
        """One line that says why the suite judges nothing."""
        if not self.records:
            options = " --counters" * (name in FROM_COUNTERS)
            return f"{name}: no records, so not passed; `cascadesim measure{options}` on a GPU writes them"
        return f"{name}: {len(self.files)} files of records, but nothing to hold against them, so not passed"


def own_records() -> Records:
    """Those that ship."""
    return _read(Path(str(resources.files("cascadesim.validation"))) / "measurements")


def records_of(path: Path) -> Records:
    """A file, or a folder with files. Raises CascadeSimError where there is none."""
    found = _read(path)
    if not found.files:
        raise CascadeSimError(f"{path}: no file of records (.jsonl) there")
    return found


def _read(path: Path) -> Records:
    files = tuple(sorted(path.rglob("*.jsonl"))) if path.is_dir() else (path,) if path.exists() else ()
    lines = [read(file) for file in files]
    return Records(files, tuple(record for each in lines for record in each.records),
                   tuple(each.complaint for each in lines if each.complaint is not None))  # fmt: skip


def divided(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(suites of published figures, suites of records) among the named ones; all of the latter if none is named."""
    if not names:
        return (), tuple(RECORD_SUITES)
    return tuple(name for name in names if name not in RECORD_SUITES), tuple(
        name for name in dict.fromkeys(names) if name in RECORD_SUITES
    )
