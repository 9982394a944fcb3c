"""Random configurations of every family against float64: any strides, groups, head dimensions, lengths, scales, scores.

Each seed is one configuration, drawn with its own generator, so that a failure names it. What a draw spoils on purpose
must be refused by the one error of all families, in one line.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.attention import CASCADES  # noqa: E402
from cascadesim.kernels.attention import reference as dense_reference  # noqa: E402
from cascadesim.kernels.attention.configurations import TileShape  # noqa: E402
from cascadesim.kernels.attention.triton import attention  # noqa: E402
from cascadesim.kernels.decode_attention import reference as decode_reference  # noqa: E402
from cascadesim.kernels.decode_attention.triton import decode_attention  # noqa: E402
from cascadesim.kernels.inputs import InputError  # noqa: E402
from cascadesim.kernels.neighborhood_attention import reference as gna_reference  # noqa: E402
from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_attention, tile_list  # noqa: E402
from cascadesim.kernels.neighborhood_attention.pattern import pattern  # noqa: E402
from cascadesim.kernels.neighborhood_attention.triton import neighborhood_attention, plan  # noqa: E402
from cascadesim.kernels.pruned_attention import reference, triton  # noqa: E402
from cascadesim.kernels.token_rows import reference as rows_reference  # noqa: E402
from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows  # noqa: E402

ROUNDING = {torch.float32: 4e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest value: a few roundings
TILES = TileShape(32, 32, 4, 2)


class Draw(random.Random):
    """One configuration's choices."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        torch.manual_seed(seed)
        self.dtype = self.choice(list(ROUNDING))
        self.scale = self.choice([None, None, 0.3, -0.5, 0, 0.0, -2, 1e-42])
        self.extreme = self.choice(["no", "no", "large", "-inf", "+inf"])

    def strided(self, *shape: int):
        """Random values behind strides of some kind."""
        kind = self.choice(["plain", "transposed", "slice", "every second", "expanded", "unaligned"])
        if kind == "transposed":
            order = self.sample(range(len(shape)), len(shape))
            back = [order.index(axis) for axis in range(len(shape))]
            return torch.randn([shape[axis] for axis in order]).to(self.dtype).permute(back)
        if kind == "slice":
            return torch.randn([size + 3 for size in shape]).to(self.dtype)[tuple(slice(1, 1 + n) for n in shape)]
        if kind == "every second":
            return torch.randn(*shape[:-1], 2 * shape[-1]).to(self.dtype)[..., ::2]
        if kind == "expanded" and min(shape):
            return torch.randn(1, *shape[1:]).to(self.dtype).expand(*shape)
        if kind == "unaligned":
            return torch.randn(int(np.prod(shape)) + 1).to(self.dtype)[1:].view(*shape)
        return torch.randn(*shape).to(self.dtype)

    def queries_and_keys(self, q_shape: tuple, k_shape: tuple):
        """Their scores are as extreme as was drawn: of the first 40 keys, in whole tiles."""
        q, k = self.strided(*q_shape), self.strided(*k_shape)
        if self.extreme == "large":
            return 100 * q, 100 * k
        if self.extreme != "no" and k.numel():
            q, k = q.clone(), k.clone()
            q[..., 0] = q[..., 0].abs() + 0.1
            k[:, :, :40, 0] = float(self.extreme)
        return q, k

    def heads(self) -> tuple[int, int]:
        return self.choice([(1, 1), (1, 1), (2, 1), (4, 1), (2, 2), (3, 3), (4, 2)])

    def head_dims(self, most: int = 48) -> tuple[int, int]:
        E = self.choice([1, 8, 16, 24, 32, most])
        return E, self.choice([E, 1, 8, 20, 32, most])

    def lengths(self, B: int, M: int):
        return torch.tensor([self.choice([0, min(1, M), M // 2, M]) for _ in range(B)],
                            dtype=self.choice([torch.int32, torch.int64]))  # fmt: skip


def same(got, expected, q, k, scale: float | None) -> None:
    """NaN in the same places; else within the type's rounding, and float32's of the largest score."""
    assert got.shape == expected.shape
    assert got.dtype == q.dtype
    assert (torch.isnan(got) == torch.isnan(expected)).all()
    factor = abs(q.shape[-1] ** -0.5 if scale is None else scale)
    largest = factor * float(q.double().abs().nan_to_num(posinf=0.0).max()) * float(
        k.double().abs().nan_to_num(posinf=0.0).max()) * q.shape[-1] if q.numel() and k.numel() else 0.0  # fmt: skip
    allowed = (ROUNDING[q.dtype] + 2**-22 * largest) * max(float(expected.nan_to_num().abs().max()), 1.0)
    assert (got.double() - expected).nan_to_num().abs().max() <= allowed


def dense(draw: Draw) -> None:
    B, (H, G), P, M = draw.choice([1, 1, 2, 0]), draw.heads(), draw.choice([1, 33, 64, 0]), draw.choice([1, 70, 96, 0])
    E, F = draw.head_dims()
    q, k = draw.queries_and_keys((B, H, P, E), (B, G, M, E))
    v = draw.strided(B, G, M, F)
    options = {"causal": draw.random() < 0.4, "scale": draw.scale,
               "key_lengths": draw.lengths(B, M) if draw.random() < 0.4 else None}  # fmt: skip
    got = attention(q, k, v, **options, cascade=draw.choice(CASCADES), divide_first=draw.random() < 0.5, tiles=TILES)
    if got.numel():
        same(got, dense_reference.attention(q, k, v, **options), q, k, draw.scale)
    assert got.shape == (B, H, P, F)


def decode(draw: Draw) -> None:
    B, (H, G), M = draw.choice([1, 3, 0]), draw.heads(), draw.choice([1, 100, 300, 0])
    E, F = draw.head_dims()
    pages = None
    if paged := draw.random() < 0.4:
        page = draw.choice([1, 16, 24])
        each = -(-M // page)
        pages = torch.randperm(B * each + 2)[: B * each].reshape(B, each)
        M = each * page
        k, v = draw.strided(B * each + 2, page, G, E), draw.strided(B * each + 2, page, G, F)
        q = draw.strided(B, H, E)
    else:
        q, k = draw.queries_and_keys((B, H, E), (B, G, M, E))
        v = draw.strided(B, G, M, F)
    lengths = draw.lengths(B, M)
    got = decode_attention(q, k, v, lengths, pages=pages, scale=draw.scale, splits=draw.choice([None, 1, 2, 5]))
    assert got.shape == (B, H, F)
    if got.numel():
        expected = decode_reference.decode_attention(q, k, v, lengths, pages=pages, scale=draw.scale)
        same(got, expected, q, k if not paged else k.transpose(1, 2), draw.scale)


def neighborhood(draw: Draw) -> None:
    axes = []
    for _ in range(draw.choice([1, 2, 2])):
        window, dilation = draw.randint(1, 6), draw.choice([1, 1, 2])
        axes.append((window * dilation + draw.randint(0, 6), window, draw.randint(1, window), dilation,
                     draw.random() < 0.3))  # fmt: skip
    tiles = plan(pattern(*zip(*axes, strict=True)), *([(64,), (8, 8)][len(axes) - 1] for _ in "qk"))
    B, (H, G), (E, F), N = draw.choice([1, 1, 0]), draw.heads(), draw.head_dims(), tiles.pattern.tokens
    q, k = draw.queries_and_keys((B, H, N, E), (B, G, N, E))
    v = draw.strided(B, G, N, F)
    got = neighborhood_attention(q, k, v, tiles, scale=draw.scale)
    assert got.shape == (B, H, N, F)
    if got.numel():
        same(got, gna_reference.neighborhood_attention(q, k, v, tiles.pattern, scale=draw.scale), q, k, draw.scale)


def block_sparse(draw: Draw) -> None:
    B, (H, G), P, M, (E, F) = draw.choice([1, 2]), draw.heads(), draw.choice([1, 40]), draw.choice([1, 90]), \
        draw.head_dims()  # fmt: skip
    mask = np.random.default_rng(draw.randrange(2**31)).random((P, M)) < draw.choice([0, 0.02, 0.5, 1])
    q, k = draw.queries_and_keys((B, H, P, E), (B, G, M, E))
    v = draw.strided(B, G, M, F)
    got = block_sparse_attention(q, k, v, tile_list(mask, TILES), scale=draw.scale)
    same(got, dense_reference.attention(q, k, v, scale=draw.scale, mask=torch.from_numpy(mask)), q, k, draw.scale)


def pruned(draw: Draw) -> None:
    B, (H, G), P, M, (E, F) = draw.choice([1, 2]), draw.heads(), draw.choice([1, 40]), draw.choice([2, 90]), \
        draw.head_dims()  # fmt: skip
    q, k = draw.queries_and_keys((B, H, P, E), (B, G, M, E))
    v = draw.strided(B, G, M, F)
    kept = draw.choice([0, 1, M // 2, M])
    tokens = torch.stack([torch.randperm(M)[:kept].sort().values for _ in range(B)])
    heads = torch.randperm(H)[: draw.randint(0, H)]
    got = triton.pruned_attention(q, k, v, tokens, heads, scale=draw.scale, tiles=TILES)
    expected = reference.pruned_attention(q, k, v, tokens, heads, scale=draw.scale)
    kept_heads = torch.zeros(H, dtype=torch.bool).index_fill_(0, heads, True)[:, None, None]
    same(got, torch.where(kept_heads, expected, 0.0), q, k, draw.scale)


def progressive(draw: Draw) -> None:
    B, (H, G), M = draw.choice([1, 2, 0]), draw.heads(), draw.choice([1, 70, 150, 0])
    E, F = draw.choice([2, 16, 64]), draw.choice([1, 20, 64])
    q, v = draw.strided(B, H, E), draw.strided(B, G, M, F)
    codes = torch.randint(-128, 128, (B, M, G, E), dtype=torch.int8).transpose(1, 2)
    key_scale = (torch.rand(G, B) / 64).T
    got, need = triton.progressive_decode(q, codes, key_scale, v, 0.1, scale=draw.scale, splits=draw.choice([1, 3, 8]))
    expected, expected_need = reference.progressive_decode(q, codes, key_scale, v, 0.1, scale=draw.scale)
    assert got.shape == (B, H, F)
    if got.numel():
        assert (need.bool() == expected_need).all()
        same(got, expected, q, codes * key_scale[..., None, None] if M else codes, draw.scale)


def column_sums(draw: Draw) -> None:
    B, (H, G), P, M, (E, _) = draw.choice([1, 2]), draw.heads(), draw.choice([1, 70]), draw.choice([1, 140, 0]), \
        draw.head_dims()  # fmt: skip
    q, k, causal = draw.strided(B, H, P, E), draw.strided(B, G, M, E), draw.random() < 0.5
    lse = torch.empty(B, H, P)
    attention(q, k, k, causal=causal, scale=draw.scale, lse=lse, tiles=TileShape(128, 128, 8, 1))
    got = triton.column_sums(q, k, lse, causal=causal, scale=draw.scale)
    expected = reference.column_sums(q, k, causal=causal, scale=draw.scale)
    assert torch.allclose(got.double(), expected, rtol=2e-5, atol=1e-5)


def top_tokens(draw: Draw) -> None:
    """Few distinct values, of any sign: many ties, zeros of both signs, infinities."""
    draw.dtype = draw.choice([*ROUNDING, torch.float64])
    B, M = draw.choice([1, 2, 0]), draw.choice([1, 40, 40, 40, 1100])
    importance = draw.strided(B, M)
    if draw.random() < 0.6:
        importance = (2 * importance).round() / 2 * draw.choice([1.0, 1e-3, -1.0])
    if draw.random() < 0.3 and importance.numel():
        importance = importance.masked_fill(torch.rand(B, M) < 0.2, draw.choice([float("inf"), float("-inf"), -0.0]))
    kept = draw.choice([0, 1, M // 2, M])
    assert triton.top_tokens(importance, kept).tolist() == reference.top_tokens(importance, kept).tolist()


def token_rows(draw: Draw) -> None:
    rows, D = draw.choice([1, 70]), draw.choice([1, 16, 40, 300])
    source = draw.strided(*draw.choice([(2, 3), (1,), (0, 2), ()]), rows, D)
    index = torch.randperm(rows)[: draw.choice([rows, rows // 2])].to(draw.choice([torch.int32, torch.int64]))
    index[torch.rand(len(index)) < 0.2] = -1
    gathered = gather_rows(source, index)
    assert (gathered == rows_reference.gather_rows(source, index)).all()
    assert (scatter_rows(gathered, index, rows) == rows_reference.scatter_rows(gathered, index, rows)).all()


FAMILIES: tuple[Callable[[Draw], None], ...] = (
    dense, decode, neighborhood, block_sparse, pruned, progressive, column_sums, top_tokens, token_rows,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_random_configuration_is_right(family: Callable[[Draw], None], seed: int) -> None:
    family(Draw(seed))


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(24, 424))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_many_random_configurations_are_right(family: Callable[[Draw], None], seed: int) -> None:
    family(Draw(seed))


def spoiled(draw: Draw) -> tuple[dict, str]:
    """Arguments of attention with one thing wrong, and a word of the answer."""
    q, k, v = (draw.strided(2, heads, 20, 16) for heads in (4, 2, 2))
    given = {"q": q, "k": k, "v": v}
    choices: dict[str, tuple[dict, str]] = {
        "heads": ({"q": draw.strided(2, 3, 20, 16)}, "multiple"),
        "batch": ({"q": draw.strided(1, 4, 20, 16)}, "shapes do not fit"),
        "keys": ({"v": draw.strided(2, 2, 19, 16)}, "shapes do not fit"),
        "dimensions": ({"q": q[0]}, "4 dimensions"),
        "head dimension": ({"q": draw.strided(2, 4, 20, 8)}, "shapes do not fit"),
        "type": ({"v": v.double()}, "one type"),
        "none": ({"k": None}, "dense tensor"),
        "gradient": ({"k": k.clone().requires_grad_()}, "no backward"),
        "scale": ({"scale": draw.choice([float("nan"), float("inf"), "1", True, 1e39])}, "scale must be a number"),
        "no keys": ({"k": k[:, :0], "v": v[:, :0]}, "multiple"),
        "meta": ({"q": q.to("meta")}, "one GPU or on the CPU"),
    }
    change, message = choices[draw.choice(list(choices))]
    return {**given, **change}, message


def decoded(q, k, v, **options):
    return decode_attention(q[:, :, 0] if q is not None and q.dim() == 4 else q, k, v, torch.tensor([1, 2]), **options)


def listed(q, k, v, **options):
    return block_sparse_attention(q, k, v, tile_list(np.ones((20, 20), dtype=bool), TILES), **options)


def of_kept(q, k, v, **options):
    return triton.pruned_attention(q, k, v, torch.tensor([[0], [1]]), torch.tensor([0]), **options)


def around(q, k, v, **options):
    return neighborhood_attention(q, k, v, plan(pattern((20,), (3,)), (16,), (16,)), **options)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("call", [partial(attention, cascade=each) for each in CASCADES[:2]]
                         + [decoded, listed, of_kept, around])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(call: Callable, seed: int) -> None:
    given, message = spoiled(Draw(seed))
    with pytest.raises(InputError, match=message if call is not decoded else ".") as refused:
        call(**given)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 300
