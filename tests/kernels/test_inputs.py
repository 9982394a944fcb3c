"""The edges of every kernel's inputs, one by one: what used to be wrong, and what is refused in one line."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim import kernels  # noqa: E402
from cascadesim.kernels import inputs  # noqa: E402
from cascadesim.kernels.attention import mma, reference  # noqa: E402
from cascadesim.kernels.attention import triton as dense  # noqa: E402
from cascadesim.kernels.attention.configurations import TileShape  # noqa: E402
from cascadesim.kernels.cuda import host  # noqa: E402
from cascadesim.kernels.decode_attention import triton as decode  # noqa: E402
from cascadesim.kernels.inputs import InputError  # noqa: E402
from cascadesim.kernels.neighborhood_attention import block_sparse as lists  # noqa: E402
from cascadesim.kernels.neighborhood_attention import triton as gna  # noqa: E402
from cascadesim.kernels.neighborhood_attention.pattern import pattern  # noqa: E402
from cascadesim.kernels.pruned_attention import importance, progressive, selection  # noqa: E402
from cascadesim.kernels.pruned_attention import reference as pruned_reference  # noqa: E402
from cascadesim.kernels.pruned_attention import triton as pruned  # noqa: E402
from cascadesim.kernels.token_rows import triton as rows  # noqa: E402

TILES = TileShape(32, 32, 4, 2)
PLAN = gna.plan(pattern((40,), (7,)), (16,), (16,))
LIST = lists.tile_list(np.ones((40, 40), dtype=bool), TILES)
EVERYTHING = torch.arange(40)[None], torch.arange(4)
FAMILIES = {  # name -> the same attention of 4 query heads over 2 key heads, 40 tokens, all of which are seen
    "dense": lambda q, k, v, **options: dense.attention(q, k, v, tiles=TILES, **options),
    "2-pass": lambda q, k, v, **options: dense.attention(q, k, v, tiles=TILES, cascade="attention-2pass", **options),
    "block-sparse": lambda q, k, v, **options: lists.block_sparse_attention(q, k, v, LIST, **options),
    "pruned": lambda q, k, v, **options: pruned.pruned_attention(q, k, v, *EVERYTHING, tiles=TILES, **options),
    "neighborhood": lambda q, k, v, **options: gna.neighborhood_attention(q, k, v, WHOLE, **options),
    "decode": lambda q, k, v, **options: torch.cat(
        [decode.decode_attention(q[:, :, p], k, v, torch.tensor([40]), **options)[:, :, None] for p in (0, 39)], 2),
}  # fmt: skip
WHOLE = gna.plan(pattern((40,), (40,)), (16,), (16,))


def inputs_of(E: int = 16, F: int = 16, dtype=torch.float32):
    return (torch.randn(1, heads, 40, D).to(dtype) for heads, D in ((4, E), (2, E), (2, F)))


def check(name: str, q, k, v, **options) -> None:
    got, expected = FAMILIES[name](q, k, v, **options), reference.attention(q, k, v, **options)
    if name == "decode":
        expected = expected[:, :, [0, 39]]
    assert torch.allclose(got.double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [-0.7, 0, 1e-42], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_any_finite_scale_is_right(name: str, scale: float) -> None:
    check(name, *inputs_of(), scale=scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_values_may_have_a_head_dimension_of_their_own(name: str) -> None:
    check(name, *inputs_of(E=16, F=40))
    check(name, *inputs_of(E=40, F=8))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_of_minus_infinity_over_whole_tiles_are_keys_that_nobody_sees(name: str) -> None:
    """Keys 0 to 31 are a whole tile, which is visited without a mask. If all are -inf the answer is 0."""
    q, k, v = inputs_of()
    q[..., 0] = 1.0
    k[:, :, :32, 0] = float("-inf")
    check(name, q, k, v)
    k[..., 0] = float("-inf")
    assert (FAMILIES[name](q, k, v) == 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_not_a_number_stays_one(name: str) -> None:
    """An infinite score has no probability: NaN, as in the library, in that row only."""
    q, k, v = inputs_of()
    q[0, 1, 39, 0], k[0, 0, 3, 0] = float("inf"), 1.0
    got = FAMILIES[name](q, k, v)
    assert torch.isnan(got[0, 1, -1]).all()
    assert not torch.isnan(got[0, [0, 2, 3]]).any()


@pytest.mark.skipif(host.compiler() is None, reason="CUDA C++ runs on a CPU through a C++ compiler")
@pytest.mark.parametrize("scale", [-0.3, 0])
def test_cuda_attention_at_any_scale_with_scores_of_minus_infinity(scale: float) -> None:
    q, k, v = (torch.randn(1, 1, 70, 64).half() for _ in range(3))
    assert (mma.attention(q, k, v, scale=scale).double() - reference.attention(q, k, v, scale=scale)).abs().max() < 4e-3
    q[..., 0] = 1.0
    k[:, :, :64, 0] = float("-inf")  # the first whole tile
    assert (mma.attention(q, k, v).double() - reference.attention(q, k, v)).abs().max() < 4e-3


@pytest.mark.skipif(host.compiler() is None, reason="CUDA C++ runs on a CPU through a C++ compiler")
def test_cuda_attention_takes_what_is_not_aligned() -> None:
    """Asynchronous copies take 16 bytes at a time from places that divide by 16."""
    flat = torch.randn(3, 64 * 64 + 1).half()
    q, k, v = (each[1:].view(1, 1, 64, 64) for each in flat)
    assert inputs.plain(q).data_ptr() % 16 == 0
    assert (mma.attention(q, k, v).double() - reference.attention(q, k, v)).abs().max() < 4e-3


def test_progressive_decoding_of_strided_queries_and_planes() -> None:
    """q [H, B, E] transposed; planes [B, M, G, E/2] transposed."""
    q, v = torch.randn(4, 2, 32).transpose(0, 1), torch.randn(2, 2, 50, 32)
    codes = torch.randint(-128, 128, (2, 2, 50, 32), dtype=torch.int8)
    key_scale = torch.full((2, 2), 0.01)
    planes = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in progressive.planes(codes)]
    got, _ = progressive.progressive_decode_of_planes(q, *planes, key_scale, v, 0.1)
    expected, _ = pruned_reference.progressive_decode(q, codes, key_scale, v, 0.1)
    assert torch.allclose(got.double(), expected, atol=2e-6)


def test_attention_in_tile_order_of_strided_tensors() -> None:
    """The same tokens, a row of which is not where a contiguous tensor has it."""
    q, k, v = (torch.randn(1, 2, 48, 16) for _ in range(3))
    strided = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v)]
    assert not strided[0].is_contiguous()
    plain = gna.attention_in_tile_order(q, k, v, PLAN)
    assert torch.equal(plain, gna.attention_in_tile_order(*strided, PLAN))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_most_important_tokens_of_any_type_and_sign(dtype) -> None:
    importance = torch.randn(1, 90, dtype=torch.float64).to(dtype)
    importance[:, ::7] = 0.0
    importance[:, ::11] = -0.0
    importance[0, 5], importance[0, 6] = float("-inf"), float("inf")
    for kept in (1, 44, 60, 89):
        expected = pruned_reference.top_tokens(importance, kept)
        assert (selection.top_tokens(importance, kept) == expected).all()


def test_float64_is_told_apart_beyond_float32() -> None:
    importance = torch.tensor([[1.0, 1.0 + 2**-50, 1.0 - 2**-50, -1.0]], dtype=torch.float64)
    assert selection.top_tokens(importance, 1).tolist() == [[1]]
    assert selection.top_tokens(importance, 3).tolist() == [[0, 1, 2]]
    with pytest.raises(InputError, match=r"one type of float16, bfloat16, float32; got importance float64"):
        selection.top_tokens_in_cuda(importance, 1)


def test_nothing_in_nothing_out() -> None:
    none, two = torch.empty(0, 4, 8, 16), torch.empty(2, 4, 0, 16)
    for name in ("dense", "2-pass"):
        assert FAMILIES[name](none, none, none).shape == (0, 4, 8, 16)
    tokens, heads = torch.empty(0, 0, dtype=torch.int32), torch.arange(4)
    assert pruned.pruned_attention(none, none, none, tokens, heads).shape == (0, 4, 8, 16)
    assert dense.attention(two, two, two).shape == (2, 4, 0, 16)
    assert (dense.attention(torch.ones(2, 4, 3, 16), two, two) == 0).all()  # no keys: nothing is attended
    lengths = torch.empty(0, dtype=torch.int32)
    assert decode.decode_attention(torch.empty(0, 4, 16), none, none, lengths).shape == (0, 4, 16)
    assert (decode.decode_attention(torch.ones(2, 4, 16), two, two, torch.zeros(2).int()) == 0).all()
    assert gna.neighborhood_attention(*(torch.empty(0, 2, 40, 16),) * 3, PLAN).shape == (0, 2, 40, 16)
    assert selection.top_tokens(torch.empty(0, 5), 3).shape == (0, 3)
    assert rows.gather_rows(torch.empty(0, 5, 16), torch.zeros(3).int()).shape == (0, 3, 16)


class Recorder:
    """In the place of a kernel: how many programs it would be started with."""

    def __getitem__(self, grid: tuple[int, ...]):
        self.grid = grid
        return lambda *arguments, **options: None


GRIDS = {  # what is replaced -> a call with 70,000 heads, more than a grid's second dimension holds: 65,535
    "attention_1pass": (dense, lambda q, k, v: dense.attention(q, k, v)),
    "attention_recomputing": (dense, lambda q, k, v: dense.attention(q, k, v, cascade="attention-3pass")),
    "decode_split": (decode, lambda q, k, v: decode.decode_attention(q[:, :, 0], k, v, torch.ones(7).int(), splits=1)),
    "block_sparse_1pass": (lists, lambda q, k, v: lists.block_sparse_attention(
        q, k, v, lists.tile_list(np.ones((1, 1), dtype=bool), TILES))),
    "pruned_2pass": (pruned, lambda q, k, v: pruned.pruned_attention(
        q, k, v, torch.zeros(7, 1).int(), torch.arange(10000))),
    "column_sums_kernel": (importance, lambda q, k, v: importance.column_sums(q, k, torch.zeros(7, 10000, 1))),
    "neighborhood_1pass": (gna, lambda q, k, v: gna.attention_in_tile_order(
        *(each.expand(7, 10000, 16, 16) for each in (q, k, v)), gna.plan(pattern((16,), (3,)), (16,), (16,)))),
    "gather_rows_kernel": (rows, lambda q, k, v: rows.gather_rows(q, torch.zeros(1).int())),
}  # fmt: skip


@pytest.mark.parametrize("kernel", GRIDS)
def test_any_number_of_heads_fits_the_grid(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, call = GRIDS[kernel]
    monkeypatch.setattr(module, kernel, recorder := Recorder())
    if kernel == "decode_split":
        monkeypatch.setattr(module, "decode_reduce", Recorder())
    call(*(torch.zeros(7, 10000, 1, 16) for _ in range(3)))
    assert recorder.grid == (70000,)


def test_no_kernel_counts_programs_in_a_second_dimension() -> None:
    """Where Triton would number them, at most 65,535; CUDA C++ likewise."""
    texts = {path: path.read_text(encoding="utf-8") for path in Path(*kernels.__path__).rglob("*.*")
             if path.suffix in {".py", ".cu"}}  # fmt: skip
    found = {path.name for path, text in texts.items() if re.search(r"program_id\([12]\)|blockIdx\.[yz]", text)}
    assert texts
    assert not found


def refused(message: str, call, *arguments, **options) -> None:
    with pytest.raises(InputError, match=message) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300


def test_lengths_are_counted_integers_within_the_keys() -> None:
    q, k, v = inputs_of()
    for wrong, message in (
        (torch.tensor([41]), "key_lengths must be from 0 to 40, got 41"),
        (torch.tensor([-1]), "from 0 to 40, got -1"),
        (torch.tensor([4.0]), "must be a tensor of integers, got float32"),
        (torch.tensor([True]), "integers, got bool"),
        (torch.tensor([4, 4]), r"must have shape \[1\], got \[2\]"),
        (torch.tensor(4), r"must have shape \[1\], got \[\]"),
    ):
        refused(message, dense.attention, q, k, v, key_lengths=wrong)
        refused(message.replace("key_lengths", "lengths"), decode.decode_attention, q[:, :, 0], k, v, wrong)


def test_buffers_that_kernels_write_are_as_large_as_what_is_written() -> None:
    q, k, v = inputs_of()
    for lse in (torch.empty(1, 4, 39), torch.empty(1, 2, 40), torch.empty(160)):
        refused("lse must have shape", dense.attention, q, k, v, lse=lse)
        refused("lse must have shape", importance.column_sums, q, k, lse)
    refused("lse must be contiguous float32, got float64", dense.attention, q, k, v, lse=torch.empty(1, 4, 40).double())
    refused("got strided float32", dense.attention, q, k, v, lse=torch.empty(1, 40, 4).transpose(1, 2))
    refused("only attention-1pass keeps", dense.attention, q, k, v, lse=torch.empty(1, 4, 40),
            cascade="attention-2pass")  # fmt: skip
    refused("executed must have shape", gna.neighborhood_attention, q, k, v, PLAN, executed=torch.empty(2, 2).int())
    refused("fetched must have shape", pruned.pruned_attention, q, k, v, *EVERYTHING, fetched=torch.empty(1).int())


def test_tokens_fit_their_plan_and_their_list() -> None:
    q, k, v = inputs_of()
    short = q[:, :, :39], k[:, :, :39], v[:, :, :39]
    refused("the plan has 40 queries and 40 keys, got 39 and 39", gna.neighborhood_attention, *short, PLAN)
    refused("the plan has 48 queries and 48 keys, got 40 and 40", gna.attention_in_tile_order, q, k, v, PLAN)
    refused("the list is for 40 queries and 40 keys, got 39", lists.block_sparse_attention, *short, LIST)


def test_indices_name_what_there_is() -> None:
    q, k, v = inputs_of()
    token, head = torch.tensor([[0]]), torch.tensor([0])
    refused("tokens must be from 0 to 39, got 40", pruned.pruned_attention, q, k, v, token + 40, head)
    refused("heads must be from 0 to 3, got 4", pruned.pruned_attention, q, k, v, token, head + 4)
    refused("heads must be distinct", pruned.pruned_attention, q, k, v, token, torch.tensor([1, 1]))
    refused("index must be from -2147483648 to 39", rows.gather_rows, q, torch.tensor([40]))
    refused("an index occurs twice", rows.scatter_rows, q[:, :, :2], torch.tensor([3, 3]), 40)
    cache = torch.randn(3, 16, 2, 16)
    refused("pages of keys within the lengths must be from 0 to 2", decode.decode_attention, q[:, :, 0], cache, cache,
            torch.tensor([17]), pages=torch.tensor([[0, -1]]))  # fmt: skip
    refused("from 0 to 5, got 6", selection.top_tokens, torch.rand(1, 5), 6)
    refused("must not be NaN", selection.top_tokens, torch.tensor([[float("nan")]]), 1)
    refused("must not be NaN", selection.top_tokens_in_cuda, torch.tensor([[float("nan")]]), 1)


def test_what_is_not_compiled_is_refused() -> None:
    """More rows, heads or columns than these spill; each limit is in the catalogue of what is compiled."""
    one = torch.ones(1, dtype=torch.int32)
    q, k = torch.zeros(1, 130, 128), torch.zeros(1, 1, 1, 128)
    refused("query heads of one key head must be an integer from 0 to 64, got 130", decode.decode_attention, q.half(),
            k.half(), k.half(), one)  # fmt: skip
    refused("from 0 to 16, got 130", decode.decode_attention, q, k, k, one)
    refused("from 1 to 128, got 256", decode.decode_attention, *(torch.zeros(1, 1, 256), *torch.zeros(2, 1, 1, 1, 256)),
            one)  # fmt: skip
    refused("splits must be an integer from 1 to 256", decode.decode_attention, q[:, :1], k, k, one, splits=257)
    refused("from 1 to 256, got 257", dense.attention, *torch.zeros(3, 1, 1, 1, 257))
    wide = gna.plan(pattern((512,), (64,)), (256,), (64,))
    with pytest.raises(InputError, match="tiles of up to 128 queries and 64 keys, got 256 and 64"):
        gna.configuration(9, 64, 2, wide)


@pytest.mark.parametrize("E", [3, 48])
def test_progressive_decoding_needs_a_power_of_two(E: int) -> None:
    codes = torch.zeros(1, 1, 4, E, dtype=torch.int8)
    refused("even last dimension|power of two", progressive.progressive_decode, torch.zeros(1, 1, E), codes,
            torch.ones(1, 1), torch.zeros(1, 1, 4, 8), 0.1)  # fmt: skip


@pytest.mark.slow
def test_gradients_are_refused_and_not_lost() -> None:
    """No kernel has a backward; under no_grad nobody expects one."""
    q, k, v = inputs_of()
    for name, call in FAMILIES.items():
        refused("requires a gradient and there is no backward", call, q, k, v.clone().requires_grad_())
        with torch.no_grad():
            assert FAMILIES[name](q, k, v.clone().requires_grad_()).shape[0] == 1


def test_a_grid_holds_no_more_than_it_can() -> None:
    refused("programs must be an integer from 0 to 2147483647, got 2147483648", inputs.launch, "x", None, 2**31,
            torch.empty(0))  # fmt: skip


def decode_far_away() -> None:
    """Key head 2 begins 2 x 2^30 elements behind the first, which 32 bits do not hold; nothing between is touched."""
    k = torch.empty(2**31 + 4096, dtype=torch.float16).as_strided((1, 3, 5, 16), (0, 2**30, 16, 1))
    k.copy_(torch.randn(1, 3, 5, 16))
    q, lengths = torch.randn(1, 3, 16).half(), torch.tensor([5])
    got = decode.decode_attention(q, k, k, lengths)
    assert (got.double() - reference.attention(q[:, :, None], k, k)[:, :, 0]).abs().max() < 4e-3


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a process that can fork")
def test_offsets_of_large_caches_are_computed_in_64_bits() -> None:
    """In a process of its own: an offset that overflows is an access to foreign memory."""
    process = multiprocessing.get_context("fork").Process(target=decode_far_away)
    process.start()
    process.join()
    assert process.exitcode == 0
