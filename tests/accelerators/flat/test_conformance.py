"""Plans of flat and unfused have no problem on arrays and buffers of any size, and mask as their text says."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan, problems
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find

ARRAYS = [(1, 1, 1), (1, 256, 256), (3, 1, 2), (5, 3, 7)]
CAPACITIES = [256, 4096]
SHAPES = [(3, 2, 1, 1, 1, 4, 4), (1, 8, 8, 1, 1, 3, 5), (1, 2, 2, 9, 1, 8, 8), (2, 2, 1, 5, 5, 1, 3),
          (1, 4, 2, 17, 17, 4, 6)]  # fmt: skip
WINDOW = "m <= p + M - P and m > p + M - P - 4"


def attention(shape: tuple[int, ...], text: str = "attention-3pass", mask: Mask = FULL) -> Operation:
    return Operation("attention", "attention", find(text), tuple(zip("bhgmpef", shape, strict=True)), mask=mask)


def counted(plan: Plan, name: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for phase in plan.phases:
        for activity in phase.activities:
            if activity.name == name:
                found.update(activity.operations)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "unfused"])
@pytest.mark.parametrize("array", ARRAYS)
def test_no_array_and_no_buffer_is_too_small_for_a_right_plan(name: str, array: tuple[int, int, int]) -> None:
    """One row among them: blocks of one query row are counted apart from larger ones (W12)."""
    ran = 0
    for capacity, shape, mask in product(CAPACITIES, SHAPES, (FULL, KeyInterval(True), KeyInterval(True, window=3))):
        rows, columns, lanes = array
        machine = load(name, [
            f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
            "global_buffer.row_bytes=32", f"global_buffer.capacity_bytes={capacity}",
        ])  # fmt: skip
        try:
            plan = machine.plan(attention(shape, mask=mask), "physical")
        except CascadeSimError as error:
            assert "global_buffer.capacity_bytes" in str(error)  # noqa: PT017
            continue
        ran += 1
        assert not list(problems(plan, machine)), (array, capacity, shape, mask)
        assert set(plan.element_bytes) == {"Q", "K", "V", "AV"}
    assert ran > 15


def test_one_row_of_the_array_moves_what_there_is() -> None:
    """gpt-oss-20b, one token of three sequences: 24 key heads of 8 queries and a key, 64 wide: Q, K, V in, AV out."""
    machine = load("flat", ["pe_array.rows=1"])
    plan = machine.plan(attention((3, 64, 8, 1, 1, 64, 64)), "physical")
    queries, keys = 3 * 64 * 64 * 2, 3 * 8 * 64 * 2
    assert (plan.traffic.read_bytes, plan.traffic.write_bytes) == (queries + 2 * keys, queries)
    assert plan.dynamic_energy_j is not None
    assert all(joules >= 0 for joules in plan.dynamic_energy_j.values())


@pytest.mark.parametrize("name", ["flat", "unfused"])
def test_a_mask_in_the_text_counts_as_one_of_the_workload(name: str) -> None:
    """12 queries and keys: 78 causal pairs of 144, in operations, cycles and bytes."""
    machine = load(name, ["pe_array.rows=2", "pe_array.columns=2", "vector_array.lanes=2"])
    shape = (1, 1, 1, 12, 12, 4, 4)
    written = machine.plan(attention(shape, "attention-3pass-causal"), "physical")
    asked = machine.plan(attention(shape, mask=KeyInterval(True)), "physical")
    plain = machine.plan(attention(shape), "physical")
    assert counted(written, "QK") == {"mac": 78 * 4}
    assert counted(written, "SN") == {"exp": 78, "add": 78}
    assert counted(plain, "QK") == {"mac": 144 * 4}
    assert [phase.analytical_cycles for phase in written.phases] == [phase.analytical_cycles for phase in asked.phases]
    assert written.traffic == asked.traffic
    assert sum(phase.analytical_cycles for phase in written.phases) < sum(
        phase.analytical_cycles for phase in plain.phases
    )
    assert not list(problems(written, machine))


@pytest.mark.parametrize("name", ["flat", "unfused"])
def test_a_window_in_the_text_is_a_window(name: str) -> None:
    """Windows of 4 on 12 keys: 1 + 2 + 3 + 9 * 4 pairs."""
    condition = f" if {WINDOW} else"
    text = cascade("window", f"""
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]{condition} -inf
        GM[h,p]   max= QK[h,m,p]{condition} -inf
        SN[h,m,p] = exp(QK[h,m,p] - GM[h,p]){condition} 0
        SD[h,p]   = SN[h,m,p]{condition} 0
        A[h,m,p]  = SN[h,m,p] / SD[h,p]{condition} 0
        AV[h,p,f] = A[h,m,p] * V[h,m,f]{condition} 0
    """)
    machine, operation = load(name), attention((1, 1, 1, 12, 12, 4, 4)).with_cascade(text)
    plan = machine.plan(operation, "physical")
    assert counted(plan, "A") == {"divide": 1 + 2 + 3 + 9 * 4}
    assert not list(problems(plan, machine))


BIASED = """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    S[h,m,p]  = QK[h,m,p] + BIAS[h,m,p]
    GM[h,p]   max= S[h,m,p]
    SN[h,m,p] = exp(S[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
"""


@pytest.mark.parametrize("name", ["flat", "unfused"])
def test_a_text_of_another_form_runs_by_a_mapping_and_reads_what_it_reads(name: str) -> None:
    """A bias for each pair of 12 keys and 12 queries, beside Q and K of 4 and V of 4: each at least once."""
    machine, operation = load(name), attention((1, 1, 1, 12, 12, 4, 4)).with_cascade(cascade("biased", BIASED))
    plan = machine.plan(operation, "physical")
    assert counted(plan, "S") == {"add": 144}
    assert plan.traffic.read_bytes >= (144 + 3 * 48) * 2
    assert "mapping searched for biased" in plan.mapping
    assert not list(problems(plan, machine))


@pytest.mark.parametrize("name", ["flat", "unfused"])
def test_different_conditions_are_refused(name: str) -> None:
    text = BIASED.replace("+ BIAS[h,m,p]", "if m <= p + M - P else -inf")
    operation = attention((1, 1, 1, 12, 12, 4, 4)).with_cascade(cascade("biased", text))
    with pytest.raises(CascadeSimError, match="different conditions"):
        load(name).plan(operation, "physical")
