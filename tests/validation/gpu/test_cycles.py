"""Measured rows at cycle level: the kernel by its dependences, what is launched besides as in the closed form."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.validation.claims.gpu import CYCLES, GEMM
from cascadesim.validation.gpu.cycles import predicted_cycle_level_s
from cascadesim.validation.gpu.model import predicted_s
from cascadesim.validation.gpu.suites import own_shapes
from cascadesim.validation.gpu.work import Shapes


def some(scope_shapes: Shapes, every: int) -> Shapes:
    return scope_shapes.at(np.arange(0, len(scope_shapes), every))


def test_kernels_of_full_attention_hide_more_than_measurements_calibrated() -> None:
    """FlashAttention-3 and -4, TensorRT-LLM: groups of warps that alternate could hide all of the shorter part."""
    rows = own_shapes(CYCLES)
    specialised = rows.at(np.isin(rows.kernel, ["flash-attention-3", "flash-attention-4"]) & (rows.latency_s > 1e-4))
    rows = some(specialised, 10)
    closed, cycles = predicted_s(rows), predicted_cycle_level_s(rows)
    assert len(rows) > 10
    assert (cycles < closed).all()
    assert (cycles > 0.5 * closed).all()


def test_decoding_takes_as_long_either_way_where_dram_bounds() -> None:
    """16-bit caches of 500 MB and more: within 15%; both wait for the same bytes, and compute is not quite hidden."""
    rows = own_shapes(CYCLES)
    decoding = (rows.kernel == "flash-attention-3-decode") & (rows.kv_dtype == "bf16")
    large = rows.at(decoding & (rows.bytes > 5e8))
    assert len(large) > 5
    assert predicted_cycle_level_s(large) == pytest.approx(predicted_s(large), rel=0.15)


def test_products_have_no_prediction_here() -> None:
    assert np.isnan(predicted_cycle_level_s(some(own_shapes(GEMM), 500))).all()
