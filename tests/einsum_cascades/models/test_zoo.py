"""The workloads that come along: every one runs in every phase and scope, and is found by its names."""

from __future__ import annotations

import builtins
import io
from math import prod
from pathlib import Path
from typing import NoReturn, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import (
    ALIASES,
    Scope,
    Workload,
    canonical_name,
    load_workload,
    workload_names,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError

NAMES = workload_names()
RANKS = {"attention": "bhgmpef", "linear": "rknx", "elementwise": "rd"}


def phases(workload: Workload) -> tuple[Phase, ...]:
    return ("prefill", "decode") if workload.generates else ("prefill",)


def multiplications(operation: Operation) -> int:
    """Of matrix products; pairs of an attention are those its mask attends."""
    sizes = dict(operation.extents)
    if operation.kind == "attention":
        pairs = operation.mask.attended_pairs(sizes["p"], sizes["m"])
        return operation.count * sizes["b"] * sizes["h"] * pairs * (sizes["e"] + sizes["f"])
    return operation.count * prod(sizes.values()) if operation.kind == "linear" else 0


def test_llama_is_found_by_its_short_name() -> None:
    llama = load_workload("llama")
    assert llama.name == "llama-3.1-8b"
    assert (llama.batch, llama.sequence_length, llama.hidden) == (1, 4096, 4096)


def test_the_four_models_of_fusemax_have_its_sizes_and_batch() -> None:
    """FuseMax, evaluation: heads, head size, hidden, feed-forward; batch 64, no mask."""
    sizes = {"bert": (12, 64, 768, 3072), "trxl": (16, 64, 1024, 4096), "t5": (8, 64, 512, 2048)}
    sizes["xlm"] = (16, 128, 2048, 8192)
    for name, (heads, head_dim, hidden, ffn) in sizes.items():
        (attention,) = load_workload(name).operations(sequence_length=1024, scope="attention")
        assert dict(attention.extents) == {
            "b": 64, "h": heads, "g": 1, "m": 1024, "p": 1024, "e": head_dim, "f": head_dim,
        }  # fmt: skip
        assert str(attention.mask) == "full"
        rows, heads_width = 64 * 1024, heads * head_dim
        linear = load_workload(name).operations(sequence_length=1024, scope="linear")
        shapes = [tuple(dict(operation.extents).values()) for operation in linear]
        assert shapes == [
            *[(rows, hidden, heads_width, 1)] * 3, (rows, heads_width, hidden, 1),
            (rows, hidden, ffn, 1), (rows, ffn, hidden, 1),
        ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_says_what_it_is_and_from_where(name: str) -> None:
    workload = load_workload(name)
    assert workload.name == name
    assert len(workload.source) > 10
    assert workload.certainty.split()[0] in ("certain", "likely", "uncertain")
    assert workload.max_context is None or workload.sequence_length <= workload.max_context


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_runs_in_every_phase_and_scope_at_its_default_length(name: str) -> None:
    workload = load_workload(name)
    for phase in phases(workload):
        for scope in get_args(Scope):
            operations = workload.operations(phase=phase, scope=scope)
            assert operations
            for operation in operations:
                assert "".join(rank for rank, _ in operation.extents) == RANKS[operation.kind]
                assert min(operation.count, *dict(operation.extents).values()) >= 1
                assert (multiplications(operation) > 0) == (operation.kind != "elementwise")
                assert scope in ("model", operation.kind)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_holds_one_layer_of_each_kind_as_often_as_it_occurs(name: str) -> None:
    workload = load_workload(name)
    whole = workload.operations()
    named = [operation for operation in whole if operation.layer]
    assert {operation.layer for operation in named} == set(workload.layers)
    for operation in named:
        assert operation.count == workload.layers[operation.layer].count
    assert [operation.layer for operation in whole[len(named) :]] == [""] * (len(whole) - len(named))


@pytest.mark.parametrize("name", NAMES)
def test_decode_of_one_token_is_less_work_than_prefill(name: str) -> None:
    workload = load_workload(name)
    if not workload.generates:
        with pytest.raises(CascadeSimError, match=f"{name}: phase decode needs a model that generates"):
            workload.operations(phase="decode")
        return
    work = {phase: sum(map(multiplications, workload.operations(phase=phase))) for phase in get_args(Phase)}
    assert 0 < work["decode"] < work["prefill"]


@settings(deadline=None)
@given(name=st.sampled_from(NAMES), length=st.integers(1, 20_000), batch=st.integers(1, 300), decode=st.booleans())
def test_any_length_and_batch_runs_or_is_refused(name: str, length: int, batch: int, decode: bool) -> None:
    """Refused: what does not generate, in decode; lengths that a hierarchy cannot merge or lay out as a square."""
    workload = load_workload(name)
    phase: Phase = "decode" if decode else "prefill"
    try:
        operations = workload.operations(sequence_length=length, batch=batch, phase=phase)
    except CascadeSimError:
        hierarchical = any(layer.merge > 1 or layer.neighborhood for layer in workload.layers.values())
        assert hierarchical or phase not in phases(workload)
    else:
        assert sum(map(multiplications, operations)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_has_as_many_tokens_as_the_sequence(name: str) -> None:
    workload = load_workload(name)
    if workload.layout is not None:
        class_token = 1 if name.startswith("vit") else 0
        assert prod(map(int, workload.layout.split("x"))) + class_token == workload.sequence_length


@pytest.mark.parametrize("name", NAMES)
def test_heads_that_share_keys_divide_evenly(name: str) -> None:
    for operation in load_workload(name).operations(scope="attention"):
        assert operation.extent("h") % operation.extent("g") == 0


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_another_name_of_a_workload(alias: str, name: str) -> None:
    assert name in NAMES
    assert alias not in NAMES
    assert canonical_name(alias) == name


def test_names_are_the_models_in_lower_case() -> None:
    assert all(name == canonical_name(name) == name.lower() for name in NAMES)
    assert canonical_name(" ViT-B/16 ") == "vit-b-16"
    assert load_workload("Mixtral-8x7B-v0.1").name == "mixtral-8x7b-v0.1"


def test_listing_names_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    assert workload_names() == NAMES


def test_an_unknown_name_gets_the_one_that_was_meant() -> None:
    with pytest.raises(UnknownNameError) as error:
        load_workload("lama-3.1-8b")
    assert str(error.value) == "no workload 'lama-3.1-8b'; did you mean 'llama-3.1-8b'?"


@pytest.mark.parametrize("name", ["", "../secret", "bert.yml.txt", "a/b"])
def test_a_name_reaches_no_file_outside_the_package(name: str) -> None:
    with pytest.raises(UnknownNameError, match="no workload"):
        load_workload(name)


def test_a_file_of_ones_own_is_a_workload(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nkind: encoder\nsource: invented\ncertainty: certain\nbatch: 2\nsequence_length: 10\nhidden: 8\n"
        "norm: rms\nattention: {heads: 2, head_dim: 4}\nffn: {width: 16, activation: relu}\nlayers: {all: {count: 3}}\n"
    )
    (attention,) = load_workload(str(path)).operations(scope="attention")
    assert dict(attention.extents) == {"b": 2, "h": 2, "g": 1, "m": 10, "p": 10, "e": 4, "f": 4}


def test_settings_change_a_workload() -> None:
    changed = load_workload("bert", ["attention.heads=24", "layers.encoder.count=2"])
    assert changed.operations(scope="attention")[0].extent("h") == 24
    assert changed.layers["encoder"].count == 2
