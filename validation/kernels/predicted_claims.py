"""`kernels-predicted`: the times that were committed before any record existed, against the records.

Judged before every other suite of records, and never changed by what was measured: `predictions.csv` says of each row
which commit's models made it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, positive
from cascadesim.validation.kernels.measured_calls import calls_of
from cascadesim.validation.kernels.measured_claims import is_right, median_us
from cascadesim.validation.kernels.predicted_times import committed
from cascadesim.validation.kernels.record_lines import Record
from cascadesim.validation.table import Row

OURS, RATES, LIBRARY = "kernels of ours", "rates", "library"
WITHIN = 0.25
LAUNCH = "launch"  # a case of the microbenchmarks
LAYOUT = Layout(
    (
        Column("gpu", str), Column("suite", str), Column("case", str), Column("kernel", str), Column("kind", str),
        Column("commit", str), Column("latency_s", positive),
    ),
    key=("gpu", "suite", "case", "kernel"),
)  # fmt: skip


def as_committed(row: Row, settings: Settings = ()) -> Prediction:
    """No model runs; `settings` change nothing of what was written down."""
    return {"latency_s": committed()[_key(row.text("gpu"), row.text("suite"), row.text("case"), row.text("kernel"))]
            .seconds}  # fmt: skip


def _key(gpu: str, suite: str, case: str, kernel: str) -> tuple[str, str, str, str]:
    return gpu, suite, case, kernel


KERNELS_PREDICTED = Suite(
    "kernels-predicted",
    "times of our kernels as committed before the first record, against the records",
    "measurements",
    LAYOUT,
    as_committed,
    (
        Claim("our kernels, as predicted before the first record", "latency_s", WITHIN,
              "assumed: half of them within a quarter; of public kernels that no constant was fitted to, half are "
              "within about a tenth", where={"kind": (OURS,)}, gate="median"),
        Claim("single rates, likewise, reported only", "latency_s", None, "each checks one constant of the model",
              where={"kind": (RATES,)}),
        Claim("the library's kernels, likewise, reported only", "latency_s", None,
              "the model's kernel may be another version's", where={"kind": (LIBRARY,)}),
    ),
    ("gpu", "suite", "kernel"),
)  # fmt: skip


def rows_of_predicted(records: Iterable[Record]) -> Iterator[dict[str, str | int | float]]:
    """One for each variant with a committed time: ours where the result is right."""
    for record in records:
        suite, gpu = record["suite"], record["device"]["name"]
        ours = calls_of(suite, record["shape"], record.get("work", {}))
        for name, samples in record["timing"].items():
            row = committed().get((gpu, suite, record["case"], name))
            if row is None or row.seconds is None or not (samples.get("cold") or samples.get("hot")):
                continue
            if name in ours and not is_right(record, name):
                continue
            kind = RATES if suite == "microbenchmarks" else OURS if name in ours else LIBRARY
            yield {"gpu": gpu, "suite": suite, "case": record["case"], "kernel": name, "kind": kind,
                   "commit": row.commit, "latency_s": _measured_us(record["case"], samples) * 1e-6}  # fmt: skip


def _measured_us(case: str, samples: Mapping[str, Sequence[float]]) -> float:
    """A launch is told by many in a row: two events alone are farther apart."""
    return statistics.median(samples["many"]) if case == LAUNCH and samples.get("many") else median_us(samples)
