"""What a claim is: figures of a table that a model must reproduce, how closely, and why that closely.

A suite is a table of published or measured figures, the model that predicts them, and the claims about the two; a
verdict is what judging a claim found. The claims are a table of their own, `claims/claims.csv`; `suites` finds the
suites, reads their tables and judges them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from typing import Literal, TypeAlias, cast, get_args

from cascadesim.validation import table
from cascadesim.validation.table import Column, Layout, ParseTable, Row, RowGroup, Value, columns_of, member

Selection: TypeAlias = Mapping[str, tuple[Value, ...]]  # column -> allowed values; all columns must agree
Settings: TypeAlias = Sequence[str]  # dotted.field=value changes of the architecture, to see a claim fail
PredictedFigures: TypeAlias = Mapping[str, float | None]  # column -> figure of the model
Predict: TypeAlias = Callable[[Row, Settings], PredictedFigures]
Measure: TypeAlias = Literal["deviation", "shortfall", "excess"]
Gate: TypeAlias = Literal["maximum", "median", "absolute", "pooled", "ranking", "roofline", "mean", "tail", "bias",
                         "systems", "within", "rounded", "gaps"]


@dataclass(frozen=True)
class Claim:
    """`columns` of the selected rows agree with the model within `tolerance`, `because` of what.

    tolerance None: reported, not judged. measure: `deviation` is |predicted/measured - 1|; `shortfall` and `excess`
    count one side of it only. gate: what the tolerance bounds: the largest error, the median one, or the largest
    |predicted - measured| (figures printed to a fixed number of decimals); the others are figures that the suite's
    own `judge` works out. fitted: a check that a constant still fits the cells it was fitted to, which scores nothing
    (`compare` keeps the two apart). listed: every explained figure is printed, also where nothing is judged.
    """

    name: str
    metric: str
    tolerance: float | None
    because: str
    columns: tuple[str, ...] = ()  # empty: the column called like the metric
    where: Selection = field(default_factory=dict)
    unless: Selection = field(default_factory=dict)
    measure: Measure = "deviation"
    fitted: bool = False
    gate: Gate = "maximum"
    listed: bool = False

    @property
    def scored_columns(self) -> tuple[str, ...]:
        return self.columns or (self.metric,)

    def selects(self, row: Row) -> bool:
        return _agrees(row, self.where) and not (self.unless and _agrees(row, self.unless))


def _agrees(row: Row, selection: Selection) -> bool:
    return all(row.get(column) in values for column, values in selection.items())


@dataclass(frozen=True)
class Cell:
    """One figure, measured and predicted. A model without that figure predicts None."""

    row: Row
    column: str
    measured: float
    predicted: float | None

    @property
    def ratio(self) -> float | None:
        """predicted / measured; None where that says nothing."""
        if self.predicted is None or self.measured == 0:
            return 1.0 if self.predicted == self.measured else None
        return self.predicted / self.measured

    @property
    def difference(self) -> float:
        """|predicted - measured|."""
        return math.inf if self.predicted is None else abs(self.predicted - self.measured)

    def error(self, measure: Measure) -> float:
        """Infinite where nothing was predicted, or something where nothing was measured."""
        if self.ratio is None:
            return math.inf
        deviation = self.ratio - 1
        return {"deviation": abs(deviation), "shortfall": max(0.0, -deviation), "excess": max(0.0, deviation)}[measure]


@dataclass(frozen=True)
class Errors:
    """Relative errors of several cells; `rows` is the number of rows they lie in."""

    rows: int
    cells: int
    mean: float
    median: float
    p90: float  # nine tenths of the cells are within
    maximum: float


@dataclass(frozen=True)
class StratumErrors:
    """The errors of the rows in which `column` holds `value`; figures of merit where the suite has its own judge."""

    column: str
    value: Value
    errors: Errors
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A claim judged on some rows.

    `reasons`: why each cell misses, where the suite explains that. `figures`: those of all strata together, gates
    among them, where the suite has its own judge.
    """

    suite: str
    claim: Claim
    source: str
    errors: Errors
    worst: Cell
    strata: tuple[StratumErrors, ...]
    cells: tuple[Cell, ...] = ()
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def gated(self) -> float:
        """The error that the tolerance bounds."""
        if self.claim.gate in self.figures:
            found = self.figures[self.claim.gate]
            return math.inf if found is None else found
        if self.claim.gate == "absolute":
            return max(cell.difference for cell in self.cells)
        return self.errors.median if self.claim.gate == "median" else self.errors.maximum

    @property
    def judged(self) -> bool:
        return self.claim.tolerance is not None

    @property
    def holds(self) -> bool:
        """True also of what is only reported: nothing is claimed there."""
        return self.claim.tolerance is None or self.gated <= self.claim.tolerance


@dataclass(frozen=True)
class Suite:
    """Claims about one table of figures.

    `strata`: the columns whose values errors are also reported by. `parse`: text of a file -> table, where rows must
    be picked or read from another form. `explain`: why a figure misses, for suites that list every one of them.
    `more`: further files in published/. `judge`: cells of a claim -> its verdict, in place of `compare`'s.
    """

    name: str
    data: str  # file in published/
    layout: Layout
    predict: Predict
    claims: tuple[Claim, ...]
    strata: tuple[str, ...]
    parse: ParseTable = table.parse_table
    explain: Callable[[Row], str] | None = None
    more: tuple[str, ...] = ()
    judge: Judge | None = None


Judge: TypeAlias = Callable[[Suite, Claim, str, Sequence[Cell]], Verdict]


def together(figures_of: Callable[[Sequence[Row], Settings], Sequence[PredictedFigures]]) -> Predict:
    """Predicts a row with all rows of its group, at once; they are remembered, and a row finds its own by its place."""

    @lru_cache(maxsize=1024)
    def remembered(group: RowGroup, settings: tuple[str, ...]) -> Sequence[PredictedFigures]:
        return figures_of(group.rows, settings)

    def predict(row: Row, settings: Settings = ()) -> PredictedFigures:
        return remembered(member(row).group, tuple(settings))[member(row).position]

    return predict


def _one_of(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected {', '.join(known)}, got '{text}'")
        return text

    return parse


_CLAIMS = Layout(
    (
        *columns_of(str, "suite claim"), Column("tolerance", table.not_negative, required=False),
        *columns_of(str, "because metric"), *columns_of(str, "columns where unless", required=False),
        Column("measure", _one_of(*get_args(Measure)), required=False),
        Column("gate", _one_of(*get_args(Gate)), required=False),
        Column("kind", _one_of("fitted", "listed"), required=False),
    ),
    key=("suite", "claim"),
)  # fmt: skip


@cache
def _stated() -> Sequence[Row]:
    text = resources.files("cascadesim.validation").joinpath("claims", "claims.csv").read_text(encoding="utf-8")
    return table.parse_table(text, _CLAIMS, "claims.csv").rows


def claims_of(suite: str, layout: Layout) -> tuple[Claim, ...]:
    """The claims of a suite over a table of this layout, in their order. Raises ValueError where one names no column
    or value of it."""

    def selection(row: Row, name: str) -> Selection:
        return dict(layout.condition(each, "|") for each in str(row.get(name) or "").split("; ") if each)

    return tuple(
        Claim(
            row.text("claim"), row.text("metric"), row.number("tolerance"), row.text("because"),
            tuple(str(row.get("columns") or "").split()), selection(row, "where"), selection(row, "unless"),
            cast(Measure, row.get("measure") or "deviation"), row.get("kind") == "fitted",
            cast(Gate, row.get("gate") or "maximum"), row.get("kind") == "listed",
        )
        for row in _stated() if row.get("suite") == suite
    )  # fmt: skip


def default_verdict(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Every cell counts alike; each column of `suite.strata` divides the cells by its values."""
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    strata = []
    for column in suite.strata:
        for value in dict.fromkeys(cell.row.get(column) for cell in cells):
            group = [cell for cell in cells if cell.row.get(column) == value]
            strata.append(StratumErrors(column, value, errors(group, claim.measure)))
    reasons = tuple(suite.explain(cell.row) for cell in cells) if suite.explain and not claim.fitted else ()
    return Verdict(suite.name, claim, source, errors(cells, claim.measure), worst, tuple(strata), tuple(cells), reasons)


def errors(cells: Sequence[Cell], measure: Measure) -> Errors:
    """Mean, median, 90th percentile and largest error of at least one cell."""
    found = [cell.error(measure) for cell in cells]
    p90 = sorted(found)[math.ceil(0.9 * len(found) - 1e-9) - 1]
    return Errors(len({id(cell.row) for cell in cells}), len(cells), statistics.fmean(found), statistics.median(found),
                  p90, max(found))  # fmt: skip
