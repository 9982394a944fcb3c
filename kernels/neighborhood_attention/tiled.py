"""The 1-pass cascade over the key tiles of a box: GNA on tokens in tile order, masks only in partial tiles.

The first loop walks the box of tiles that every query of the tile sees whole, without any mask; one loop more for each
slab around it, with one interval test per dimension. Tile numbers count through the box; there is no list of tiles.
UNROLLED, on Hopper: around a loop with wgmma no other loop may run, or ptxas waits for every product. Elsewhere nothing
is won, and Triton takes minutes over seven loops for Blackwell.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from cascadesim.kernels.attention.tile import divided, key_head_of, load_rows, scores, seen, store_rows, tile_and_head


@triton.jit
def inside(m, start, end, tile, SIZE: tl.constexpr, INNER: tl.constexpr):
    """Whether key m of a tile lies in each query's window along one dimension. INNER: tokens of the faster
    dimensions."""
    place = tile * SIZE + m // INNER % SIZE
    return (place[None, :] >= start[:, None]) & (place[None, :] < end[:, None])


@triton.jit
def masked_by_window(QK, WINDOWS, i, t0, t1, t2, U0: tl.constexpr, U1: tl.constexpr, U2: tl.constexpr):
    """QK with -inf outside the windows; WINDOWS[slot]: three starts, then three ends."""
    m = tl.arange(0, U0 * U1 * U2)
    row = WINDOWS + i * 6
    visible = inside(m, tl.load(row + 2), tl.load(row + 5), t2, U2, 1)
    if U1 > 0:
        visible &= inside(m, tl.load(row + 1), tl.load(row + 4), t1, U1, U2)
        visible &= inside(m, tl.load(row), tl.load(row + 3), t0, U0, U1 * U2)
    return tl.where(visible, QK, float("-inf"))


@triton.jit
def next_tile(t0, t1, t2, low1, low2, high1, high2):
    """Row by row through a box, counting: three divisions of a tile's number would cost a quarter of its
    instructions."""
    t2 += 1
    row_ends = t2 == high2
    t2 = tl.where(row_ends, low2, t2)
    t1 += row_ends.to(tl.int32)
    plane_ends = t1 == high1
    return t0 + plane_ends.to(tl.int32), tl.where(plane_ends, low1, t1), t2


@triton.jit
def walk_box(
    q, K, V, WINDOWS, i, box, first, g1, g2, RM, RD, RNV, scale_log2,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr,
    U0: tl.constexpr, U1: tl.constexpr, U2: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All key tiles of one box (low corner, size); grid of key tiles: ? x g1 x g2."""
    low0, low1, low2 = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    n0, n1, n2 = tl.load(box + 3), tl.load(box + 4), tl.load(box + 5)
    M0: tl.constexpr = U0 * U1 * U2
    t0, t1, t2 = low0, low1, low2
    for _ in tl.range(0, n0 * n1 * n2):
        m = (first + (t0 * g1 + t1) * g2 + t2) * M0 + tl.arange(0, M0)
        QK = scores(q, load_rows(K, m, 0, E, EP, False), PRECISION)
        if MASKED:
            QK = masked_by_window(QK, WINDOWS, i, t0, t1, t2, U0, U1, U2)
        RM, RD, RNV = seen(QK, V, m, 0, RM, RD, RNV, scale_log2, F, FP, False, PRECISION)
        t0, t1, t2 = next_tile(t0, t1, t2, low1, low2, low1 + n1, low2 + n2)
    return RM, RD, RNV, n0 * n1 * n2


@triton.jit
def neighborhood_1pass(
    Q, K, V, AV, TABLE, WINDOWS, EXECUTED, scale_log2, query_slots, key_slots, g1, g2, heads, group,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr,
    U0: tl.constexpr, U1: tl.constexpr, U2: tl.constexpr, SLABS: tl.constexpr,
    UNROLLED: tl.constexpr, WIDTH: tl.constexpr, COUNT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """SLABS: boxes with masks. COUNT: write how many tiles were executed, without and with a mask (head 0)."""
    tile, bh = tile_and_head(query_slots // P0)
    key_head = key_head_of(bh, heads, group)
    i = tile * P0 + tl.arange(0, P0)
    K += key_head * key_slots * E
    V += key_head * key_slots * F
    q = load_rows(Q + bh * query_slots * E, i, 0, E, EP, False)
    RM = tl.full([P0], float("-inf"), tl.float32)
    RD = tl.zeros([P0], tl.float32)
    RNV = tl.zeros([P0, FP], tl.float32)
    row = TABLE + tile * WIDTH
    first = tl.load(row)
    RM, RD, RNV, whole = walk_box(q, K, V, WINDOWS, i, row + 1, first, g1, g2, RM, RD, RNV, scale_log2, E, F, EP, FP,
                                  U0, U1, U2, False, PRECISION)  # fmt: skip
    partial = 0
    if UNROLLED:
        for slab in tl.static_range(SLABS):
            RM, RD, RNV, tiles = walk_box(q, K, V, WINDOWS, i, row + 7 + 6 * slab, first, g1, g2, RM, RD, RNV,
                                          scale_log2, E, F, EP, FP, U0, U1, U2, True, PRECISION)  # fmt: skip
            partial += tiles
    else:
        for slab in range(SLABS):
            RM, RD, RNV, tiles = walk_box(q, K, V, WINDOWS, i, row + 7 + 6 * slab, first, g1, g2, RM, RD, RNV,
                                          scale_log2, E, F, EP, FP, U0, U1, U2, True, PRECISION)  # fmt: skip
            partial += tiles
    store_rows(AV + bh * query_slots * F, i, query_slots, divided(RNV, RD), F, FP)
    if COUNT and bh == 0:
        tl.store(EXECUTED + 2 * tile, whole)
        tl.store(EXECUTED + 2 * tile + 1, partial)
