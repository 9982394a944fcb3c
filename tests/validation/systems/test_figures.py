"""A printed value and its unit: the quantity, the SI number, and what the print leaves open."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.validation.systems.figures import Figure, figures, reading_error
from cascadesim.validation.table import CannotJudge


def one(value: str, unit: str, kind: str = "Some: speedup") -> Figure:
    (figure,) = figures(value, unit, kind)
    return figure


def shown(value: str, unit: str, kind: str = "Some: speedup") -> tuple[str, float, float]:
    figure = one(value, unit, kind)
    return figure.quantity, figure.value, figure.half_width


@pytest.mark.parametrize(
    ("value", "unit", "kind", "quantity", "number", "half"),
    [
        # times
        ("0.54", "ms", "Some: latency_ms", "latency_s", 0.54e-3, 0.005e-3),
        ("11", "ms, sum over layers", "Some: latency_ms", "latency_s", 11e-3, 0.5e-3),
        ("326.8", "ms TTFT", "Some: latency_ms", "latency_s", 0.3268, 0.05e-3),
        ("20.4", "ms/token", "Some: latency_ms", "latency_s", 20.4e-3, 0.05e-3),
        ("33", "s for 128 denoising steps", "Some: latency_s", "latency_s", 33, 0.5),
        ("15.4", "s for 100 iterations", "Some: latency_s", "latency_s", 0.154, 0.0005),
        ("276", "GPU hours for 2000 steps", "Some: latency_h", "latency_s", 276 * 3600, 1800),
        ("398", "min for 5 epochs", "Some: latency_min", "latency_s", 398 * 60, 30),
        # the unit against the file's quantity
        ("258", "minutes of training", "Some: latency_ms", "latency_s", 258 * 60, 30),
        ("70", "GPU hours (3.6B tokens)", "Some: throughput", "latency_s", 70 * 3600, 1800),
        ("3", "x", "Some: throughput", "speedup", 3, 0.5),
        ("2.7", "% of step in KV all-gather", "Some: latency_ms", "kept", 0.027, 0.0005),
        ("80", "parameters of the module", "Some: memory", "count", 80, 0.5),
        ("0.65", "attention time / full attention time", "Some: speedup", "speedup", 1 / 0.65, 0.005 / 0.65**2),
        ("7", "ms", "Some: speedup", "latency_s", 7e-3, 0.5e-3),
        ("7", "us", "Some: latency_ms", "latency_s", 7e-6, 0.5e-6),
        ("7", "s per video", "Some: latency_ms", "latency_s", 7, 0.5),
        ("7", "hours", "Some: latency_ms", "latency_s", 25200, 1800),
        ("7", "TFLOP/s", "Some: throughput", "flop_per_s", 7e12, 0.5e12),
        ("7", "img/s", "Some: latency_ms", "throughput_per_s", 7, 0.5),
        ("7", "tokens/s", "Some: latency_ms", "throughput_per_s", 7, 0.5),
        # rates
        ("142", "TFLOP/s per GPU", "Some: tflops", "flop_per_s", 142e12, 0.5e12),
        ("0.052", "TFLOP/s (4BHN^2D + BHN^2, times 3)", "Some: tflops", "flop_per_s", 0.052e12, 0.0005e12),
        ("225", "TFLOPS/GPU training (72% MFU)", "Some: tflops", "flop_per_s", 225e12, 0.5e12),
        ("282.64", "TFLOP per forward pass", "Some: flops_ratio", "flop", 282.64e12, 0.005e12),
        ("4.7e-4", "GFLOPs (80 parameters)", "Some: flops_ratio", "flop", 4.7e5, 0.05e5),
        ("35931", "tokens per GPU per second", "Some: throughput", "throughput_per_s", 35931, 0.5),
        ("628.8", "tok/s decode", "Some: throughput", "throughput_per_s", 628.8, 0.05),
        ("20093", "images/s", "Some: throughput", "throughput_per_s", 20093, 0.5),
        # bytes
        ("128.5", "MiB", "Some: memory", "bytes", 128.5 * 2**20, 0.05 * 2**20),
        ("12829", "MB", "Some: memory", "bytes", 12829e6, 0.5e6),
        ("12.8", "GB", "Some: memory", "bytes", 12.8e9, 0.05e9),
        ("3.5", "GB KV at 32K", "Kinetics: memory", "bytes", 3.5 * 2**30, 0.05 * 2**30),
        # ratios
        ("2.08", "x", "Some: speedup", "speedup", 2.08, 0.005),
        ("98", "% higher tokens/s", "Some: speedup", "speedup", 1.98, 0.005),
        ("56", "% faster", "Some: speedup", "speedup", 1.56, 0.005),
        ("18.6", "%", "Some: speedup", "speedup", 1.186, 0.0005),
        ("1607", "% mean improvement in latency", "Some: speedup", "speedup", 17.07, 0.005),
        ("0.41", "of full attention, all layers", "Some: latency_ratio", "speedup", 1 / 0.41, 0.005 / 0.41**2),
        ("92", "% of self-attention", "Some: latency_reduction", "saved", 0.92, 0.005),
        ("82.3", "% fewer attention FLOPs", "Some: flops_ratio", "saved", 0.823, 0.0005),
        ("50.0", "% less GPU memory", "Some: memory", "saved", 0.5, 0.0005),
        ("42.1", "% of tokens kept (mean over layers)", "Some: flops_ratio", "kept", 0.421, 0.0005),
        ("6.4", "x smaller KV (15.6%)", "Some: memory", "kept", 1 / 6.4, 0.05 / 6.4**2),
        ("2.92", "x fewer FLOPs", "Some: flops_ratio", "kept", 1 / 2.92, 0.005 / 2.92**2),
        ("3", "x costlier (compute-optimal choice)", "Some: flops_ratio", "kept", 3, 0.5),
        ("10-1000", "attention cost / parameter cost (eFLOPs)", "Some: flops_ratio", "kept", 505, 495),
        ("1205", "selected blocks of 2080 causal ones", "Some: flops_ratio", "density", 1205 / 2080, 0.5 / 2080),
        ("60", "% attention sparsity", "Some: flops_ratio", "density", 0.4, 0.005),
        ("0.94", "sparsity", "Some: flops_ratio", "density", 0.06, 0.005),
        # what is not one plain number
        ("28-46", "% e2e speedup", "Some: speedup", "speedup", 1.37, 0.09),
        ("10-20", "x tokens/s at equal perplexity", "Some: throughput", "speedup", 15, 5),
        ("~2", "x", "Some: speedup", "speedup", 2, 0.5),
        ("up to 1.15", "x training throughput", "Some: speedup", "speedup", 1.15, 0.005),
        (">2M", "tokens of context", "Some: memory", "count", 2e6, 0.5e6),
        ("380K", "tokens in 80 GB", "Some: max_tokens", "count", 380000, 500),
        ("1,117", "ms", "Some: latency_ms", "latency_s", 1.117, 0.0005),
        # a unit that says nothing: the file's quantity
        ("7", "so many", "Some: latency_min", "latency_s", 420, 30),
        ("7", "", "Some: speedup", "speedup", 7, 0.5),
        ("7", "", "Some: latency_ms", "latency_s", 7e-3, 0.5e-3),
        ("7", "", "Some: latency_s", "latency_s", 7, 0.5),
        ("7", "", "Some: latency_h", "latency_s", 25200, 1800),
        ("7", "", "Some: throughput", "throughput_per_s", 7, 0.5),
        ("7", "", "Some: tflops", "flop_per_s", 7e12, 0.5e12),
    ],
)  # fmt: skip
def test_a_unit_says_what_a_figure_is(
    value: str, unit: str, kind: str, quantity: str, number: float, half: float
) -> None:
    found = shown(value, unit, kind)
    assert found[0] == quantity
    assert found[1:] == (pytest.approx(number, rel=1e-9), pytest.approx(half, rel=1e-3))


def test_only_kinetics_writes_gb_for_powers_of_two() -> None:
    assert shown("8", "GB KV at 32K", "Kinetics: memory")[1] == 8 * 2**30
    assert shown("8", "GB KV at 32K", "Other: memory")[1] == 8e9


def test_a_pair_becomes_two_figures_named_by_the_unit() -> None:
    found = figures("45 / 92", "% lower e2e / attention latency", "Some: speedup")
    assert [(each.part, each.quantity, each.value) for each in found] == [("e2e", "saved", 0.45),
                                                                         ("attention", "saved", 0.92)]  # fmt: skip
    assert not any(each.single for each in found)


@pytest.mark.parametrize(
    ("value", "unit", "why"),
    [
        ("O(n^1.5 d)", "order", "no number"),
        ("D * (8-1)/N within a node", "x", "no number"),
        ("496 / 113", "% (GEMM fp16)", "does not say which is which"),
        ("92", "% of full attention`s perplexity gain (LongLoRA 39%)", "accuracy"),
        ("3", "furlongs", "no unit"),
        ("0", "x fewer FLOPs", "an inverse of 0"),
        ("130", "% attention sparsity", "no density of -0.3"),
        ("5", "selected blocks of 0 causal ones", "a share of nothing"),
    ],
)
def test_what_is_no_figure_says_why(value: str, unit: str, why: str) -> None:
    with pytest.raises(CannotJudge, match=why):
        figures(value, unit, "Some: speedup" if "GEMM" in unit else "Some: flops_ratio")


def test_only_one_plain_number_is_single() -> None:
    singles = [one(value, "x").single for value in ("2", "2.5", "4.7e-4", "~2", ">2", "up to 2", "2-3", "2K")]
    assert singles == [True, True, True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("text", "length", "value", "share"),
    [
        ("exact (read from chart, +-0.15)", 32768, "17.9", 0.15 / 17.9),
        ("+-0.2 ms; batch 1", 10240, "19.2", 0.2 / 19.2),
        ("device, batch; +-5", None, "740", 5 / 740),
        ("read from pixels: +-2 % to 64K, +-15 % above", 65536, "64.9", 0.02),
        ("read from pixels: +-2 % to 64K, +-15 % above", 131072, "169", 0.15),
        ("read from pixels, +-1 pixel = 1 % to 20 % at 8K", 8192, "1.67", 0.2),
        ("read from pixels, +-1 pixel = 1 % to 20 % at 8K", 65536, "100.4", 0.01),
        ("read from pixels; longer ones are cut off by the axis", 8192, "6.61", 0.2),
        ("budgets +- some", 8192, "6.61", None),
        ("density at this length", 8192, "6.61", None),
    ],
)
def test_a_reading_is_as_wide_as_its_text_says(text: str, length: int, value: str, share: float | None) -> None:
    found = reading_error(text, length, Decimal(value))
    assert found is None if share is None else float(found or 0) == pytest.approx(share)


def test_a_reading_widens_what_is_printed() -> None:
    (figure,) = figures("17.9", "ms/token", "Some: latency_ms", Decimal("0.15") / Decimal("17.9"))
    assert (figure.value, figure.half_width) == (pytest.approx(17.9e-3), pytest.approx(0.15e-3, rel=1e-3))


@given(st.decimals(min_value=0, max_value=10**6, places=3), st.sampled_from(["ms", "x", "MiB", "GB", "TFLOP/s"]))
def test_a_printed_number_lies_within_its_half_width_whatever_its_last_digits(number: Decimal, unit: str) -> None:
    """Printed with one digit less, it differs by at most half of the new last digit."""
    fine, coarse = one(f"{number:.3f}", unit), one(f"{number:.2f}", unit)
    assert abs(fine.value - coarse.value) <= coarse.half_width * (1 + 1e-6)
    assert coarse.half_width == pytest.approx(10 * fine.half_width, rel=1e-3)


@given(st.text(max_size=20), st.text(max_size=30))
def test_no_text_is_too_odd_to_be_refused(value: str, unit: str) -> None:
    try:
        found = figures(value, unit, "Some: speedup")
    except CannotJudge:
        return
    assert all(each.value >= 0 and each.half_width >= 0 for each in found)
