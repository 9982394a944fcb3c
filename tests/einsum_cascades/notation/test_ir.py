"""What a cascade says of itself, once it is read."""

from __future__ import annotations

import dataclasses

import pytest

from cascadesim.einsum_cascades.notation.ir import Access, Index
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS


def test_inputs_outputs_and_ranks_are_inferred() -> None:
    assert ATTENTION_3PASS.inputs == ("Q", "K", "V")
    assert ATTENTION_3PASS.outputs == ("AV",)
    assert ATTENTION_3PASS.produced == ("QK", "GM", "SN", "SD", "A", "AV")
    assert ATTENTION_3PASS.ranks == ("h", "m", "p", "e", "f")


def test_a_state_iterates_along_its_rank() -> None:
    assert ATTENTION_1PASS.iterative_ranks == ("m1",)
    assert ATTENTION_1PASS.einsum("RM").iterates == ("m1",)
    assert ATTENTION_3PASS.iterative_ranks == ()


def test_a_name_means_the_last_einsum_that_writes_it() -> None:
    assert ATTENTION_1PASS.einsum("RM").line > 1
    assert ATTENTION_1PASS.einsum("RM").text.startswith("RM[h,m1+1,p]")


def test_an_index_says_what_it_is() -> None:
    (einsum,) = cascade("indices", "Y[i,h,k] = X[i,i+2,2*i] * W[h//G,0] * V[I[k]]").einsums
    x, w, v, gathered = einsum.inputs
    assert [index.rank for index in x.indices] == ["i", None, None]
    assert [index.step for index in x.indices] == [("i", 0), ("i", 2), None]
    assert [index.ranks for index in w.indices] == [("h",), ()]
    assert v.ranks == ("k",)  # through I[k]
    assert gathered.tensor == "I"


def test_ranks_that_only_conditions_have_belong_to_the_einsum() -> None:
    (einsum,) = cascade("conditions", "C[i] = 1 if j <= i else 0").einsums
    assert einsum.ranks == ("i", "j")
    assert einsum.reduced_ranks == ("j",)


def test_equal_texts_are_equal_values() -> None:
    one, other = (cascade("same", "Y[i] = X[i]") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Access("X", (Index(),)).tensor = "Y"  # type: ignore[misc]


def test_a_cascade_prints_short() -> None:
    assert repr(ATTENTION_3PASS) == "Cascade('attention-3pass', 6 Einsums)"


@pytest.mark.parametrize(("one", "other", "apart"), [
    ("0", "1", True), ("0", "0", False), ("0", "i+1", True), ("0", "i", False), ("1", "i+1", False), ("1", "i+2", True),
    ("i", "i+1", False),
])  # fmt: skip
def test_coordinates_that_surely_differ(one: str, other: str, apart: bool) -> None:
    """A rank begins at 0: `i+1` is never 0, `i` may be."""
    (einsum,) = cascade("both", f"Y = A[{one}] * B[{other}]").einsums
    first, second = (access.indices[0] for access in einsum.inputs)
    assert first.apart(second) is second.apart(first) is apart
