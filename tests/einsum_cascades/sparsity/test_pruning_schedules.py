"""Schedules give the published rows again, and the published rule."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.sparsity.pruning_schedules import (
    SCHEDULES,
    PruningSchedule,
    kept,
    published_schedule,
    ramp,
    ramp_schedule,
)
from cascadesim.einsum_cascades.sparsity.pruning_trace import (
    TracedHead,
    encoder_rows,
    format_rows,
    parse_rows,
    token_rows,
)

SMALL, MEDIUM = published_schedule("gpt-2-small"), published_schedule("gpt-2-medium")


def generated(schedule: PruningSchedule) -> tuple[TracedHead, ...]:
    """Rows of 32 generated tokens, the first of which sees 993 keys."""
    return tuple(row for iteration in range(32) for row in token_rows(schedule, 993 + iteration, iteration))


def layers(rows: tuple[TracedHead, ...]) -> list[tuple[int, int, int, int | None]]:
    """(heads, keys, values, choice after the layer) of each layer of one token."""
    counts = Counter(row.layer for row in rows)
    last = {row.layer: row for row in rows}
    return [(counts[layer], row.keys, row.values, row.kept) for layer, row in sorted(last.items())]


def test_gpt_2_small_generates_what_its_workload_file_says() -> None:
    """Layer by layer of iteration 1, length 994, read off the file: floor of 0.9, 0.7, 0.2, 0.1 of 1024."""
    assert layers(token_rows(SMALL, 994)) == [
        (12, 921, 184, 716), (12, 716, 143, 204), *[(12, 204, 40, None)] * 3, (12, 204, 40, 102),
        *[(12, 102, 20, None)] * 5, (12, 102, 20, 921)]  # fmt: skip


def test_gpt_2_medium_generates_what_its_workload_file_says() -> None:
    assert layers(token_rows(MEDIUM, 994)) == [
        (16, 994, 307, None), (16, 994, 307, 921), (16, 921, 276, 819), (16, 819, 245, None), (16, 819, 245, 614),
        *[(16, 614, 184, None)] * 5, (16, 614, 184, 307), *[(16, 307, 92, None)] * 5, *[(13, 307, 92, None)] * 6,
        *[(10, 307, 92, None)] * 2]  # fmt: skip


def test_the_first_token_fetches_every_key() -> None:
    assert layers(token_rows(SMALL, 993, iteration=0)) == [(12, 993, 204, None)] * 11 + [(12, 993, 204, 921)]


@pytest.mark.parametrize(("schedule", "rows"), [(SMALL, 4608), (MEDIUM, 11328)])
def test_whole_workloads_have_the_published_number_of_rows(schedule: PruningSchedule, rows: int) -> None:
    found = generated(schedule)
    assert len(found) == rows
    assert parse_rows(format_rows(found), "rows.csv") == found


def test_low_bits_are_spread_evenly() -> None:
    """323 of 4608 heads in the file."""
    assert sum(row.low_bits for row in generated(SMALL)) == pytest.approx(323, abs=32)


def test_an_encoder_drops_queries_with_keys() -> None:
    rows = encoder_rows(published_schedule("bert-base"), 512)
    assert all(row.queries == row.keys for row in rows)
    assert rows[0].keys == 512
    assert rows[-1].keys < 512


def test_ratios_rise_to_twice_the_mean() -> None:
    """10 layers: 15 % are 1.5, so 2 whole ones; then 8 from 0.1 to 0.5."""
    found = ramp(10, 0.3, 0.15, start=0.1)
    assert found[:3] == (0, 0, 0.1)
    assert found[-1] == pytest.approx(0.5)
    assert sum(found) / 8 == pytest.approx(0.3)


def test_counts_are_rounded_down_past_errors_of_the_product() -> None:
    assert 0.29 * 100 < 29  # in binary
    assert (kept(0.29, 100), kept(0.299, 100), kept(0.001, 100)) == (29, 29, 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 48), st.integers(1, 32), st.floats(0, 0.49), st.integers(1, 4096), st.floats(0.01, 1))
def test_what_a_layer_keeps_never_rises(layers: int, heads: int, ratio: float, length: int, values: float) -> None:
    schedule = ramp_schedule("any", layers, heads, token_ratio=ratio, head_ratio=ratio, value_keep=values)
    counts = [schedule.tokens(layer, length) for layer in range(layers)]
    assert counts == sorted(counts, reverse=True)
    assert list(schedule.heads) == sorted(schedule.heads, reverse=True)
    assert all(1 <= schedule.values(layer, length) <= count for layer, count in enumerate(counts))
    assert counts[0] == length
    assert schedule.heads[0] == heads


def test_without_pruning_everything_is_fetched() -> None:
    assert layers(token_rows(MEDIUM.unpruned(), 1000)) == [(16, 1000, 1000, None)] * 24


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_published_schedule_says_where_it_is_from(name: str) -> None:
    assert SCHEDULES[name].name.startswith(name)
    assert SCHEDULES[name].source


def test_wrong_schedules_say_everything_at_once() -> None:
    with pytest.raises(CascadeSimError) as caught:
        PruningSchedule("mine", (0.5, 0.7), (0, 1, 2), value_keep=0, low_bit_share=2)
    assert list(caught.value.problems) == [
        "pruning schedule mine: token_keep has 2 layers and heads 3; both need every layer",
        "pruning schedule mine: value_keep must be above 0 and at most 1, got 0",
        "pruning schedule mine: heads must be at least 1, got 0",
        "pruning schedule mine: token_keep must not rise from layer to layer: what is dropped never returns",
        "pruning schedule mine: heads must not rise from layer to layer: what is dropped never returns",
        "pruning schedule mine: low_bit_share must be 0 to 1, got 2",
    ]
    with pytest.raises(CascadeSimError, match=r"a mean pruning ratio of 0\.5 from 0 ends at 1; the ratio must rise"):
        ramp(12, 0.5, 0.15)
    with pytest.raises(UnknownNameError, match="no pruning schedule for workload 'gpt-2-smal'; did you mean"):
        published_schedule("gpt-2-smal")
