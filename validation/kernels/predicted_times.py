"""What the models say of every case that `measure` runs, written down before there is any record of it.

`python -m cascadesim.validation.kernels.predicted_times` writes measurements/predictions.csv anew: one row for each
GPU, case and variant, with the commit whose models made it, and a reason in place of a number where they predict none.
Reading it needs no model, so it also tells on a bare machine how long a run takes.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from cascadesim.validation.measure.cases import Case, cases

FILE = "predictions.csv"
GPUS: Mapping[str, str] = {"NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H200": "h200-sxm"}  # as the driver names them
COLUMNS = ("gpu", "suite", "case", "variant", "seconds", "why", "commit")
SOURCES = ("accelerators", "einsum_cascades", "kernels", "validation/*.py")  # what a prediction comes from
DIGITS = 6
NO_KERNEL = "no counts of it, or no kernel, for this device"
HEAD = (
    "# Times of every case and variant of `cascadesim measure`, with cold caches, as the models predict them.\n"
    "# Written before the first record existed; `why` stands where nothing is predicted.\n"
)


@dataclass(frozen=True)
class Predicted:
    """`seconds` None: nothing is predicted, `why`."""

    gpu: str
    suite: str
    case: str
    variant: str
    seconds: float | None
    why: str
    commit: str


@cache
def committed() -> Mapping[tuple[str, str, str, str], Predicted]:
    """(GPU, suite, case, variant) -> its row of the file that ships."""
    path = Path(str(resources.files("cascadesim.validation"))) / "measurements" / FILE
    if not path.exists():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = (Predicted(each["gpu"], each["suite"], each["case"], each["variant"],
                      float(each["seconds"]) if each["seconds"] else None, each["why"], each["commit"])
            for each in csv.DictReader(lines))  # fmt: skip
    return {(row.gpu, row.suite, row.case, row.variant): row for row in rows}


def made(commit: str) -> Iterator[Predicted]:
    """Of every case, by the models as they are."""
    for gpu, preset in GPUS.items():
        for case in cases():
            yield from _of_case(gpu, preset, case, commit)


def _of_case(gpu: str, preset: str, case: Case, commit: str) -> Iterator[Predicted]:
    from cascadesim.validation.kernels.measured_claims import seconds_of
    from cascadesim.validation.kernels.measured_rates import Library, Rated, predicted_of, seconds

    for variant, found in predicted_of(case).items():
        if isinstance(found, str):
            time_s, why = None, found
        else:
            time_s = seconds(found, preset) if isinstance(found, (Rated, Library)) else seconds_of(found, preset)
            why = NO_KERNEL if time_s is None else ""
        yield Predicted(gpu, case.suite, case.name, variant, time_s, why, commit)


def as_text(rows: Iterator[Predicted]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        time_s = "" if row.seconds is None else f"{row.seconds:.{DIGITS}g}"
        writer.writerow((row.gpu, row.suite, row.case, row.variant, time_s, row.why, row.commit))
    return HEAD + out.getvalue()


def _commit(folder: Path) -> str:
    """The one whose models predict. Exits with one line where the files are not those of a commit."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *SOURCES)
        if changed:
            sys.exit(f"predicted_times: predictions name a commit, so commit first: {' '.join(changed.split())[:200]}")
        return git("rev-parse", "--short=12", "HEAD")
    except (OSError, subprocess.SubprocessError):
        sys.exit("predicted_times: needs git and a checkout, because predictions name a commit")


def main() -> None:
    folder = Path(str(resources.files("cascadesim.validation"))).resolve()
    path = folder / "measurements" / FILE
    if any(path.parent.rglob("*.jsonl")) and path.exists():
        sys.exit("predicted_times: there are records; what was predicted before them stays as it is")
    text = as_text(made(_commit(folder.parent)))
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
