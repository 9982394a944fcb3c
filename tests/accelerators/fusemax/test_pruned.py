"""Token pruning on FuseMax: what the second pass and the choice cost, by hand for BERT at 1K."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.zoo import load_workload
from cascadesim.simulator.simulate import simulate

TILES = 64 * 12 * 4 * 4  # sequences, heads, and 1024 queries and keys in tiles of 256


def attention(cascade: str, length: int = 1024) -> Operation:
    found = load_workload("bert").operations(sequence_length=length, scope="attention", attention=cascade)
    return next(operation for operation in found if operation.kind == "attention")


def planned(cascade: str, length: int = 1024) -> Plan:
    return load("fusemax").plan(attention(cascade, length), "physical")


def test_attention_comes_first_then_importance_then_the_choice() -> None:
    """A tile of the second pass: QK 64 cycles, SN 7, LS and S 1 each. 1024 keys of 3.38 comparisons each, 256 at once."""
    first, importance, choice = planned("pruned-1pass").phases
    assert first.analytical_cycles == planned("attention-1pass").phases[0].analytical_cycles
    assert importance.analytical_cycles == TILES * (64 + 7 + 1 + 1)
    assert choice.analytical_cycles == 64 * 14


def test_the_second_pass_reads_no_values() -> None:
    """Keys of 64 elements once an instance, two bytes each; Q, maxima and denominators with their queries."""
    _, importance, _ = planned("pruned-1pass").phases
    vectors, queries = 768 * 1024 * 64 * 2, 768 * 1024 * 2
    least = 2 * vectors + 2 * queries
    assert least <= importance.traffic.read_bytes <= 1.02 * least  # and the importance so far, read and written
    assert importance.traffic.write_bytes >= 2 * queries


@pytest.mark.parametrize("name", ["fusemax", "fusemax-architecture", "fusemax-cascade", "fusemax-edge"])
def test_every_design_runs_it_no_faster_than_its_closed_form(name: str) -> None:
    (report,) = simulate(load_workload("bert"), load(name), batch=1, scope="attention", attention="pruned-1pass")
    (plain,) = simulate(load_workload("bert"), load(name), batch=1, scope="attention")
    assert report.analytical_cycles <= report.cycles
    assert report.cycles > plain.cycles


def test_pruning_pays_only_where_enough_tokens_are_dropped() -> None:
    """The second pass costs half as much as the first: keeping 15 of 16 tokens costs time, 11 of 16 saves it.

    In whole tiles of 256: (15 / 16)^2 x 1.47 = 1.29 and (11 / 16)^2 x 1.47 = 0.69.
    """
    dense = planned("attention-1pass", 4096).phases[0].analytical_cycles
    costs = {keep: sum(phase.analytical_cycles for phase in planned("pruned-1pass", keep).phases)
             for keep in (3840, 2816)}  # fmt: skip
    assert costs[3840] > dense > costs[2816]


def test_no_publication_prunes_on_fusemax() -> None:
    with pytest.raises(CascadeSimError, match="no publication prunes on fusemax"):
        load("fusemax").plan(attention("pruned-1pass"), "artifact")
