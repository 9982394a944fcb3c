"""`config.json` of published models, written down by hand: exact parameters and caches, kinds of layers, and the
operations of the workloads that come along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published_configurations import MODELS, OTHERS, loaded, written

from cascadesim.einsum_cascades.models.configurations import workload_fields, workload_yaml
from cascadesim.einsum_cascades.models.layers import Layer
from cascadesim.einsum_cascades.models.workload import Workload, load_workload

SHIPPED = {"Qwen3-8B": "qwen3-8b", "Qwen3-32B": "qwen3-32b", "Llama-3.1-405B": "llama-3.1-405b",
           "DeepSeek-R1": "deepseek-v3", "Mistral-7B": "mistral-7b-v0.1", "Qwen2.5-7B": "qwen2.5-7b",
           "Phi-3-mini": "phi-3-mini-4k", "Gemma-2-9B": "gemma-2-9b", "Gemma-3-1B": "gemma-3-1b",
           "Qwen3-30B-A3B": "qwen3-30b-a3b", "gpt-oss-20b": "gpt-oss-20b"}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "cache"), [  # 4,096 tokens, 16 bit: hand-derived, as published
    ("Qwen3-8B", 8_190_735_360, 603_979_776), ("Qwen3-32B", 32_762_123_264, 1_073_741_824),
    ("Mixtral-8x22B", 140_620_634_112, 939_524_096), ("Llama-3.1-405B", 405_853_388_800, 2_113_929_216),
    ("DeepSeek-R1", 671_026_419_200, 287_834_112),
])  # fmt: skip
def test_parameters_and_caches_are_exact(tmp_path: Path, name: str, parameters: int, cache: int) -> None:
    found = loaded(tmp_path, MODELS[name])
    assert found.parameters() == parameters
    assert found.kv_cache_bytes(4096, 1) == cache


@pytest.mark.parametrize("name", SHIPPED)
def test_the_operations_are_those_of_the_workload_that_comes_along(tmp_path: Path, name: str) -> None:
    """Its length is the shorter one of 4,096 and what the file says."""
    found, known = loaded(tmp_path, MODELS[name]), load_workload(SHIPPED[name])
    assert found.parameters() == known.parameters()
    for phase in ("prefill", "decode"):
        ours, theirs = (model.operations(sequence_length=8192, batch=2, phase=phase) for model in (found, known))  # type: ignore[arg-type]
        assert [(one.name, one.count, one.extents, one.cascade.name) for one in ours] == [
            (one.name, one.count, one.extents, one.cascade.name) for one in theirs]  # fmt: skip


def test_a_folder_and_an_id_name_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    written(folder, MODELS["Qwen3-8B"])
    assert load_workload(str(folder)).name == "My-Model"
    assert load_workload("Qwen/Qwen3-32B") == load_workload("qwen3-32b")
    assert load_workload("openai/gpt-oss-20b").name == "gpt-oss-20b"
    assert load_workload(str(folder), ["batch=3"]).batch == 3


def test_the_yaml_reads_back_as_the_same_model(tmp_path: Path) -> None:
    for content in {**MODELS, **OTHERS}.values():
        path = written(tmp_path, content)
        fields = workload_fields(path)
        (tmp_path / "mine.yaml").write_text(workload_yaml(path), encoding="utf-8")
        assert workload_fields(tmp_path / "mine.yaml") == fields


def test_layers_of_kinds_follow_the_rule_of_their_family(tmp_path: Path) -> None:
    def kinds(content: dict[str, Any]) -> dict[str, tuple[int, int | None]]:
        return {name: (layer.count, layer.window) for name, layer in loaded(tmp_path, content).layers.items()}

    assert kinds(MODELS["Gemma-3-1B"]) == {"local": (22, 512), "global": (4, None)}  # each sixth is global
    assert kinds(MODELS["Gemma-2-9B"]) == {"local": (21, 4096), "global": (21, None)}
    late = {**MODELS["Qwen2.5-7B"], "use_sliding_window": True, "max_window_layers": 20}
    assert kinds(late) == {"global": (20, None), "local": (8, 131072)}
    sparse = {**MODELS["Qwen3-30B-A3B"], "mlp_only_layers": [0, 1]}
    assert kinds(sparse) == {"dense": (2, None), "experts": (46, None)}
    every_second = {**sparse, "decoder_sparse_step": 2}
    assert kinds(every_second)["experts"] == (23, None)  # the 4th, 6th ... 48th; the 2nd is a dense one
    vision = {"model_type": "gemma3", "text_config": MODELS["Gemma-3-1B"], "vision_config": {"hidden_size": 7}}
    assert "encoders of images and other things" in loaded(tmp_path, vision).not_modelled


BESIDE = pytest.mark.skipif("parallel" not in Layer.model_fields, reason="no layer has attention beside a perceptron")


@pytest.mark.parametrize(("name", "parameters"), [  # as the files of the models have them
    ("gpt2", 124_439_808), ("opt-1.3b", 1_315_758_080), ("bert-base", 109_482_240), ("roberta-base", 124_645_632),
    ("vit-b-16", 86_567_656), ("t5-small", 60_506_624), ("flan-t5-base", 247_577_856),
    pytest.param("gpt-j-6b", 6_050_882_784, marks=BESIDE), pytest.param("falcon-7b", 7_217_189_760, marks=BESIDE),
    pytest.param("falcon-180b", 179_522_565_120, marks=BESIDE),
])  # fmt: skip
def test_parameters_of_older_models_are_exact(tmp_path: Path, name: str, parameters: int) -> None:
    assert abs(loaded(tmp_path, OTHERS[name]).parameters() - parameters) <= 1000  # biases of positions beside scores


@pytest.mark.parametrize(("name", "billions"), [  # as their authors round them
    ("glm-4-9b", 9.40), ("glm-4.5-air", 106), ("glm-4.5", 355),
    ("minimax-m2.5", 229), ("gemma-4-26b", 25.2), ("llama-4-scout", 107.8),
    ("qwen3.5-27b", 26.9), ("nemotron-h-56b", 56.3), ("nemotron-3-nano", 31.6), ("mimo-v2-flash", 309),
])  # fmt: skip
def test_parameters_of_newer_models_are_within_a_percent(tmp_path: Path, name: str, billions: float) -> None:
    assert loaded(tmp_path, OTHERS[name]).parameters() == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize("name", ["qwen3.5-27b", "qwen3.5-35b-a3b", "nemotron-h-56b", "mimo-v2-flash", "bert-base",
                                  "vit-b-16", "t5-small"])  # fmt: skip
def test_other_operations_are_those_of_the_workload_that_comes_along(tmp_path: Path, name: str) -> None:
    """Kinds of layers may come in another order, and images have a layout there."""
    found, known = loaded(tmp_path, OTHERS[name]), load_workload(name)
    assert found.parameters() == known.parameters()

    def listed(model: Workload, phase: str) -> list[tuple[object, ...]]:
        return sorted((one.name, one.count, one.extents, one.cascade.name, str(one.mask))
                      for one in model.operations(sequence_length=197, batch=2, phase=phase))  # type: ignore[arg-type]

    for phase in ("prefill", "decode") if found.generates else ("prefill",):
        assert listed(found, phase) == listed(known, phase)


def test_only_layers_that_the_file_names_have_attention_sinks(tmp_path: Path) -> None:
    """MiMo-V2-Flash: 64 heads in each of 39 sliding layers, none in the 9 full ones."""
    sinks, without = (loaded(tmp_path, {**OTHERS["mimo-v2-flash"], "add_swa_attention_sink_bias": flag})
                      for flag in (True, False))  # fmt: skip
    assert sinks.other_parameters == {"attention_sinks": 64 * 39}
    assert sinks.parameters() - without.parameters() == 2496


@pytest.mark.parametrize(("given", "said"), [
    ({"torch_dtype": "float32"}, "dtype=fp32"), ({"dtype": "float32"}, "dtype=fp32"),
    ({"torch_dtype": "float8_e4m3fn"}, "dtype=fp8"), ({"torch_dtype": "float64"}, "dtype=TYPE"),
    ({"torch_dtype": "float16"}, None), ({"dtype": "bfloat16"}, None), ({"torch_dtype": "auto"}, None),
])  # fmt: skip
def test_types_that_are_not_of_16_bits_are_said(tmp_path: Path, given: dict[str, str], said: str | None) -> None:
    """Architectures begin with 16 bits: whoever has a file of 32 must not take them for its own."""
    inner = {name: value for name, value in OTHERS["qwen3.5-27b"].items() if name != "torch_dtype"}
    for content in ({**inner, **given}, {"model_type": "qwen3_5", "text_config": inner, **given}):
        noted = [note for note in loaded(tmp_path, content).notes() if "the architecture's" in note]
        assert [note.partition("--set ")[2] for note in noted] == ([] if said is None else [said])


def test_caches_of_hybrids_are_exact(tmp_path: Path) -> None:
    """After 256K tokens, deployment of Qwen3.5-27B: 16 layers of 2 x 4 x 256 numbers a token, 48 states in fp32."""
    found = loaded(tmp_path, OTHERS["qwen3.5-27b"])
    assert found.kv_cache_bytes(2**18, 1) == 17_179_869_184
    assert found.state_bytes(1) == (150_994_944, 2_949_120)


def test_norms_over_all_heads_have_a_scale_for_each_of_their_numbers(tmp_path: Path) -> None:
    """MiniMax-M2: 48 query heads and 8 key heads of 128, in 62 layers."""
    full = loaded(tmp_path, OTHERS["minimax-m2.5"])
    attention = full.attention
    assert attention is not None
    each = full.model_copy(update={"attention": attention.model_copy(update={"qk_norm": True})})
    assert full.parameters() - each.parameters() == 62 * 128 * (48 + 8 - 2)
    (norm,) = [one for one in full.operations(sequence_length=10, batch=3) if one.name == "q_norm"]
    assert (norm.extent("r"), norm.extent("d")) == (30, 48 * 128)


def test_layers_say_which_window_chunk_rotation_and_heads_they_have(tmp_path: Path) -> None:
    scout = loaded(tmp_path, OTHERS["llama-4-scout"])
    assert {name: (layer.count, layer.chunk) for name, layer in scout.layers.items()} == {
        "local": (36, 8192), "global": (12, None)}  # fmt: skip
    assert scout.sizes(scout.layers["global"]).attention.rotary is False  # type: ignore[union-attr]
    assert scout.experts is not None
    assert scout.experts.shared == 1
    gemma = loaded(tmp_path, OTHERS["gemma-4-26b"])
    own = gemma.sizes(gemma.layers["global"]).attention
    assert own is not None
    assert (own.head_dim, own.kv_heads, own.rotated) == (512, 2, 128)
    assert gemma.attention is not None
    assert (gemma.attention.head_dim, gemma.attention.kv_heads, gemma.attention.rotated) == (256, 8, 256)
    assert gemma.experts is not None
    assert gemma.experts.shared == 3  # the dense part of 2,112 beside experts of 704
    roberta = loaded(tmp_path, OTHERS["roberta-base"])
    assert (roberta.max_context, roberta.generates) == (512, False)


def test_lists_of_layers_say_more_than_rules(tmp_path: Path) -> None:
    """Llama 4 lists layers that rotate, or those with experts; Gemma 4 without experts is dense everywhere."""
    turns = [1, 0, 0, *[1] * 45]
    scout = loaded(tmp_path, {**OTHERS["llama-4-scout"], "no_rope_layers": turns})
    assert {name: layer.count for name, layer in scout.layers.items()} == {"local": 46, "global": 2}
    maverick = loaded(tmp_path, {**OTHERS["llama-4-scout"], "moe_layers": list(range(1, 48, 2))})
    assert sum(layer.count for layer in maverick.layers.values() if layer.feed_forward == "experts") == 24
    gemma = loaded(tmp_path, {**OTHERS["gemma-4-26b"], "enable_moe_block": False})
    assert gemma.experts is None
    assert gemma.ffn is not None
    assert gemma.ffn.width == 2112


def test_a_text_part_takes_what_the_whole_file_says_of_its_embeddings(tmp_path: Path) -> None:
    inner = OTHERS["qwen3.5-27b"]
    tied = loaded(tmp_path, {"model_type": "qwen3_5", "text_config": inner, "tie_word_embeddings": True})
    apart = loaded(tmp_path, {"model_type": "qwen3_5", "text_config": inner, "tie_word_embeddings": False})
    assert apart.parameters() - tied.parameters() == 248320 * 5120
    assert "encoders of images and other things" in tied.not_modelled
