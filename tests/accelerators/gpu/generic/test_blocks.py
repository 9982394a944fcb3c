"""Blocks of kernels that no library has: what they compute, load and leave, counted by hand on an H100.

Tiles are 128 rows and 64 steps, as in Triton's attention on Hopper; an H100 has 132 SMs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.generic.blocks import Stage, divisions, held_bytes, problem_of, stages_of
from cascadesim.accelerators.gpu.generic.fusion import fused_kernels
from cascadesim.accelerators.gpu.generic.problem import Problem
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find

SIGMOID = cascade("sigmoid-attention", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    A[h,m,p]  = sigmoid(QK[h,m,p])
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")
FEATURES = cascade("features", """
    FK[h,m,e] = exp(K[h,m,e])
    QK[h,m,p] = Q[h,p,e] * FK[h,m,e]
    A[h,m,p]  = sigmoid(QK[h,m,p])
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")


def h100() -> Device:
    found = load("h100-sxm")
    assert isinstance(found, Gpu)
    return found.spec


def asked(text: Cascade, mask: Mask = FULL, **sizes: int) -> Operation:
    extents = {"b": 1, "h": 2, "g": 1, "m": 256, "p": 256, "e": 32, "f": 32} | sizes
    return Operation("attention", "attention", text, tuple(extents.items()), mask=mask)


def problem(text: Cascade, mask: Mask = FULL, **sizes: int) -> Problem:
    return problem_of(asked(text, mask, **sizes), h100())


def stage(of: Problem, number: int = 0) -> Stage:
    return stages_of(of, fused_kernels(of.cascade)[number], 1, 1)[0]


def computed(of: Stage) -> dict[str, float]:
    return {einsum.name: of.computed(einsum) for einsum in of.einsums}


def loaded(of: Stage) -> dict[str, float]:
    return {tensor: of.loaded_elements(tensor, access) for tensor, access in of.operands}


def test_a_block_of_linear_attention_sums_all_keys_of_a_head() -> None:
    """2 heads; 256 keys in 4 steps; every key and value loaded once."""
    keys = stage(problem(find("linear-attention")))
    assert (keys.blocks, keys.steps) == (2, 4)
    assert loaded(keys) == {"K": 2 * 256 * 32, "V": 2 * 256 * 32}
    assert computed(keys) == {"FK": 2 * 256 * 32, "KV": 2 * 256 * 32 * 32, "SK": 2 * 256 * 32}


def test_every_block_of_queries_loads_the_sums() -> None:
    """2 heads x 2 tiles of 128 queries; the product with one vector fills a tile of 16 columns."""
    queries = stage(problem(find("linear-attention")), 1)
    assert queries.blocks == 4
    assert loaded(queries) == {"Q": 2 * 256 * 32, "KV": 4 * 32 * 32, "SK": 4 * 32}
    assert computed(queries)["NV"] == 2 * 256 * 32 * 32
    assert computed(queries)["SD"] == 2 * 256 * 32 * 16


def test_partial_tiles_are_computed_whole_and_loaded_as_they_are() -> None:
    """100 keys are 2 steps of 64; a depth of 24 is padded to 32."""
    keys = stage(problem(find("linear-attention"), m=100, e=24))
    assert computed(keys)["FK"] == 2 * 128 * 32
    assert loaded(keys)["K"] == pytest.approx(2 * 100 * 24)
    assert {einsum.name: keys.counted(einsum) for einsum in keys.einsums}["FK"] == 2 * 100 * 24


def test_a_walk_is_split_over_blocks_and_a_second_launch_combines() -> None:
    """132 SMs have room for 66 parts of each of 2 walks, which have 4 steps; 4 x 2 x (32 x 32 + 32) partial sums."""
    linear = problem(find("linear-attention"))
    keys, queries = fused_kernels(linear.cascade)
    assert divisions(linear, keys) == ((1, 1), (2, 1), (4, 1))
    assert divisions(linear, queries) == ((1, 1),)
    walk, combine = stages_of(linear, keys, 4, 1)
    assert (walk.parts, walk.blocks, combine.blocks, combine.combines) == (4, 8, 2, 4)
    assert walk.partial == combine.partial == ("KV", "SK")
    assert walk.partial_elements == combine.partial_elements == 4 * 2 * (32 * 32 + 32)
    assert walk.results == ()
    assert [tensor for tensor, _ in combine.results] == ["KV", "SK"]
    assert combine.operands == ()
    assert computed(walk) == computed(stage(linear))  # the same work, in more blocks


def test_every_part_loads_and_makes_what_it_does_not_walk_over() -> None:
    """Features of 256 queries, in 4 parts of the walk over keys."""
    text = cascade("queries", FEATURES.text.replace("FK[h,m,e] = exp(K[h,m,e])", "FQ[h,p,e] = exp(Q[h,p,e])")
                   .replace("Q[h,p,e] * FK[h,m,e]", "FQ[h,p,e] * K[h,m,e]"))  # fmt: skip
    found = problem(text)
    walk, _ = stages_of(found, fused_kernels(text)[0], 4, 1)
    assert computed(walk)["FQ"] == 4 * 2 * 256 * 32
    assert loaded(walk) == {"Q": 4 * 2 * 256 * 32, "K": 2 * 2 * 256 * 32, "V": 2 * 2 * 256 * 32}


def test_what_waits_for_the_walk_is_done_by_the_second_launch() -> None:
    """Two passes, 4 heads of one query: maxima of tiles go to it, scores to the next kernel."""
    two = problem(find("attention-2pass"), h=4, m=4096, p=1)
    room = divisions(two, fused_kernels(two.cascade)[0])
    assert room == tuple((parts, 1) for parts in (1, 2, 4, 8, 16, 32))  # of 33 for which there is room
    walk, combine = stages_of(two, fused_kernels(two.cascade)[0], 32, 1)
    assert walk.names == ("QK", "LM", "SLN", "SLD", "GM")
    assert walk.partial == ("GM",)
    assert {tensor for tensor, _ in walk.results} == {"LM", "SLD", "SLN"}
    assert combine.names == ("PLM", "SD")
    assert {tensor for tensor, _ in combine.operands} == {"LM", "SLD"}
    assert {tensor for tensor, _ in combine.results} == {"PLM", "SD"}


def test_running_values_and_full_grids_are_never_in_parts() -> None:
    running = problem(find("pruned-1pass"), p=1)
    assert divisions(running, fused_kernels(running.cascade)[0]) == ((1, 1), (1, 2))  # a depth of 32 in tiles of 16
    full = problem(SIGMOID, h=67)  # 134 blocks
    assert divisions(full, fused_kernels(full.cascade)[0]) == ((1, 1),)


def test_tiles_that_no_query_sees_are_left_out() -> None:
    """Causal: the first 128 queries see 2 of 4 steps of keys, the others all: 6 of 8 tiles."""
    causal, full = (stage(problem(SIGMOID, mask)) for mask in (KeyInterval(True), FULL))
    assert computed(causal)["A"] == 2 * 6 * 128 * 64
    assert computed(full)["A"] == 2 * 8 * 128 * 64
    assert loaded(causal)["K"] == 2 * 6 * 64 * 32
    assert (causal.seen.longest, causal.seen.shortest) == (4 / 3, 2 / 3)
    attended = sum(range(1, 257))
    assert causal.counted(causal.einsums[1]) == 2 * attended


def test_what_meets_no_query_is_not_masked() -> None:
    """A sum over keys and queries: features of keys are made once, whatever the mask leaves of the pairs."""
    text = cascade("traces", """
        FK[h,m,e] = exp(K[h,m,e])
        T[h]      = Q[h,p,e] * FK[h,m,e]
        ZV[h,m,f] = exp(V[h,m,f])
    """)
    found = stage(problem(text, KeyInterval(True)))
    assert found.names == ("FK", "T")
    assert computed(found)["FK"] == 2 * 256 * 32
    assert computed(found)["T"] == 2 * 6 / 8 * 256 * 256 * 32 * 16 * 16  # a single number: products of vectors


def test_query_heads_of_a_key_head_share_a_tile_of_rows() -> None:
    """3 sequences of 2 key heads, 4 query heads each: a tile of 16 rows, of which 4 are queries."""
    decode = stage(problem(SIGMOID, b=3, h=8, g=4, m=1000, p=1))
    assert (decode.blocks, decode.steps) == (6, 16)
    assert loaded(decode)["K"] == pytest.approx(6 * 1000 * 32)
    assert loaded(decode)["Q"] == pytest.approx(3 * 8 * 32)
    assert computed(decode)["A"] == 6 * 16 * 64 * 16


def test_blocks_repeat_what_has_not_their_ranks() -> None:
    """Features of keys within a kernel over queries: each of 2 tiles of rows makes them for itself."""
    assert computed(stage(problem(FEATURES)))["FK"] == 2 * 2 * 256 * 32


def test_a_tile_that_heads_share_sees_fewer_queries_keys() -> None:
    """4 query heads share 128 rows: 32 queries a tile see 1, 1, 2, 2, 3, 3, 4 and 4 steps of causal keys."""
    grouped = stage(problem(SIGMOID, KeyInterval(True), h=8, g=4))
    assert grouped.blocks == 2 * 8
    assert computed(grouped)["A"] == 2 * 20 * 128 * 64


def test_each_query_head_of_a_tile_has_its_own_features() -> None:
    decode = stage(problem(FEATURES, h=8, g=4, p=1))
    assert computed(decode)["FK"] >= decode.counted(decode.einsums[0])


def test_a_latent_value_is_loaded_with_its_key() -> None:
    latent = stage(problem(SIGMOID, h=128, g=128, m=1024, p=1, e=576, f=512))
    assert [tensor for tensor, _ in latent.operands] == ["Q", "K"]


def test_tiles_shrink_until_a_block_fits_an_sm() -> None:
    device = h100()
    for sums in (64, 256):
        found = problem_of(asked(SIGMOID, e=sums, f=sums), device)
        held = held_bytes(found, fused_kernels(SIGMOID)[0], 1)
        assert held <= device.sm.shared_memory_bytes + device.sm.register_file_bytes
    small = device.model_copy(update={"sm": device.sm.model_copy(update={"shared_memory_bytes": 4096,
                                                                         "register_file_bytes": 65536})})  # fmt: skip
    assert problem_of(asked(SIGMOID), small).tiles.rows < problem_of(asked(SIGMOID), device).tiles.rows


def test_sums_that_no_sm_holds_are_divided_among_blocks() -> None:
    """1,024 x 512 numbers of KV in FP32 (a depth of 576 is padded) are 2 MiB, an SM has 484 KiB: 8 columns of 64.

    Each column makes the features of keys for itself.
    """
    latent = problem(find("linear-attention"), e=576, f=512)
    keys = fused_kernels(latent.cascade)[0]
    assert divisions(latent, keys)[0] == (1, 8)
    (found,) = stages_of(latent, keys, 1, 8)
    assert (found.blocks, found.column_tiles) == (2 * 8, 8)
    assert computed(found)["FK"] == 8 * 2 * 256 * 1024
    assert computed(found)["KV"] == 2 * 256 * 1024 * 512
    assert loaded(found) == {"K": 8 * 2 * 256 * 576, "V": 2 * 256 * 512}


def test_results_of_running_values_are_divided_where_sms_have_no_block() -> None:
    """2 heads of chunked linear attention: the state of 32 x 32 numbers is carried in 2 columns of 16."""
    chunked = problem(find("linear-attention-chunked"))
    (kernel,) = fused_kernels(chunked.cascade)
    assert divisions(chunked, kernel) == ((1, 1), (1, 2))
    many = problem(find("linear-attention-chunked"), h=67)  # 134 blocks with two columns, more than there are SMs
    assert divisions(many, kernel) == ((1, 1),)
    (found,) = stages_of(chunked, kernel, 1, 2)
    assert found.blocks == 4
    assert computed(found)["LKV"] == 2 * 256 * 32 * 32
    assert computed(found)["QK"] == 2 * 2 * 256 * 64 * 32  # whole chunks, in each column


def test_a_block_that_no_sm_holds_is_refused_with_its_size() -> None:
    device = h100()
    small = device.sm.model_copy(update={"shared_memory_bytes": 2048, "register_file_bytes": 2048})
    with pytest.raises(CascadeSimError, match=r"the smallest block of QK, A, AV holds \d,\d{3} bytes.*4,096 in shared"):
        problem_of(asked(SIGMOID), device.model_copy(update={"sm": small}))


def test_letters_of_the_text_are_bound_by_the_roles_of_its_inputs() -> None:
    """`c` is what keys are called; chunks, which queries share, are the steps."""
    assert problem(find("linear-attention-chunked")).splits == {"C": 256, "C0": 64, "P0": 64}
    with pytest.raises(CascadeSimError, match=r"steps along queries and keys together \(c1\).*got 1 and 256"):
        problem(find("linear-attention-chunked"), p=1)


DELTA = cascade("delta", """
    S[h,0,e,f]   = 0
    KS[h,m,f]    = K[h,m,e] * S[h,m,e,f]
    D[h,m,f]     = V[h,m,f] - KS[h,m,f]
    S[h,m+1,e,f] = S[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")


def test_a_running_value_of_every_key_takes_a_step_each() -> None:
    """Products of one key with a state of 32 x 32 are products of a vector: 16 rows of which one is used."""
    found = stage(problem(DELTA))
    assert found.steps == 256
    assert computed(found)["D"] == 2 * 256 * 32
    assert computed(found)["KS"] == 2 * 256 * 32 * 32 * 16
    with pytest.raises(CascadeSimError, match=r"steps along queries and keys together \(m\).*got 1 and 256"):
        problem(DELTA, p=1)


def test_ranks_that_read_what_a_tile_wrote_are_as_long_as_it() -> None:
    """An elimination over the rows of a chunk of 64 keys."""
    text = cascade("elimination", """
        BK[h,m1,m0,e]    = K[h,m1*M0+m0,e]
        C[h,m1,m0]       = BK[h,m1,m0,e]
        IT[h,m1,0,m0]    = 1
        IT[h,m1,i0+1,m0] = IT[h,m1,i0,m0] - C[h,m1,i0] * IT[h,m1,i0,m0]
        A[h,m1,m0,e]     = BK[h,m1,m0,e] * IT[h,m1,I0,m0]
        AV[h,e,f]        = A[h,m1,m0,e] * V[h,m1*M0+m0,f]
        Z[h,p,e]         = exp(Q[h,p,e])
    """)
    assert problem(text).splits == {"M0": 64, "I0": 64}


def test_depths_by_other_names_are_refused() -> None:
    text = replace(SIGMOID, name="other")
    other = cascade("other", text.text.replace("e]", "d]"))
    with pytest.raises(CascadeSimError, match="the depth of Q is called d"):
        problem(other)


def test_an_extent_that_nothing_gives_is_named() -> None:
    text = cascade("scaled", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] * S[h,j]
        A[h,m,p]  = sigmoid(QK[h,m,p])
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    with pytest.raises(CascadeSimError, match="the extent J is not given"):
        problem(text)


def test_a_dimension_of_queries_that_no_workload_gives_is_refused() -> None:
    """Triangle attention has rows of pairs (i) beside heads; they are not taken for heads."""
    with pytest.raises(CascadeSimError, match=r"Q\[h,i,p,e\] has 4 dimensions; nothing says how long I is"):
        problem(find("triangle-attention"))
