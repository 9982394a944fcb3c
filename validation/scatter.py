"""`validate --plot`: predicted against measured, one panel a suite, one colour a kind of row.

Draws the first judged or reported claim of each suite (calibration rows are never drawn). Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.compare import Cell, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
COLOURED_BY = ("device", "architecture", "workload", "kind")  # the first that the rows have
PANEL_INCHES = 4.2
COLUMNS = 3
BAND = 1.2  # within 20 %


def draw(verdicts: Sequence[Verdict], path: Path) -> None:
    """Writes `path`. Raises CascadeSimError on another format or a place that cannot be written."""
    if path.suffix.lower() not in FORMATS:
        raise CascadeSimError(f"--plot: expected a file ending in {' or '.join(FORMATS)}, got '{path}'")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    panels = _panels(verdicts)
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * rows), layout="constrained")
    for place, (suite, cells) in enumerate(panels.items(), start=1):
        _panel(figure.add_subplot(rows, columns, place), suite, cells)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise CascadeSimError(f"--plot: {path}: cannot be written: {error.strerror}") from None


def _panels(verdicts: Sequence[Verdict]) -> Mapping[str, Sequence[Cell]]:
    """Suite -> the cells of its first claim that have a logarithm."""
    first: dict[str, Verdict] = {}
    for verdict in verdicts:
        if not verdict.claim.fitted:
            first.setdefault(verdict.suite, verdict)
    return {suite: [cell for cell in verdict.cells if cell.measured > 0 and (cell.predicted or 0) > 0]
            for suite, verdict in first.items()}  # fmt: skip


def _panel(axes: Axes, suite: str, cells: Sequence[Cell]) -> None:
    axes.set_title(suite)
    if not cells:
        return
    low, high = min(cell.measured for cell in cells), max(cell.measured for cell in cells)
    axes.fill_between([low, high], [low / BAND, high / BAND], [low * BAND, high * BAND], color="0.9", label="±20 %")
    axes.plot([low, high], [low, high], color="0.5", linewidth=0.8)
    for kind, some in _kinds(cells).items():
        axes.scatter([cell.measured for cell in some], [cell.predicted or 0 for cell in some], s=5, alpha=0.5,
                     linewidths=0, label=kind)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=f"measured ({cells[0].column})", ylabel="predicted")
    axes.legend(fontsize=6, markerscale=2, frameon=False)


def _kinds(cells: Sequence[Cell]) -> Mapping[str, Sequence[Cell]]:
    column = next((name for name in COLOURED_BY if cells[0].row.get(name) is not None), COLOURED_BY[0])
    names = sorted({str(cell.row.get(column)) for cell in cells})
    return {name: [cell for cell in cells if str(cell.row.get(column)) == name] for name in names}
