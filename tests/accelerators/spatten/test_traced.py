"""A pruning trace on the machine: its rows, no schedule, what it cannot take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spatten.accelerator import Heads, Spatten
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.einsum_cascades.models.traced_workload import TracedWorkload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning_schedules import encoder_rows, published_schedule, token_rows
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead

ROW = TracedHead(0, 0, 0, length=100, keys=80, values=24, key_bits=8, value_bits=8, line=2)


def planned(*rows: TracedHead, settings: tuple[str, ...] = ()) -> Plan:
    machine = load("spatten-1-8", settings)
    assert isinstance(machine, Spatten)
    operations = TracedWorkload("gpt-2-small", PruningTrace("rows.csv", rows)).operations()
    own, work = machine.prepared(operations, "gpt-2-small")
    assert work == operations  # whatever the schedule of a model: the rows stay
    return own.plan(work[0], "physical")


def test_single_queries_run_as_the_rows_say() -> None:
    """64 transactions of 8 bits: 2 reads a key and value, in multiples of 8."""
    (phase,) = planned(ROW, replace(ROW, low_bits=True)).phases
    assert phase.model is not None
    model = phase.model()
    assert isinstance(model, Heads)
    stream = model.stream
    assert [(row.keys, row.values, row.key_bits, row.low_bits) for row in stream.rows] == [
        (80, 24, 8, False), (80, 24, 8, True)]
    assert phase.traffic.read_bytes == 32 * (2 * (2 * 80 + 2 * 24) + 80)
    assert phase.analytical_cycles <= run_heads(stream).cycles


def test_a_published_iteration_is_planned_whole() -> None:
    rows = token_rows(published_schedule("gpt-2-small"), 994)
    plan = planned(*rows)
    assert plan.phases[0].model is not None
    model = plan.phases[0].model()
    assert isinstance(model, Heads)
    assert len(model.stream.rows) == 144
    assert plan.mapping[0] == "pruned as the trace says"


def test_several_queries_run_over_each_load() -> None:
    (phase,) = planned(*encoder_rows(published_schedule("bert-base"), 64)).phases
    assert phase.program is not None
    assert phase.program().busy_cycles()["QK"] > 0


def test_low_bits_cost_the_queries_that_use_them() -> None:
    """One load of 64 keys of 8 bits: a line each, of 16 queries of which 4 score twice."""
    row = TracedHead(0, 0, 0, 64, 64, 64, 8, 8, low_bits=True, queries=16, low_bit_queries=4)
    (phase,) = planned(row).phases
    assert phase.program is not None
    assert phase.program().busy_cycles()["QK"] == 64 * (16 + 4)


def test_what_the_design_cannot_take_is_located() -> None:
    with pytest.raises(SpecError, match=r"rows\.csv: line 2: quant_key_bit 5"):
        planned(replace(ROW, key_bits=5))
    with pytest.raises(SpecError) as caught:
        planned(replace(ROW, queries=2), replace(ROW, key_bits=4, line=3), replace(ROW, length=9999, keys=2049, line=4))
    assert str(caught.value).splitlines() == [
        "rows.csv: line 3: rows with several queries run in one format, got 4/8 bits after 8/8",
        "rows.csv: line 4: key_fetch_num 2049 exceeds the buffer of 2048 keys",
    ]


def test_what_a_trace_decides_is_not_set_again() -> None:
    with pytest.raises(CascadeSimError, match=r"rows\.csv: a trace says itself what is kept; leave pruning\."):
        planned(ROW, settings=("pruning.token_keep=0.5",))
