"""Which Einsums run step by step, and along which rank."""

from __future__ import annotations

import subprocess
import sys

import networkx
import pytest

from cascadesim.einsum_cascades.analysis.graph import Step, steps
from cascadesim.einsum_cascades.analysis.passes import cycles
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS


def shown(whole: Cascade) -> list[str]:
    def show(step: Step) -> str:
        if isinstance(step, int):
            return whole.einsums[step].name
        return f"{step.rank}({' '.join(map(show, step.body))})"

    return [show(step) for step in steps(whole)]


def order(text: str) -> list[str]:
    return shown(cascade("example", text))


def test_without_states_einsums_run_in_their_order() -> None:
    assert shown(ATTENTION_3PASS) == ["QK", "GM", "SN", "SD", "A", "AV"]


def test_only_what_needs_its_own_past_is_stepped() -> None:
    found = shown(ATTENTION_1PASS)
    assert [step for step in found if "(" in step] == ["m1(RM)", "m1(SPD RD)", "m1(SPNV RNV)"]
    assert found.index("SLN") > found.index("m1(RM)")


def test_states_that_need_each_other_share_a_loop() -> None:
    assert order("A[0] = 0\nB[0] = 1\nS[i] = A[i] + B[i]\nA[i+1] = B[i]\nB[i+1] = S[i]") == ["A", "B", "i(S A B)"]


def test_loops_nest_where_two_ranks_carry() -> None:
    text = "T[0,0] = 0\nT[0,j+1] = 0\nT[i+1,0] = 0\nT[i+1,j+1] = max(T[i,j+1], T[i+1,j]) + X[i,j]"
    assert order(text)[-1] == "j(i(T))"  # or i(j(T)): j stands first in the text


def test_a_sum_inside_an_iteration_runs_once_a_step() -> None:
    text = "X[0,d] = T[d]\nS[l] = X[l,d] * X[l,d]\nX[l+1,d] = X[l,d] / S[l]\nY[d] = X[L,d]"
    assert order(text) == ["X", "l(S X)", "Y"]


def test_a_sum_over_its_own_future_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="example, line 2: S, T need values of each other that do not exist yet"):
        order("T[0] = 1\nS = T[i] * X[i]\nT[i+1] = T[i] + S")


def test_a_cascade_is_a_graph_of_einsums_and_dependences() -> None:
    found = ATTENTION_1PASS.graph()
    names = {number: einsum.name for number, einsum in found.nodes(data="einsum")}
    edges = {(names[one], names[other], *data.values()) for one, other, data in found.edges(data=True)}
    assert names[7] == "RM"
    assert ("QK", "LM", "QK", None, 0) in edges
    assert ("RD", "SPD", "RD", "m1", 1) in edges  # of the step before
    assert found.number_of_nodes() == len(ATTENTION_1PASS.einsums)
    assert found is ATTENTION_1PASS.graph()


def test_a_graph_cannot_be_changed() -> None:
    with pytest.raises(networkx.NetworkXError, match="Frozen"):
        ATTENTION_3PASS.graph().add_node("another")


def test_the_first_value_of_a_state_is_no_cycle_and_is_not_its_last() -> None:
    """RM[h,0,p] is read by the update only, AV reads the update only."""
    found = ATTENTION_1PASS.graph()
    assert set(found.predecessors(16)) == {13, 15}
    assert cycles(ATTENTION_1PASS)[2] == {2}
    assert cycles(ATTENTION_1PASS)[13] == {12, 13}


def test_a_value_of_two_steps_before_has_that_distance() -> None:
    fibonacci = cascade("fibonacci", "F[0] = 0\nF[1] = 1\nF[i+2] = F[i+1] + F[i]").graph()
    assert sorted(fibonacci.get_edge_data(2, 2)[key]["distance"] for key in (0, 1)) == [1, 2]


@pytest.mark.parametrize("name", cascade_names())
def test_cycles_are_the_strongly_connected_components_of_the_graph(name: str) -> None:
    whole = find(name)
    components = [frozenset(each) for each in networkx.strongly_connected_components(whole.graph())]
    assert list(cycles(whole)) == [next(each for each in components if number in each)
                                   for number, _ in enumerate(whole.einsums)]


def test_passes_are_counted_without_networkx() -> None:
    """Every simulation asks for passes, and networkx takes 0.1 s to import."""
    code = ("import sys\nfrom cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS\n"
            "assert ATTENTION_1PASS.passes('m') == 1\nassert 'networkx' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
