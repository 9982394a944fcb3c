"""Results written where data says, results repeated along a rank, inputs read at one place: values, counts, passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import live_footprint, minimum_words
from cascadesim.einsum_cascades.analysis.graph import graph, steps
from cascadesim.einsum_cascades.analysis.online import make_iterative
from cascadesim.einsum_cascades.analysis.passes import all_passes, passes
from cascadesim.einsum_cascades.analysis.rewrites import defer_division, split
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.notation.operators import is_copy, repeated_ranks

Values = NDArray[np.float64]

GRAPH = cascade("graph", """
    H[n,f]      = X[n,d] * W[d,f]
    A[DST[e],f] += H[SRC[e],f]
    Y[n,f]      = max(A[n,f], 0)
""")


def run(text: str, extents: dict[str, int] | None = None, **inputs: object) -> dict[str, Values]:
    return evaluate(cascade("example", text), {name: np.asarray(array) for name, array in inputs.items()}, extents)


@pytest.mark.parametrize(("operator", "expected"), [
    ("+=", [1 + 3, 0, 2]), ("max=", [3, -np.inf, 2]), ("min=", [1, np.inf, 2]),
])  # fmt: skip
def test_what_meets_at_one_place_is_reduced(operator: str, expected: list[float]) -> None:
    """1 and 3 go to place 0, 2 to place 2, nothing to place 1."""
    assert run(f"Y[IDX[e]] {operator} V[e]", IDX=[0, 2, 0], V=[1, 2, 3])["Y"].tolist() == expected


def test_a_scatter_is_as_long_as_the_rank_at_which_it_is_read() -> None:
    found = run("Y[IDX[e]] += V[e]\nZ[n] = Y[n] + X[n]", IDX=[0, 2, 0], V=[1, 2, 3], X=[1, 1, 1, 1, 1])
    assert found["Z"].tolist() == [5, 1, 3, 1, 1]


def test_its_length_can_be_given_by_the_name_of_the_coordinates() -> None:
    assert run("Y[IDX[e]] += V[e]", {"IDX": 4}, IDX=[0, 2, 0], V=[1, 2, 3])["Y"].tolist() == [4, 0, 2, 0]


def test_a_rank_named_like_the_coordinates_is_the_one_that_counts() -> None:
    """Y has as many elements as X, not as the largest coordinate says."""
    found = run("Y[IDX[e]] += V[e]\nZ[idx] = Y[idx] * X[idx]", IDX=[0, 1], V=[1, 2], X=[1, 1, 1, 1])
    assert found["Z"].tolist() == [1, 2, 0, 0]
    assert run("Y[E[e]] += V[e]\nZ[n] = Y[n] * X[n]", E=[2, 2], V=[1, 2], X=[1, 1, 1])["Z"].tolist() == [0, 0, 3]


def test_coordinates_that_are_computed_give_no_length() -> None:
    text = "IDX[j] = top(V[e], 2)\nY[IDX[j]] += W[j]"
    with pytest.raises(CascadeSimError, match="no array says how large IDX is"):
        run(text, V=[5, 1, 7], W=[10, 20])
    assert run(text, {"IDX": 3}, V=[5, 1, 7], W=[10, 20])["Y"].tolist() == [20, 0, 10]


def test_coordinates_used_elsewhere_say_how_long_a_scatter_is() -> None:
    """IDX names elements of V, of which there are three."""
    assert run("IDX[j] = top(V[e], 1)\nY[IDX[j]] += V[IDX[j]]", V=[5, 7, 1])["Y"].tolist() == [0, 7, 0]


def test_ones_are_counted() -> None:
    """The degree of a node: how many edges end there."""
    assert run("DEG[DST[e]] += 1", DST=[1, 1, 3])["DEG"].tolist() == [0, 2, 0, 1]


def test_a_place_outside_is_an_error() -> None:
    with pytest.raises(CascadeSimError, match=r"line 1: Y is written at 3 in dimension 1, which has 3 elements"):
        run("Y[IDX[e]] += V[e]", {"IDX": 3}, IDX=[0, 3], V=[1, 2])
    with pytest.raises(CascadeSimError, match="IDX holds coordinates and must hold whole numbers"):
        run("Y[IDX[e]] += V[e]", {"IDX": 3}, IDX=[0, 0.5], V=[1, 2])


def test_a_state_may_be_scattered_step_by_step() -> None:
    """A counter per bin, and after each step the bin of that step alone."""
    text = "S[0,n] = U[n]\nS[i+1,B[i]] += X[i]\nY[i,n] = S[i+1,n] * U[n]"
    assert run(text, B=[1, 0], X=[5, 7], U=[1, 1, 1])["S"].tolist() == [[1, 1, 1], [0, 5, 0], [7, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_scatter_of_products_equals_a_loop(rows: int, edges: int, width: int, seed: int) -> None:
    """`Y[b,IDX[b,e],f] += sum over k of W * V`, one addition after another."""
    random = np.random.default_rng(seed)
    places = random.integers(0, 4, size=(rows, edges))
    w, v = random.normal(size=(edges, 2)), random.normal(size=(rows, edges, width, 2))
    expected = np.zeros((rows, 4, width))
    for row in range(rows):
        for edge in range(edges):
            expected[row, places[row, edge]] += v[row, edge] @ w[edge]
    found = run("Y[b,IDX[b,e],f] += W[e,k] * V[b,e,f,k]", {"IDX": 4}, IDX=places, W=w, V=v)["Y"]
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_each_value_that_is_written_costs_one_reduction() -> None:
    """5 edges x 2 features are added; H costs 4 nodes x 3 x 2 products; the maximum 4 x 2."""
    sizes = {"N": 4, "D": 3, "F": 2, "E": 5}
    assert bound_work(GRAPH, sizes) == {"H": {"mac": 24}, "A": {"add": 10}, "Y": {"max": 8}}


def test_least_traffic_counts_a_scattered_result_once() -> None:
    """IDX and V are read, E each; Y has IDX elements. In the graph X, W and two lists of edges, and Y."""
    assert str(minimum_words(cascade("example", "Y[IDX[e]] += V[e]"))) == "2*E + IDX"
    assert minimum_words(GRAPH).bound({"N": 4, "D": 3, "F": 2, "E": 5}) == 4 * 3 + 3 * 2 + 5 + 5 + 4 * 2


def test_a_scatter_is_complete_after_all_that_is_written_to_it() -> None:
    """What divides the values by their sums per place needs them a second time."""
    text = cascade("shares", """
        SD[IDX[e]] += V[e]                  # pass 1 over e
        Y[e]        = V[e] / SD[IDX[e]]     # pass 2
    """)
    assert passes(text, "e") == 2
    found = evaluate(text, {"IDX": np.array([0, 2, 0]), "V": np.array([1, 2, 3])})
    assert found["Y"].tolist() == [1 / 4, 1, 3 / 4]


def test_a_layer_of_a_graph_walks_its_nodes_twice() -> None:
    """Edges read any node: all are transformed first (pass 1), and sums are read after the last edge (pass 2)."""
    assert all_passes(GRAPH) == {"n": 2, "f": 1, "d": 1, "e": 1}
    footprint = live_footprint(GRAPH, "n")
    assert str(footprint.elements) == "N"  # per feature: first H, which edges read, then their sums
    assert not footprint.constant_in_rank


def test_what_is_scattered_is_there_whole_before_it_is_walked() -> None:
    """Edges come in any order: no element of Y is final before the last edge, so all N wait for the walk over n."""
    footprint = live_footprint(cascade("example", "Y[DST[e]] += X[SRC[e]]\nZ[n] = Y[n] * U[n]"), "n")
    assert str(footprint.elements) == "N"
    assert not footprint.constant_in_rank


def test_a_place_per_element_of_the_fiber_is_written_as_it_is_walked() -> None:
    """Row e of Y has one element that is not 0; the row is read before the next one is written."""
    rows = cascade("example", "Y[e,IDX[e]] += V[e]\nZ[e,n] = Y[e,n] * X[e,n]")
    assert passes(rows, "e") == 1
    assert live_footprint(rows, "e").constant_in_rank
    assert str(live_footprint(rows, "n").elements) == "N"  # of each row


def test_a_scatter_sums_over_the_elements_that_it_places() -> None:
    """L is made in pass 1 over n and read again in pass 2, when all E of its rows go into Y: they wait together."""
    whole = cascade("example", "L[e,n] = X[e,n] * U[n]\nGM[e] max= L[e,n]\nY[IDX[e]] += L[e,n] * GM[e]")
    assert passes(whole, "n") == 2
    assert str(live_footprint(whole, "n").elements) == "E*N"


def test_copies_move_nothing_and_scatters_are_none() -> None:
    einsums = cascade("example", "A[i,j] = X[j,i]\nB[e,IDX[e]] = IDX[e]\nC[i,k] = U[i]\nZ[k] = W[k] * C[0,k]").einsums
    assert [is_copy(einsum) for einsum in einsums] == [True, False, False, False]
    assert is_copy(cascade("example", "R[h,0,p] = S[h]\nR[h,m+1,p] = max(R[h,m,p], X[h,m,p])").einsums[0])
    assert [repeated_ranks(einsum) for einsum in einsums] == [(), (), ("k",), ()]


def test_coordinates_are_read_before_they_are_used() -> None:
    assert {(GRAPH.einsums[one].name, GRAPH.einsums[other].name) for one, other, _ in graph(GRAPH).edges} == {
        ("H", "A"), ("A", "Y")}
    assert steps(GRAPH) == (0, 1, 2)


def test_rewrites_leave_a_scatter_whole() -> None:
    """A division per place cannot leave the sum by its rank; a maximum per place is not made a running one."""
    with pytest.raises(CascadeSimError, match="no division can be deferred"):
        defer_division(cascade("example", "Y[IDX[e]] += V[e] / D[]"))
    with pytest.raises(CascadeSimError, match="nothing to make iterative"):
        make_iterative(cascade("example", "GM[h] max= X[h,e]\nY[h,IDX[e]] += exp(X[h,e] - GM[h])"), "e")


def test_a_scatter_of_exponentials_keeps_its_pass() -> None:
    """Their sum becomes a running one; what goes to places is corrected only when the maximum is known."""
    shares = cascade("example", """
        GM[h]         max= X[h,e]
        SN[h,e]       = exp(X[h,e] - GM[h])
        SD[h]         = SN[h,e]
        Y[h,IDX[e]]   += SN[h,e]
        Z[h]          = SD[h] * U[h]
    """)
    inputs = {"X": np.array([[1.0, 3, 2], [0, -1, 5]]), "IDX": np.array([0, 1, 0]), "U": np.array([1.0, 2])}
    online = make_iterative(shares, "e")
    assert passes(online, "e") == 2
    for name in ("Y", "Z"):
        assert np.allclose(evaluate(online, inputs)[name], evaluate(shares, inputs)[name])


def test_a_split_keeps_what_a_scatter_computes() -> None:
    tiled = split(cascade("example", "Y[IDX[e]] += V[e]"), "e", "E0")
    inputs = {"IDX": np.array([0, 2, 0, 1]), "V": np.array([1, 2, 3, 4])}
    assert evaluate(tiled, inputs, {"E0": 2})["Y"].tolist() == [4, 4, 2]


def test_a_repeated_result_stands_at_every_place_of_the_rank() -> None:
    found = run("B[h,p] = S[h]\nY[h,p] = B[h,p] + X[p]", S=[1, 2], X=[10, 20, 30])
    assert found["B"].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert found["Y"].tolist() == [[11, 21, 31], [12, 22, 32]]


def test_a_running_maximum_begins_with_a_sink() -> None:
    text = "RM[h,0,p] = SINK[h]\nRM[h,m+1,p] = max(RM[h,m,p], QK[h,m,p])\nY[h,p] = RM[h,M,p]"
    found = run(text, SINK=[1, -9], QK=[[[0, 5], [2, 3]], [[0, 5], [2, 3]]])
    assert found["Y"].tolist() == [[2, 5], [2, 5]]
    assert run(text, SINK=[4, 9], QK=[[[0, 5], [2, 3]], [[0, 5], [2, 3]]])["Y"].tolist() == [[4, 5], [9, 9]]


def test_what_is_computed_and_repeated_is_counted_at_every_place() -> None:
    """The text says P exponentials a head; a line of its own would say one."""
    assert bound_work(cascade("each", "B[h,p] = exp(S[h])\nY[h] = B[h,p] * X[p]"), {"H": 2, "P": 3})["B"] == {"exp": 6}
    once = cascade("once", "C[h] = exp(S[h])\nB[h,p] = C[h]\nY[h] = B[h,p] * X[p]")
    assert bound_work(once, {"H": 2, "P": 3})["C"] == {"exp": 2}
    assert "B" not in bound_work(once, {"H": 2, "P": 3})


def test_a_repeated_sum_starts_a_pass_of_its_own_fiber() -> None:
    """The sum needs all of d; its repetitions are read beside the elements of d again."""
    text = cascade("centred", "S[r] = X[r,d]\nB[r,d] = S[r]\nY[r,d] = X[r,d] - B[r,d]")
    assert passes(text, "d") == 2
    assert str(live_footprint(text, "d").elements) == "D"  # X of a row, which both passes read


def test_a_repeated_input_is_one_element_of_a_fiber() -> None:
    """Only X waits for the second pass: S is the same number all along."""
    text = cascade("shifted", "B[r,d] = S[r]\nGM[r] max= X[r,d]\nY[r,d] = X[r,d] * B[r,d] - GM[r]")
    assert str(live_footprint(text, "d").elements) == "D"


def test_an_input_may_be_longer_than_the_place_that_is_read() -> None:
    text = "Y[h,p] = X[h,0,p] + X[h,2,p]"
    x = np.arange(24.0).reshape(2, 4, 3)
    assert np.array_equal(run(text, X=x)["Y"], x[:, 0] + x[:, 2])
    assert str(minimum_words(cascade("example", text))) == "3*H*P"  # two rows of X, one of Y
    with pytest.raises(CascadeSimError, match=r"X has 2 elements along '2', expected 3"):
        run(text, X=x[:, :2])
