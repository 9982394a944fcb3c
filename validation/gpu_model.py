"""The GPU model over the rows of a table: which of its functions predicts a row, device by device."""

from __future__ import annotations

from collections.abc import Sequence

from cascadesim.validation.gpu_baselines import roofline_s
from cascadesim.validation.gpu_work import Floats, Shapes


def predicted_s(shapes: Shapes, settings: Sequence[str] = ()) -> Floats:
    return roofline_s(shapes)
