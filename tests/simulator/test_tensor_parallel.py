"""Models divided among devices: the part of each, worked out by hand, and where sums are needed."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload, workload_names
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.request import Request, divided, divided_operations, notes_on_devices


def operations(name: str, devices: int, phase: Phase = "prefill") -> dict[str, Operation]:
    workload = load_workload(name)
    whole, parts = (one.operations(sequence_length=1024, batch=2, phase=phase) for one in
                    (workload, divided(workload, devices)))  # fmt: skip
    found = tuple(divided_operations(workload, whole, parts))
    return {f"{operation.layer}.{operation.name}" if len(workload.layers) > 1 else operation.name: operation
            for operation in found}  # fmt: skip


def test_llama_on_eight_devices() -> None:
    """32 heads, 8 key heads, width 14336, vocabulary 128256: 4, 1, 1792 and 16032 each; 1024 x 2 rows."""
    found = operations("llama", 8)
    assert dict(found["q_proj"].extents) == {"r": 2048, "k": 4096, "n": 4 * 128, "x": 1}
    assert dict(found["k_proj"].extents)["n"] == 128
    assert (found["attention"].extent("h"), found["attention"].extent("g")) == (4, 4)
    assert dict(found["out_proj"].extents) == {"r": 2048, "k": 512, "n": 4096, "x": 1}
    assert dict(found["ffn_up"].extents)["n"] == 1792
    assert dict(found["ffn_norm"].extents) == {"r": 2048, "d": 4096}
    assert found["lm_head"].extent("n") == 16032


def test_two_sums_a_layer_each_right_after_its_product() -> None:
    names = list(operations("llama", 8))
    sums = [name for name in names if name.endswith("all_reduce")]
    assert sums == ["out_proj_all_reduce", "ffn_down_all_reduce"]
    assert names[names.index(sums[0]) - 1 : names.index(sums[0]) + 2] == ["out_proj", sums[0], "attn_residual"]
    found = operations("llama", 8)[sums[1]]
    assert (found.kind, found.count, dict(found.extents)) == ("collective", 32, {"r": 2048, "d": 4096})


def test_one_device_has_the_whole_model_and_no_sums() -> None:
    workload = load_workload("llama")
    assert divided(workload, 1) is workload
    assert not any(name.endswith("all_reduce") for name in operations("llama", 1))


def test_experts_and_the_shared_one_are_summed_once() -> None:
    """DeepSeek-V3: the latent vector is everywhere, heads and widths are divided; one sum after the experts."""
    found = operations("deepseek-v3", 8, "decode")
    sums = [name for name in found if name.endswith("all_reduce")]
    assert sums == ["dense.out_proj_all_reduce", "dense.ffn_down_all_reduce", "experts.out_proj_all_reduce",
                    "experts.expert_sum_all_reduce"]  # fmt: skip
    assert dict(found["experts.expert_sum_all_reduce"].extents) == {"r": 2, "d": 7168}
    assert found["dense.kv_down_proj"].extent("n") == 512 + 64
    assert found["dense.q_proj"].extent("n") == 128 // 8 * 192
    assert found["experts.expert_up"].extent("n") == 2048 // 8


def test_each_device_stores_its_part() -> None:
    """llama-3.1-8b over 8: an eighth of the matrices; the 65 norms of 4096 in full; an eighth of the cache."""
    whole = load_workload("llama")
    part = divided(whole, 8)
    norms = 65 * 4096
    assert part.parameters() == (whole.parameters() - norms) // 8 + norms
    assert part.kv_cache_bytes(8192, 4) == whole.kv_cache_bytes(8192, 4) // 8


def test_key_heads_are_repeated_where_there_are_fewer_than_devices() -> None:
    """llama over 16: half a key head each, so each holds a whole one: an eighth of the cache, not a sixteenth."""
    whole = load_workload("llama")
    assert divided(whole, 16).kv_cache_bytes(1024, 1) == whole.kv_cache_bytes(1024, 1) // 8


def test_parts_side_by_side_are_added_before_their_one_sum_a_layer() -> None:
    """Falcon-180B: attention and feed-forward of a layer, 14,848 wide, leave one sum between them."""
    found = operations("falcon-180b", 8)
    assert [name for name in found if name.endswith("all_reduce")] == ["ffn_down_all_reduce"]
    names = list(found)
    place = names.index("ffn_down_all_reduce")
    assert names[place - 1 : place + 2] == ["ffn_down", "ffn_down_all_reduce", "ffn_residual"]
    assert dict(found["ffn_down_all_reduce"].extents) == {"r": 2048, "d": 14_848}


@pytest.mark.parametrize(
    ("name", "devices", "problem"),
    [
        ("llama", 3, "32 heads divide over 2, 4, 8, 16, 32; a feed-forward width of 14336 does not divide"),
        ("llama", 64, "32 heads divide over 2, 4, 8, 16, 32"),
        ("phi-3-medium-4k", 8, "10 key heads neither divide nor repeat evenly"),
    ],
)
def test_what_does_not_divide_says_what_does(name: str, devices: int, problem: str) -> None:
    with pytest.raises(CascadeSimError) as found:
        divided(load_workload(name), devices)
    assert f"no tensor parallelism over {devices} devices: {problem}" in str(found.value)


@pytest.mark.parametrize("name", workload_names())
def test_every_model_that_divides_does_all_of_its_products(name: str) -> None:
    """Two devices together multiply no less than one did; what is done on both is less than all."""
    try:
        halves, whole = operations(name, 2), operations(name, 1)
    except CascadeSimError:
        return

    def macs(found: dict[str, Operation]) -> int:
        return sum(one.count * one.extent("r") * one.extent("k") * one.extent("n") * one.extent("x")
                   for one in found.values() if one.kind == "linear")  # fmt: skip

    assert macs(whole) <= 2 * macs(halves) < 2 * macs(whole)


def test_more_devices_than_a_node_has_are_said_to_be_linked_as_one() -> None:
    model = load_workload("llama-3.1-405b")
    few, many = (notes_on_devices(Request(model, load("h100-sxm", [f"parallel.tensor={count}"]))) for count in (8, 16))
    assert len(few) == 1
    assert many[1] == "all 16 devices are taken to be linked as those of one node, which mostly has 8"
