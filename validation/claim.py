"""What a claim is: figures of a table that a model must reproduce, how closely, and why that closely.

A suite is a table of published or measured figures, the model that predicts them, and the claims about the two.
Values only: `compare` judges them, `claims` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from cascadesim.validation.columns import Layout, Value
from cascadesim.validation.table import ParseTable, Row, parse_table

if TYPE_CHECKING:
    from cascadesim.validation.compare import Cell, Verdict

Selection: TypeAlias = Mapping[str, tuple[Value, ...]]  # column -> allowed values; all columns must agree
Settings: TypeAlias = Sequence[str]  # dotted.field=value changes of the architecture, to see a claim fail
Prediction: TypeAlias = Mapping[str, float | None]  # column -> figure of the model
Predict: TypeAlias = Callable[[Row, Settings], Prediction]
Measure: TypeAlias = Literal["deviation", "shortfall", "excess"]
Gate: TypeAlias = Literal["maximum", "median", "absolute", "pooled", "ranking", "roofline", "mean", "tail"]


@dataclass(frozen=True)
class Claim:
    """`columns` of the selected rows agree with the model within `tolerance`, `because` of what.

    tolerance None: reported, not judged. measure: `deviation` is |predicted/measured - 1|; `shortfall` and `excess`
    count one side of it only. gate: what the tolerance bounds: the largest error, the median one, or the largest
    |predicted - measured| (figures printed to a fixed number of decimals); the others are figures that the suite's
    own `judge` works out. fitted: a check that a constant still fits the cells it was fitted to, which scores nothing
    (`calibration` keeps the two apart). listed: every explained figure is printed, also where nothing is judged.
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
class Suite:
    """Claims about one table of figures.

    `strata`: the columns whose values errors are also reported by. `parse`: text of a file -> table, where rows must
    be picked or read from another form. `explain`: why a figure misses, for suites that list every one of them.
    `more`: further files in published/. `judge`: cells of a claim -> its verdict, in place of `compare`'s.
    """

    name: str
    about: str
    data: str  # file in published/
    layout: Layout
    predict: Predict
    claims: tuple[Claim, ...]
    strata: tuple[str, ...]
    parse: ParseTable = parse_table
    explain: Callable[[Row], str] | None = None
    more: tuple[str, ...] = ()
    judge: Callable[[Suite, Claim, str, Sequence[Cell]], Verdict] | None = None
