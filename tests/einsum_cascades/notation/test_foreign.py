"""Einsums of TeAAL and AccelForge in our notation: what each construct becomes, and what is refused at its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.foreign import foreign, read_foreign
from cascadesim.einsum_cascades.notation.notation import parse, to_text

TEAAL, FORGE = "einsum:\n  expressions:", "workload:\n  einsums:"


def teaal(*texts: str) -> str:
    """What a list of TeAAL's expressions becomes."""
    return written(TEAAL.replace("  ", "  declaration: {A: [K, M]}\n  ") + "".join(f"\n  - {text}" for text in texts))


def accelforge(*entries: str) -> str:
    """What a list of AccelForge's Einsums becomes."""
    declared = FORGE.replace("  ", "  bits_per_value: {All: 8}\n  ")
    return written(declared + "".join(f"\n  - {entry}" for entry in entries))


def written(text: str) -> str:
    return "; ".join(" ".join(line.split()) for line in to_text(foreign(text, "theirs.yaml")).splitlines())


def complaint(text: str) -> str:
    with pytest.raises(CascadeSimError) as caught:
        foreign(text, "theirs.yaml")
    return str(caught.value).splitlines()[0]


@pytest.mark.parametrize(("text", "expected"), [
    ("Z[m, n] = A[k, m] * B[k, n]", "Z[m,n] = A[k,m] * B[k,n]"),
    ("Z[m, n] = a * T[m, n] + b * C[m, n]", "Z[m,n] = A[] * T[m,n] + B[] * C[m,n]"),  # scalars have no indices
    ("Z[m] = a * A[k, m]", "Z[m] = a[] * A[k,m]"),  # where A is a tensor, the scalar keeps its letter
    ("Z[m, n] = sum(K).(A[k, m] * B[k, n])", "Z[m,n] = A[k,m] * B[k,n]"),  # before 2023; = sums what is not on the left
    ("Y[q] = I[g * q + s] * F[s]", "Y[q] = I[q*G+s] * F[s]"),  # a stride
    ("Y[q] = I[q * g + s] * F[s]", "Y[q] = I[q*G+s] * F[s]"),  # q stands by itself on the left, so g is the number
    ("Y[q] = I[2 * q + s] * F[s]", "Y[q] = I[2*q+s] * F[s]"),
    ("Y[m] <<= A[k, m]", "Y[m] = A[k,m]"),
    ("Z = A[k] * B[k]", "Z = A[k] * B[k]"),
])  # fmt: skip
def test_teaal(text: str, expected: str) -> None:
    assert teaal(text) == expected


def test_a_cascade_of_teaal_keeps_its_order() -> None:
    assert teaal("T[k, m] = A[k, m] * B[k]", "Z[m] = T[k, m]") == "T[k,m] = A[k,m] * B[k]; Z[m] = T[k,m]"


@pytest.mark.parametrize(("entries", "expected"), [
    (["Z[m, n] = A[m, k] * B[k, n]"], "Z[m,n] = A[m,k] * B[k,n]"),
    (['{einsum: "I[b, m] = X[b, m]", is_copy_operation: True}'], "I[b,m] = X[b,m]"),
    (['"I[b, m] = copy(X[b, m])"'], "I[b,m] = X[b,m]"),
    (['"Q(output)[b, m] = X(input)[b, m]"'], "Q[b,m] = X[b,m]"),  # roles are for constraints
    # a dimension is known by its name: V is V[b,m,e]; what E and M are read at, in any order
    (['"V[b, m, e] = X[b, m, d] * W[d, e]"', '"Y[b, p, f] = S[b, p, m] * V[E: f, B: b, M: m]"'],
     "V[b,m,e] = X[b,m,d] * W[d,e]; Y[b,p,f] = S[b,p,m] * V[b,m,f]"),
    (['"V[b, m] = X[b, m]"', '"Y[b, p] = V[b, M=p] * U[p]"'], "V[b,m] = X[b,m]; Y[b,p] = V[b,p] * U[p]"),
    (['"Z[nA, n] = A[nA, k] * B[k, n]"'], "Z[na,n] = A[na,k] * B[k,n]"),  # our ranks are in lower case
])  # fmt: skip
def test_texts_of_accelforge(entries: list[str], expected: str) -> None:
    assert accelforge(*entries) == expected


def test_accesses_of_accelforge() -> None:
    convolution = """name: Conv
    tensor_accesses:
    - {name: I, projection: {N: n, C: c, H: p + r, W: 2*q+s}}
    - {name: F, projection: [m, c, r, s]}
    - {name: O, projection: [n, m, p, q], output: True}"""
    assert accelforge(convolution) == "O[n,m,p,q] = I[n,c,p+r,2*q+s] * F[m,c,r,s]"


def test_other_operations_than_products_and_sums() -> None:
    tropical = """name: T
    tensor_accesses: [{name: B, projection: [m, k]}, {name: C, projection: [k, n]},
                      {name: A, projection: [m, n], output: True}]
    map_op: add
    reduce_op: max"""
    assert accelforge(tropical) == "A[m,n] max= B[m,k] + C[k,n]"


def test_values_that_the_file_gives_are_filled_in() -> None:
    assert written("""
{% set CACHE = "K_cache" %}
{% set N = N | default(8) %}
workload:
  rank_sizes: {B: {{N}}, M: {{GIVEN_ELSEWHERE}}}
  {% set OTHER = "P" if DECODE else "M" %}
  einsums:
  - "QK[b, m, p] = Q[b, m, e] * {{CACHE}}[b, p, e]"
""") == "QK[b,m,p] = Q[b,m,e] * K_cache[b,p,e]"


@pytest.mark.parametrize(("text", "message"), [
    (TEAAL + "\n  - Z[m] = take(A[m], B[m], 0)", "line 3: take (one operand where another is not empty)"),
    (TEAAL + "\n  - Z[m] = B[m]\n  - Y[m] = A[k, m", "line 4: syntax: '[' was never closed"),
    (TEAAL + "\n\n  - Z[m, n] = A[k, m]", "line 4: rank 'n' of Z does not stand on the right side"),
    ("einsum: {expressions: 3}", "line 1: expected a list of Einsums"),
    ("einsum:\n  expressions: [[1]]", "line 2: expected an Einsum, as text"),
    (FORGE + "\n  - {einsum: \"Z[b, x] = Y[b, m]\", is_copy_operation: True}",
     "line 3: a copy between tensors that differ in m, x does not say which element goes where"),
    (FORGE + "\n  {% for i in range(3) %}\n  - A[m] = B[m]", "line 3: {% for i in range(3) %} is a template"),
    (FORGE + "\n  - A[m] = {{B}}[m]", "line 3: {{B}} has no value here: give the file as its templates"),
    ("{{include_text('more.yaml')}}\nworkload:\n", "line 1: {{include_text('more.yaml')}} has no value here"),
    (FORGE + "\n  - A[m] = B[m] * C[nA]\n  - D[na] = C[na]", "line 4: ranks nA and na differ in capitals"),
    (FORGE + "\n  - name: X", "line 3: expected an Einsum as text, or tensor_accesses"),
    (FORGE + "\n  - tensor_accesses: [{name: A, projection: [m]}]", "line 3: expected one output and some"),
    (FORGE + "\n  - tensor_accesses: [{name: A, projection: 3}]", "line 3: expected a projection"),
    (FORGE + "\n  - {tensor_accesses: [{name: A, projection: [m], output: True}, {name: B, projection: [m]}],"
     " map_op: xor}", "line 3: map_op 'xor' has no counterpart; known: multiply"),
    ("architecture: 3", "neither TeAAL's 'einsum: expressions:' nor AccelForge's 'workload: einsums:'"),
    ("", "neither TeAAL's"),
    ("a: [", "not valid YAML: line"),
    ("a: 1\nworkload: &x {einsums: 3}\nb: *x", "not valid YAML: line 2: aliases (*name) are not used here"),
])  # fmt: skip
def test_what_cannot_be_said_is_refused_at_its_line(text: str, message: str) -> None:
    found = complaint(text)
    assert found.startswith("theirs.yaml")
    assert message in found


def test_a_file_is_read_and_computes_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "gemm.yaml"
    path.write_text("einsum:\n  expressions:\n  - Z[m, n] = a * A[k, m] * B[k, n]\n")
    found = read_foreign(path)
    assert found.name == "gemm"
    a, b = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(3, 4)
    assert np.allclose(evaluate(found, {"a": 2.0, "A": a, "B": b})["Z"], 2 * a.T @ b)
    assert to_text(parse("gemm", to_text(found))) == to_text(found)


def test_a_missing_file_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_foreign(tmp_path / "nowhere.yaml")
