"""What choosing adds to a layer: operations of hand-counted sizes, in prefill and in decoding."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.sparsity.selection_methods import SELECTED, selected

LENGTH = 16384  # 128 blocks of 128, 32 of 512


def operations(pattern: str, phase: str = "prefill", batch: int = 1) -> dict[str, Operation]:
    """Of one layer of llama: 32 heads of 128 that share 8 of keys."""
    workload = load_workload("llama", [f"attention.pattern={pattern}"])
    found = workload.operations(sequence_length=LENGTH, batch=batch, phase=phase, scope="attention")  # type: ignore[arg-type]
    return {operation.name.removeprefix("pattern_"): operation for operation in found}


def test_moba_scores_the_means_of_its_blocks() -> None:
    """8 key heads x 32 means of 512 tokens; 16,384 queries x 32 means a head; the largest two of each row."""
    found = operations("moba")
    assert list(found) == ["keys_mean", "scores", "select", "attention"]
    assert work_of(found["keys_mean"])["SX"] == {"add": 8 * 32 * 512 * 128}
    assert work_of(found["scores"]) == {"Z": {"mac": 32 * 16384 * 32 * 128}}
    assert least_elements(found["select"]) == {"X": 32 * 16384 * 32, "I": 32 * 16384 * 3}  # the own block among them


def test_pbs_weighs_all_keys_by_its_last_queries_and_moves_them_for_every_query_head() -> None:
    """128 x 16,384 products; segments of 256 through 36 stages; keys and values of 32 heads, not of 8."""
    found = operations("pbs:share=0.2")
    assert work_of(found["last_queries"]) == {"Z": {"mac": 32 * 128 * 16384 * 128}}
    assert work_of(found["sort_keys"]) == {"T": {"max": 32 * 16384 * 36}}
    for name in ("gather_keys", "gather_values"):
        assert least_elements(found[name])["Y"] == 32 * 16384 * 128
    assert found["attention"].extent("g") == 1
    assert operations("moba")["attention"].extent("g") == 4


def test_regrouped_queries_are_gathered_and_their_parts_merged() -> None:
    """FlashMoBA: 8 chosen blocks and the own one are 9 rows a query, where there are as many; merged in fp32, last."""
    found = operations("flash-moba")
    rows = 32 * 16384
    kept = found["merge"].extent("s")
    assert kept in (8, 9)  # early queries see fewer
    assert least_elements(found["gather_queries"])["Y"] == kept * rows * 128
    assert found["merge"].numbers == "fp32"
    assert list(found)[-1] == "merge"


def test_eager_kernels_move_a_hundred_bytes_a_score() -> None:
    """25 kernels that read and write 2 bytes of each score of twelve heads over 4,096 tokens that see everything."""
    workload = load_workload("bert", ["attention.pattern=sparsed"])
    found = workload.operations(sequence_length=4096, batch=1, scope="attention")
    eager = next(operation for operation in found if operation.name == "pattern_eager")
    assert 2 * sum(least_elements(eager).values()) * eager.count == 100 * 12 * 4096 * 4096


def test_a_new_token_scores_the_means_that_the_cache_holds() -> None:
    """One query a head against 32 means; nothing is averaged, gathered or sorted anew."""
    found = operations("moba", "decode", batch=4)
    assert list(found) == ["scores", "select", "attention"]
    assert work_of(found["scores"]) == {"Z": {"mac": 4 * 32 * 32 * 128}}
    assert found["scores"].operand == "kv"
    assert found["attention"].extent("m") == 3 * 512


def test_prompt_methods_decode_densely() -> None:
    found = operations("pbs", "decode")
    assert list(found) == ["attention"]
    assert found["attention"].extent("m") == LENGTH


@pytest.mark.parametrize("name", SELECTED)
def test_the_products_of_the_passes_are_the_flops_of_the_choice(name: str) -> None:
    """Two FLOPs for each multiply-accumulate of scores; 4-bit ones count as an eighth; head by head."""
    causal = SELECTED[name].causal
    workload = load_workload("llama" if causal else "bert", [f"attention.pattern={name}", "attention.head_dim=128"])
    found = workload.operations(sequence_length=4096, batch=1, scope="attention")
    heads = 32 if causal else 12
    macs = sum(counts.get("mac", 0) / (8 if each.numbers == "int4" else 1) for each in found
               if each.name.startswith("pattern_") and each.kind != "elementwise"
               for counts in work_of(each).values())  # fmt: skip
    assert 2 * macs / heads == pytest.approx(selected(name, 4096).choice_flops, rel=1e-9)


def test_the_scopes_have_what_a_pattern_adds_once() -> None:
    workload = load_workload("llama", ["attention.pattern=moba"])
    scopes = {scope: [each.name for each in workload.operations(sequence_length=LENGTH, scope=scope)]  # type: ignore[arg-type]
              for scope in ("attention", "linear", "model")}  # fmt: skip
    assert not any(name.startswith("pattern_") for name in scopes["linear"])
    assert scopes["model"].count("pattern_scores") == scopes["attention"].count("pattern_scores") == 1
