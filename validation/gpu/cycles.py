"""GPU kernels at cycle level over the rows of a table: one SM of each, its groups of warps by their dependences.

What a library runs besides the kernel is as in the closed form. Rows of other operations have no prediction here.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.programs import attention_program
from cascadesim.accelerators.gpu.spec import Dtype
from cascadesim.accelerators.gpu.timing import AttentionCase, attention_timing, case_of
from cascadesim.simulator.engine.engine import run
from cascadesim.validation.gpu.model import COLD, device, predicted_s
from cascadesim.validation.gpu.work import Floats, Shapes

SIZES = ("batch", "heads_q", "heads_kv", "seqlen_q", "kv_len", "head_dim", "causal", "window")
OPERATIONS = ("encoder", "prefill", "decode")


def predicted_cycle_level_s(shapes: Shapes) -> Floats:
    """Seconds of every row; NaN where the model has nothing to say."""
    closed, found = predicted_s(shapes), np.full(len(shapes), np.nan)
    for row in np.flatnonzero(np.isin(shapes.operation, OPERATIONS) & np.isfinite(closed)).tolist():
        closed_form_s, cycle_level_s = _both(_case(shapes, row))
        found[row] = closed[row] - closed_form_s + cycle_level_s
    return found


def _case(shapes: Shapes, row: int) -> AttentionCase:
    on = device(str(shapes.device[row]))
    batch, heads, key_heads, queries, keys, head_dim, causal, window = (
        int(getattr(shapes, name)[row]) for name in SIZES
    )
    asked = shape(batch, heads, key_heads, queries, keys, head_dim, None, causal > 0, window)
    dtype, kv_dtype = (cast(Dtype, str(column[row])) for column in (shapes.dtype, shapes.kv_dtype))
    cold = str(shapes.source[row]) in COLD
    return case_of(on, load_kernel(str(shapes.kernel[row])), constants(on.generation), asked, dtype, kv_dtype, cold)


def _both(case: AttentionCase) -> tuple[float, float]:
    """Seconds of the kernel alone in closed form and at cycle level."""
    timing = attention_timing(case)
    return float(timing.total_s[0]), run(attention_program(case, timing)).cycles / case.device.clock_hz

