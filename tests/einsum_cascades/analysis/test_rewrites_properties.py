"""No rewrite changes a result, on random chains; every cascade is written as it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.online import make_iterative
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.analysis.rewrites import defer_division, split
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import parse, to_text
from cascadesim.einsum_cascades.texts import cascade_names, find

T = TypeVar("T")


def shape(whole: Cascade) -> list[tuple[object, ...]]:
    """What a cascade says, without its text, line numbers and comments."""
    return [(einsum.output, einsum.reduction, einsum.expression) for einsum in whole.einsums]


class Draw(Protocol):
    """`data.draw` of hypothesis."""

    def __call__(self, strategy: st.SearchStrategy[T]) -> T: ...


class Chain:
    """A random chain of Einsums over i and j that begins with a maximum over j."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.tensors = [("X[i,j]", "ij"), ("W[j]", "j"), ("U[i]", "i")]
        self.maxima: list[tuple[str, str, str]] = []  # what is written, of what, ranks
        self.lines = [self.line(number) for number in range(draw(st.integers(2, 6)))]

    def line(self, number: int) -> str:
        value, ranks = self.expression(2)
        kept = "".join(rank for rank in sorted(set(ranks)) if self.draw(st.booleans()) and (number or rank != "j"))
        target = f"T{number}[{','.join(kept)}]" if kept else f"T{number}"
        operator = "max=" if not number else self.draw(st.sampled_from(["=", "=", "=", "max="]))
        if operator == "max=":
            self.maxima.append((target, value, "".join(sorted({*ranks, *kept}))))
        self.tensors.append((target, kept))
        return f"{target} {operator} {self.conditional(value, ranks)}"

    def conditional(self, value: str, ranks: str) -> str:
        if not ranks or self.draw(st.integers(0, 4)):
            return value
        rank, first, other = self.draw(st.tuples(st.sampled_from(ranks), st.integers(0, 2), st.sampled_from("01")))
        return f"{value} if {rank} >= {first} else {'-inf' if other == '1' else '0'}"

    def expression(self, depth: int) -> tuple[str, str]:
        kind = self.draw(st.integers(0, 3)) if depth else 0
        if kind == 0:
            return self.draw(st.sampled_from(self.tensors))
        if kind == 1 and self.maxima:
            largest, value, ranks = self.draw(st.sampled_from(self.maxima))
            return f"exp({value} - {largest})", ranks
        left, right = self.expression(depth - 1), self.expression(depth - 1)
        operator = self.draw(st.sampled_from("+-*/"))
        if operator == "/":
            right = self.draw(st.sampled_from(self.tensors[:3]))  # far from 0, whatever the order of additions
        return f"({left[0]} {operator} {right[0]})", "".join(sorted({*left[1], *right[1]}))

REWRITES: dict[str, Callable[[Cascade], Cascade]] = {
    "split": lambda whole: split(whole, "j", "J0"),
    "deferred": defer_division,
    "iterative": lambda whole: make_iterative(whole, "j"),
    "split and iterative": lambda whole: make_iterative(split(whole, "j", "J0"), "j"),
    "all three": lambda whole: make_iterative(split(defer_division(whole), "j", "J0"), "j"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", REWRITES)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_rewrite_changes_a_result_of_any_chain(form: str, data: st.DataObject) -> None:
    """Where the chain gives a finite number, so does what it becomes, and the same one; or it is refused."""
    text = "\n".join(Chain(data.draw).lines)
    whole = parse("chain", text)
    random = np.random.default_rng(0)
    arrays = {"X": random.uniform(0.5, 2, (4, 6)), "W": random.uniform(0.5, 2, 6), "U": random.uniform(0.5, 2, 4)}
    inputs = {name: arrays[name] for name in whole.inputs}
    try:
        other = REWRITES[form](whole)
    except CascadeSimError:
        return
    if "j" in whole.ranks and form in ("split", "iterative"):
        saved = passes(whole, "j") - passes(other, "j")
        assert saved >= 0 if form == "iterative" else saved == 0
    tile = {"J0": 3} if "j0" in other.ranks else {}
    expected, found = evaluate(whole, inputs), evaluate(other, inputs, tile)
    for output in whole.outputs:
        finite = np.isfinite(expected[output])
        same = np.allclose(found[output].reshape(finite.shape)[finite], expected[output][finite], rtol=1e-8)
        assert same, to_text(other)


@pytest.mark.parametrize("name", cascade_names())
def test_every_cascade_is_written_as_it_is_read(name: str) -> None:
    assert shape(parse(name, to_text(find(name)))) == shape(find(name))


@pytest.mark.parametrize(
    "text",
    ["A[i] - (B[i] - C[i])", "(A[i] - B[i]) * C[i]", "A[i] / (B[i] * C[i])", "-(A[i] + B[i])", "-A[i] * B[i]",
     "A[i] if i < 3 else B[i] if i < 4 else 0", "(A[i] if i < 3 else B[i]) * C[i]", "max(A[i], B[i], -inf) + 0.00001",
     "A[(i+1)//2] + A[i//(2*G)]", "A[2*i-1] * S[]", "A[J[i]] - -3", "A[i] * 1e-30 / I"],
)
def test_every_construct_is_written_as_it_is_read(text: str) -> None:
    read = parse("example", f"Y[i] = {text}")
    assert shape(parse("example", to_text(read))) == shape(read)
