"""The figures of the FuseMax evaluation (spec section 10), drawn for whatever was simulated.

Several reports: utilisation, activity by Einsum, speedup and energy, latency against area (`plot_comparison`). One
report: where its time and energy go (`plot_single`). Files without a date, so that equal runs give equal files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cascadesim.simulator.report import Report

DOTS_PER_INCH = 150


def draw(reports: Sequence[Report], target: Path) -> None:
    """A figure in the format that the suffix of `target` names: .png or .svg."""
    import matplotlib

    from cascadesim.simulator.views.plot_comparison import comparison_figure
    from cascadesim.simulator.views.plot_single import single_figure
    from cascadesim.simulator.views.plot_style import STYLE

    with matplotlib.rc_context(cast(Any, STYLE)):
        figure = single_figure(reports[0]) if len(reports) == 1 else comparison_figure(reports)
        undated = {"Date": None} if target.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(target, dpi=DOTS_PER_INCH, metadata=undated)
    if target.suffix.lower() == ".svg":
        target.write_text(_numbered_clips(target.read_text(encoding="utf-8")), encoding="utf-8")


def _numbered_clips(svg: str) -> str:
    """Matplotlib names clip paths after addresses in memory; numbers in order of appearance are the same every time."""
    names: dict[str, str] = {}
    return re.sub(r"\bp[0-9a-f]{10}\b", lambda found: names.setdefault(found[0], f"clip{len(names)}"), svg)
