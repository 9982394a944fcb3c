"""Models as lists of operations: phases, scopes, lengths, and the work they add up to. A trace stands as a model."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import (
    Workload,
    load_workload,
    workload_from,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, KeyInterval

TINY = """
name: tiny
kind: decoder
source: invented
certainty: certain
batch: 2
sequence_length: 8
max_context: 16
hidden: 12
vocabulary: 100
norm: rms
attention: {heads: 4, kv_heads: 2, head_dim: 5}
ffn: {width: 20, activation: silu, gated: true}
layers:
  decoder: {count: 3, mask: causal}
"""


def tiny(*settings: str) -> Workload:
    return workload_from(parse_yaml(TINY, "tiny.yaml"), "tiny.yaml", settings)


def refusal(*settings: str) -> str:
    with pytest.raises(SpecError) as error:
        tiny(*settings)
    return str(error.value)


def matrix_products(operations: Iterable[Operation]) -> int:
    """Multiplications in linear operations."""
    return sum(each.count * prod(dict(each.extents).values()) for each in operations if each.kind == "linear")


def test_a_tiny_model_is_three_layers_and_a_head() -> None:
    names = [operation.name for operation in tiny().operations()]
    assert names == [
        "attn_norm", "q_proj", "k_proj", "v_proj", "attention", "out_proj", "attn_residual",
        "ffn_norm", "ffn_up", "ffn_gate", "ffn_activation", "ffn_down", "ffn_residual",
        "final_norm", "lm_head",
    ]  # fmt: skip
    counts = {operation.name: operation.count for operation in tiny().operations()}
    assert counts["attention"] == 3
    assert counts["lm_head"] == 1


def test_scope_attention_is_one_attention() -> None:
    (attention,) = tiny().operations(scope="attention")
    assert dict(attention.extents) == {"b": 2, "h": 4, "g": 2, "m": 8, "p": 8, "e": 5, "f": 5}
    assert (attention.mask, attention.count, attention.layer) == (CAUSAL, 1, "decoder")
    assert attention.cascade.name == "attention-3pass"


def test_scope_linear_is_the_matrices_of_one_layer() -> None:
    shapes = {each.name: tuple(dict(each.extents).values()) for each in tiny().operations(scope="linear")}
    rows = 2 * 8
    assert shapes == {
        "q_proj": (rows, 12, 20, 1), "k_proj": (rows, 12, 10, 1), "v_proj": (rows, 12, 10, 1),
        "out_proj": (rows, 20, 12, 1), "ffn_up": (rows, 12, 20, 1), "ffn_gate": (rows, 12, 20, 1),
        "ffn_down": (rows, 20, 12, 1),
    }  # fmt: skip


def test_decode_is_one_query_per_sequence_over_the_cache() -> None:
    operations = {operation.name: operation for operation in tiny().operations(phase="decode", sequence_length=11)}
    attention = operations["attention"]
    assert dict(attention.extents) == {"b": 2, "h": 4, "g": 2, "m": 11, "p": 1, "e": 5, "f": 5}
    assert attention.mask.attended_pairs(1, 11) == 11
    assert operations["q_proj"].extent("r") == 2
    assert operations["attn_norm"].extent("r") == 2


def test_decode_with_a_window_sees_the_window() -> None:
    windowed = tiny("layers.decoder.window=4")
    assert windowed.operations(phase="decode", scope="attention")[0].extent("m") == 4
    assert windowed.operations(phase="decode", scope="attention", sequence_length=3)[0].extent("m") == 3
    assert windowed.operations(scope="attention")[0].mask == KeyInterval(causal=True, window=4)


def test_the_head_scores_only_the_newest_token_of_each_sequence() -> None:
    head = tiny().operations()[-1]
    assert dict(head.extents) == {"r": 2, "k": 12, "n": 100, "x": 1}


def test_an_encoder_ends_with_its_norm_and_has_no_decode() -> None:
    encoder = tiny("layers.decoder.mask=full")
    assert encoder.operations()[-1].name == "final_norm"
    with pytest.raises(CascadeSimError, match=r"tiny: phase decode needs a model that generates; no layer"):
        encoder.operations(phase="decode")


def test_kinds_of_layers_that_agree_are_named_together() -> None:
    """DeepSeek-V3 attends alike in its dense and its expert layers, and their feed-forwards differ."""
    deepseek = load_workload("deepseek-v3")
    assert [operation.layer for operation in deepseek.operations(scope="attention")] == ["dense+experts"]
    assert {operation.layer for operation in deepseek.operations(scope="linear")} == {"dense", "experts"}


def test_local_and_global_attention_are_two_kinds() -> None:
    attention = load_workload("gemma-3-12b").operations(scope="attention")
    assert [(each.layer, str(each.mask)) for each in attention] == [
        ("local", "causal, window 1024"), ("global", "causal"),
    ]  # fmt: skip


def test_local_layers_that_see_a_whole_short_sequence_are_no_kind_of_their_own() -> None:
    (attention,) = load_workload("gemma-3-12b").operations(scope="attention", sequence_length=1024)
    assert (attention.layer, attention.mask) == ("local+global", CAUSAL)


def test_another_cascade_of_attention_is_taken_by_name() -> None:
    (attention,) = tiny().operations(scope="attention", attention="attention-1pass")
    assert attention.cascade.name == "attention-1pass"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sequence_length": 0}, "sequence length: must be 1 to 1,073,741,824, got 0"),
        ({"sequence_length": -4}, "sequence length: must be 1 to 1,073,741,824, got -4"),
        ({"sequence_length": 2**31}, "sequence length: must be 1 to 1,073,741,824, got 2147483648"),
        ({"batch": 0}, "batch: must be at least 1, got 0"),
        ({"phase": "prefil"}, "no phase 'prefil'; did you mean 'prefill'?"),
        ({"scope": "layer"}, "no scope 'layer'; known: attention, linear, model"),
        ({"attention": "attention-1-pass"}, "no cascade 'attention-1-pass'; did you mean 'attention-1pass'?"),
        ({"attention": "layer-norm"}, "'layer-norm' is no attention: it does not read Q, K, V"),
    ],
)
def test_what_cannot_run_is_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(CascadeSimError) as error:
        tiny().operations(**asked)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_unknown_names_are_one_family_of_errors() -> None:
    assert issubclass(UnknownNameError, CascadeSimError)


def test_a_length_that_layers_cannot_merge_is_refused() -> None:
    nat = load_workload("nat-tiny")
    with pytest.raises(CascadeSimError) as error:
        nat.operations(sequence_length=3140)
    assert str(error.value) == (
        "nat-tiny: sequence length: must be a multiple of 64, the tokens that its layers merge into one, got 3140"
    )


def test_a_layout_that_is_no_square_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="neighborhood attention needs a square layout, got 3072 tokens"):
        load_workload("nat-tiny").operations(sequence_length=3072)


def test_a_length_beyond_the_context_is_run_with_a_note() -> None:
    assert tiny().notes() == ()
    assert tiny().notes(sequence_length=17) == ("tiny: 17 tokens exceed the model's context of 16",)
    assert tiny().operations(sequence_length=17)


def test_what_is_not_modelled_is_a_note() -> None:
    assert "gemma-2-9b: not modelled: soft-capping of the scores at 50 (a tanh per score)" in (
        load_workload("gemma-2-9b").notes()
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layers={}"], "layers: at least one kind of layer is needed"),
        (["ffn=null"], "layers.decoder: needs an ffn section, of its own or of the model"),
        (["attention=null"], "layers.decoder: needs an attention section, of its own or of the model"),
        (["layers.decoder.feed_forward=experts"], "layers.decoder: needs an experts section of the model"),
        (["layers.decoder.cross=text"], "layers.decoder: attends text, so text_length is needed"),
        (
            ["layers.decoder.mask=full", "attention.latent={q_rank: 2, kv_rank: 2, rope_dim: 1}"],
            "layers.decoder: latent attention needs mask: causal",
        ),
        (["hidden=0"], "hidden: should be greater than 0 (got 0)"),
        (["layers.decoder.cuont=3"], "layers.decoder.cuont: unknown field; did you mean 'count'?"),
        (["attention.head=3"], "attention.head: unknown field; did you mean 'heads'?"),
        (["hiden=3"], "hiden: unknown field; did you mean 'hidden'?"),
    ],
)
def test_an_incomplete_file_is_one_line(settings: list[str], message: str) -> None:
    assert refusal(*settings).startswith(f"tiny.yaml: {message}")


def test_a_file_with_many_faults_names_them_all() -> None:
    lines = refusal("hidden=0", "batch=many", "norm=group", "layers.decoder.count=-1").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["batch", "hidden", "norm", "layers.decoder.count"]


def test_settings_take_numbers_that_yaml_reads_as_text() -> None:
    """`4e3` is text in YAML 1.1; in a file it gets a hint (`test_schema`), in a setting it is the number."""
    assert tiny("hidden=4e3").hidden == 4000
    assert "hidden: should be a valid integer" in refusal("hidden=4.5e0")


def test_uncertain_sizes_are_a_note() -> None:
    assert load_workload("hdit-imagenet-256").notes()[0].startswith("hdit-imagenet-256: its sizes are uncertain; ")

# ---- the work adds up

DENSE = ["llama-3.1-8b", "llama-2-70b", "gpt-2-small", "qwen3-32b", "gemma-2-9b", "phi-3-mini-4k", "bert", "vit-b-16"]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_token_passes_once_through_every_matrix(name: str, phase: str) -> None:
    """2 FLOPs per parameter and token: multiplications = tokens x weights of matrices."""
    workload = load_workload(name)
    if phase == "decode" and not workload.generates:
        return
    weights = 0
    for layer in workload.layers.values():
        attention, ffn = layer.attention or workload.attention, layer.ffn or workload.ffn
        assert attention is not None
        assert ffn is not None
        heads = 2 * attention.heads + 2 * attention.key_heads  # queries and output; keys and values
        per_layer = workload.hidden * (heads * attention.head_dim + (3 if ffn.gated else 2) * ffn.width)
        weights += layer.count * per_layer
    tokens = 3 * (64 if phase == "prefill" else 1)
    operations = workload.operations(sequence_length=64, batch=3, phase=phase)  # type: ignore[arg-type]
    assert matrix_products(each for each in operations if each.layer) == tokens * weights


@pytest.mark.parametrize("name", [name for name in DENSE if name not in ("bert", "vit-b-16")])
def test_prefill_is_two_flops_per_parameter_and_token(name: str) -> None:
    """Within 1 % once embeddings are left out: norms and biases are stored and take no product."""
    workload = load_workload(name)
    heads = 1 if workload.tied_embeddings else 2
    position = workload.other_parameters.get("position_embedding", 0)
    stored = workload.parameters() - heads * (workload.vocabulary or 0) * workload.hidden - position
    products = matrix_products(each for each in workload.operations(sequence_length=512) if each.layer)
    assert 2 * products == pytest.approx(2 * stored * 512, rel=0.01)
    assert products <= stored * 512


@pytest.mark.parametrize(
    ("name", "active", "embeddings", "within", "source"),
    [
        ("mixtral-8x7b-v0.1", 12.9e9, 2, 0.01, "Mixtral (arXiv 2401.04088), with both embeddings"),
        ("gpt-oss-20b", 3.61e9, 1, 0.01, "gpt-oss model card (arXiv 2508.10925), table 1: without the embedding"),
        ("gpt-oss-120b", 5.13e9, 1, 0.01, "gpt-oss model card (arXiv 2508.10925), table 1: without the embedding"),
        ("deepseek-v3", 37e9, 1, 0.02, "DeepSeek-V3 (arXiv 2412.19437): two digits"),
        ("kimi-k2", 32e9, 1, 0.03, "Kimi K2 (arXiv 2507.20534): two digits"),
        ("qwen3-30b-a3b", 3.3e9, 2, 0.03, "model card: two digits"),
        ("qwen3-235b-a22b", 22e9, 2, 0.03, "model card: two digits"),
        ("llama-4-scout-17b-16e", 17e9, 2, 0.03, "model card: two digits"),
        ("llama-4-maverick-17b-128e", 17e9, 2, 0.03, "model card: two digits"),
    ],
)
def test_a_token_of_a_mixture_multiplies_with_the_active_parameters(
    name: str, active: float, embeddings: int, within: float, source: str
) -> None:
    """One token in decode reaches exactly the chosen and shared experts."""
    workload = load_workload(name)
    one_token = matrix_products(each for each in workload.operations(phase="decode", batch=1) if each.layer)
    assert one_token + embeddings * (workload.vocabulary or 0) * workload.hidden == pytest.approx(active, rel=within)


def test_all_experts_are_read_in_a_long_prefill_and_each_token_still_pays_for_its_own() -> None:
    """Mixtral, 4096 tokens x 2 choices over 8 experts: 1024 rows each."""
    operations = {each.name: each for each in load_workload("mixtral").operations(scope="linear")}
    assert dict(operations["expert_up"].extents) == {"r": 1024, "k": 4096, "n": 14336, "x": 8}


@settings(deadline=None)
@given(length=st.integers(1, 300), batch=st.integers(1, 5))
def test_work_grows_with_length_and_batch(length: int, batch: int) -> None:
    def products(length: int, batch: int) -> int:
        return matrix_products(tiny().operations(sequence_length=length, batch=batch))

    assert products(length, 2 * batch) == 2 * products(length, batch)
    assert products(length + 1, batch) > products(length, batch)


@pytest.mark.slow
@settings(deadline=None)
@given(length=st.integers(1, 60))
def test_decoding_a_sequence_attends_as_many_pairs_as_its_prefill(length: int) -> None:
    """Position by position, one query each: the sum over decode steps is the causal triangle (or band)."""
    for workload in (tiny(), tiny("layers.decoder.window=7"), tiny("layers.decoder.chunk=7")):
        (prefill,) = workload.operations(scope="attention", sequence_length=length)
        steps = [
            workload.operations(scope="attention", phase="decode", sequence_length=position)[0].extent("m")
            for position in range(1, length + 1)
        ]
        assert sum(steps) == prefill.mask.attended_pairs(length, length)


def test_parameters_of_models_whose_parts_run_side_by_side() -> None:
    """GPT-J: four 4096 x 4096, two 4096 x 16384 with biases and a norm, 28 times; embeddings, head with bias, norm.
    Falcon-180B: 232 heads of 64, 8 of keys and values, two norms of 14848, 80 times."""
    layer = 4 * 4096**2 + 2 * 4096 * 16384 + 16384 + 4096 + 2 * 4096
    assert load_workload("gpt-j-6b").parameters() == 28 * layer + 2 * 50400 * 4096 + 50400 + 2 * 4096 == 6_050_882_784
    layer = 2 * 14848**2 + 2 * 14848 * 8 * 64 + 2 * 14848 * 59392 + 4 * 14848
    assert load_workload("falcon-180b").parameters() == 80 * layer + 2 * 65024 * 14848 + 2 * 14848 == 179_522_565_120
