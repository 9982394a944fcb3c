"""The sizes in the workload files give the models' published parameter counts: a wrong shape would show here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from cascadesim.einsum_cascades.models.layers import (
    Layer,
    LayerSizes,
    Phase,
    layer_parameters,
    norm_parameters,
)
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.models.sections import Attention, FeedForward
from cascadesim.einsum_cascades.models.workload import load_workload

EXACT = 0.0  # every tensor is in the file
ROUNDED = 5e-3  # the publication gives three digits


@dataclass(frozen=True)
class Published:
    workload: str
    parameters: float
    within: float  # relative
    source: str
    because: str = ""


CHECKPOINT = "number of elements of the public checkpoint, recalled"
PUBLISHED = [
    Published("bert-base", 109_482_240, EXACT, CHECKPOINT),
    Published("bert", 109_482_240, EXACT, CHECKPOINT),
    Published("bert-large", 335_141_888, EXACT, CHECKPOINT),
    Published("gpt-2-small", 124_439_808, EXACT, CHECKPOINT),
    Published("gpt-2-medium", 354_823_168, EXACT, CHECKPOINT),
    Published("t5-small", 60_506_624, EXACT, CHECKPOINT),
    Published("t5-base", 222_903_552, EXACT, CHECKPOINT),
    Published("t5-large", 737_668_096, EXACT, CHECKPOINT),
    Published("xlm-mlm-en-2048", 665e6, ROUNDED, "list of pretrained models of Hugging Face transformers, recalled"),
    Published("llama-2-7b", 6_738_415_616, EXACT, CHECKPOINT),
    Published("llama-2-70b", 68_976_648_192, EXACT, CHECKPOINT),
    Published("llama-3.1-8b", 8_030_261_248, EXACT, CHECKPOINT),
    Published("llama-3.1-70b", 70_553_706_496, EXACT, CHECKPOINT),
    Published("llama-3.1-405b", 405_853_388_800, EXACT, CHECKPOINT),
    Published("llama-3.2-1b", 1_235_814_400, EXACT, CHECKPOINT),
    Published("llama-4-scout-17b-16e", 109e9, 0.02, "model card", "the card counts the vision encoder too"),
    Published("llama-4-maverick-17b-128e", 400e9, 0.005, "model card", "the card counts the vision encoder too"),
    Published("mistral-7b-v0.1", 7_241_732_096, EXACT, CHECKPOINT),
    Published("mixtral-8x7b-v0.1", 46_702_792_704, EXACT, CHECKPOINT),
    Published("gemma-2-9b", 917_962_752 + 8_324_201_984, 1e-4, "Gemma 2 report, table 2, recalled"),
    Published("gemma-2-27b", 1_180_237_824 + 26_047_480_320, 1e-4, "Gemma 2 report, table 2, recalled"),
    Published("gemma-3-1b", 302e6 + 698e6, ROUNDED, "Gemma 3 report (arXiv 2503.19786), table 1, recalled"),
    Published("gemma-3-12b", 1012e6 + 10_759e6, ROUNDED, "Gemma 3 report, table 1, without vision, recalled"),
    Published("gemma-3-27b", 1416e6 + 25_600e6, ROUNDED, "Gemma 3 report, table 1, without vision, recalled"),
    Published("qwen2.5-7b", 7_615_616_512, EXACT, CHECKPOINT),
    Published("qwen2.5-72b", 72_706_203_648, EXACT, CHECKPOINT),
    Published("qwen3-0.6b", 596_049_920, EXACT, CHECKPOINT),
    Published("qwen3-8b", 8_190_735_360, EXACT, CHECKPOINT),
    Published("qwen3-32b", 32_762_123_264, EXACT, CHECKPOINT),
    Published("qwen3-30b-a3b", 30.5e9, ROUNDED, "model card"),
    Published("qwen3-235b-a22b", 235e9, ROUNDED, "model card"),
    Published("deepseek-v3", 671e9, ROUNDED, "DeepSeek-V3 report (arXiv 2412.19437), without the prediction module"),
    Published("deepseek-v3.2", 671e9, ROUNDED, "DeepSeek-V3 report", "V3.2 adds an indexer of 0.1 %"),
    Published("kimi-k2", 1.04e12, 0.02, "Kimi K2 report (arXiv 2507.20534)", "the report rounds; its card says 1T"),
    Published("gpt-oss-20b", 20.91e9, ROUNDED, "gpt-oss model card (arXiv 2508.10925), table 1"),
    Published("gpt-oss-120b", 116.83e9, ROUNDED, "gpt-oss model card (arXiv 2508.10925), table 1"),
    Published("qwen3.5-27b", 26.9e9, 0.001, "hand-derived: deployment page of the project's specification"),
    Published("qwen3.5-35b-a3b", 35e9, 0.02, "its name", "two digits, without embeddings of images"),
    Published("nemotron-h-56b", 56e9, 0.01, "Nemotron-H (arXiv 2504.03624)", "two digits"),
    Published("nemotron-3-nano-30b-a3b", 31.6e9, ROUNDED, "Nemotron 3 Nano report, table 1, recalled"),
    Published("mimo-v2-flash", 309e9, ROUNDED, "its model card, recalled"),
    Published("phi-3-mini-4k", 3_821_079_552, EXACT, CHECKPOINT),
    Published("phi-3-medium-4k", 13_960_238_080, EXACT, CHECKPOINT),
    Published("vit-b-16", 86_567_656, EXACT, CHECKPOINT),
    Published("vit-l-16", 304_326_632, EXACT, CHECKPOINT),
    Published("dit-xl-2-256", 675e6, ROUNDED, "DiT (arXiv 2212.09748), table 1"),
    Published("dit-xl-2-512", 675e6, ROUNDED, "DiT (arXiv 2212.09748), table 1"),
    Published("flux.1-dev-1k", 11_901_408_320, 1e-4, CHECKPOINT, "one bias where we count two, in each single block"),
    Published("hunyuanvideo", 13e9, 0.05, "model card", "without the refiner of the text tokens"),
    Published("cosmos-1.0-diffusion-7b", 7e9, 0.05, "its name", "one digit"),
    Published("wan2.1-t2v-1.3b-480p", 1_418_996_800, EXACT, CHECKPOINT),
    Published("wan2.1-t2v-14b-720p", 14_288_491_584, EXACT, CHECKPOINT),
    Published("nat-tiny", 28e6, 0.01, "NAT (arXiv 2204.07143), table 1", "two digits"),
    Published("nat-base", 90e6, 0.01, "NAT (arXiv 2204.07143), table 1", "two digits"),
    Published("dinat-base", 90e6, 0.01, "DiNAT (arXiv 2209.15001), table 2", "two digits"),
    Published("hdit-imagenet-256", 117e6, 0.03, "HDiT (arXiv 2401.11605), recalled", "its sizes are uncertain"),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.workload)
def test_a_workload_has_the_published_number_of_parameters(row: Published) -> None:
    assert load_workload(row.workload).parameters() == pytest.approx(row.parameters, rel=max(row.within, 1e-15))


def test_the_parameters_of_bert_base_add_up_by_hand() -> None:
    attention = 4 * (768 + 1) * 768
    feed_forward = (768 + 1) * 3072 + (3072 + 1) * 768
    layer = attention + feed_forward + 2 * 2 * 768  # two layer norms
    embeddings = (30522 + 512 + 2) * 768 + 2 * 768
    pooler = (768 + 1) * 768
    assert load_workload("bert-base").parameters() == 12 * layer + embeddings + pooler


def test_norms_store_a_scale_and_maybe_a_shift() -> None:
    assert [norm_parameters(norm, 10) for norm in ("layer", "rms", "plain")] == [20, 10, 0]


@pytest.mark.parametrize(
    ("fields", "norms"),
    [({}, 2), ({"cross": "text"}, 3), ({"joint": "two-stream"}, 4), ({"joint": "one-stream"}, 1)],
)
def test_streams_and_cross_attention_have_norms_of_their_own(fields: dict[str, Any], norms: int) -> None:
    """What a layer with norms stores more than one without: scale and shift of 8 elements each."""
    attention, ffn = Attention(heads=2, head_dim=4), FeedForward(width=6, activation="relu")
    sizes = LayerSizes(Layer(count=1, **fields), 8, 8, attention, ffn, None)
    assert layer_parameters(sizes, "layer", 2) - layer_parameters(sizes, "plain", 2) == norms * 2 * 8


@pytest.mark.parametrize(
    ("workload", "bytes_per_token"),
    [
        ("llama-3.1-8b", 2 * 8 * 128 * 2 * 32),  # key and value, 8 heads of 128, 2 bytes, 32 layers = 131,072
        ("llama-2-7b", 2 * 32 * 128 * 2 * 32),
        ("qwen3-0.6b", 2 * 8 * 128 * 2 * 28),
        ("deepseek-v3", (512 + 64) * 2 * 61),  # one latent vector and the rotated part of the key
        ("deepseek-v3.2", (512 + 64 + 128) * 2 * 61),  # and the indexer's key
        ("gpt-2-small", 2 * 12 * 64 * 2 * 12),
    ],
)
def test_the_cache_grows_by_keys_and_values_of_a_token(workload: str, bytes_per_token: int) -> None:
    model = load_workload(workload)
    assert model.kv_cache_bytes(1000, batch=3) == 3 * 1000 * bytes_per_token
    assert model.kv_cache_bytes(1000, batch=1, word_bytes=1) == 1000 * bytes_per_token // 2


def test_a_sliding_window_bounds_the_cache() -> None:
    per_key = 2 * 8 * 128 * 2 * 32
    mistral = load_workload("mistral-7b-v0.1")
    assert mistral.kv_cache_bytes(1000, 1) == 1000 * per_key
    assert mistral.kv_cache_bytes(32768, 1) == 4096 * per_key


def test_local_and_global_layers_cache_differently() -> None:
    """gpt-oss-20b: 12 layers keep 128 keys, 12 keep all; 8 heads of 64, key and value, 2 bytes."""
    assert load_workload("gpt-oss-20b").kv_cache_bytes(10_000, 1) == 12 * (128 + 10_000) * 2 * 8 * 64 * 2


def test_cross_attention_caches_the_encoder_besides() -> None:
    """T5-small: 6 decoder layers, own and encoder's keys, 8 heads of 64, key and value, 2 bytes."""
    assert load_workload("t5-small").kv_cache_bytes(512, 1) == 6 * (512 + 512) * 2 * 8 * 64 * 2


def test_remembered_states_are_cached_besides() -> None:
    """Transformer-XL: 18 layers, 1600 states and 100 tokens, 16 heads of 64, key and value, 2 bytes."""
    assert load_workload("transformer-xl-wt103").kv_cache_bytes(100, 1) == 18 * (1600 + 100) * 2 * 16 * 64 * 2


def test_an_encoder_caches_nothing() -> None:
    assert load_workload("bert").kv_cache_bytes(1024, 64) == 0


def test_a_hybrid_keeps_a_cache_that_grows_beside_states_that_do_not() -> None:
    """Qwen3.5-27B at 256K tokens: 16 full layers of 4 key heads x 256; 48 linear ones of 48 states of 128 x 128, and
    three columns of 2 x 16 x 128 + 48 x 128 channels."""
    model = load_workload("qwen3.5-27b")
    assert model.kv_cache_bytes(256 * 1024, 1) == 16 * 2 * 4 * 256 * 2 * 256 * 1024 == 17_179_869_184
    assert model.state_bytes(1) == (48 * 48 * 128 * 128 * 4, 48 * 10_240 * 3 * 2) == (150_994_944, 2_949_120)
    assert model.state_bytes(7, word_bytes=1) == (7 * 150_994_944, 7 * 2_949_120 // 2)
    assert load_workload("llama").state_bytes(4) == (0, 0)


def test_the_parameters_of_qwen_3_5_27b_add_up_by_hand() -> None:
    """Linear: queries, keys, values; gate; beta and decay; 4 taps a channel; A and bias a head; a norm. Full: queries
    and their gates, keys, values; norms of a head. 64 gated feed-forward parts."""
    linear = 5120 * (10_240 + 6144 + 2 * 48) + 6144 * 5120 + 4 * 10_240 + 2 * 48 + 128
    full = 5120 * (2 * 24 * 256 + 2 * 4 * 256) + 24 * 256 * 5120 + 2 * 256
    each = 3 * 5120 * 17_408 + 2 * 5120
    total = 48 * linear + 16 * full + 64 * each + 2 * 248_320 * 5120 + 5120
    assert load_workload("qwen3.5-27b").parameters() == total


@pytest.mark.parametrize("name", ["qwen3.5-27b", "nemotron-h-56b", "nemotron-3-nano-30b-a3b", "kimi-k3-kda"])
def test_layers_without_keys_run_the_same_work_after_any_number_of_tokens(name: str) -> None:
    """In decoding; a prompt is as many times the work as it has tokens, in whole chunks."""
    model = load_workload(name)
    kept = [kind for kind, layer in model.layers.items() if layer.recurrence]
    assert kept

    def of_kept(length: int, phase: Phase) -> list[Operation]:
        return [each for each in model.operations(sequence_length=length, phase=phase) if each.layer in kept]

    assert of_kept(1, "decode") == of_kept(1_000_000, "decode")
    for short, long in zip(of_kept(256, "prefill"), of_kept(1024, "prefill"), strict=True):
        splits = {"M0": 64, "P0": 64, "I0": 64}
        once, four = (work_of(each, splits) for each in (short, long))
        assert four == {name: {kind: 4 * count for kind, count in own.items()} for name, own in once.items()}
