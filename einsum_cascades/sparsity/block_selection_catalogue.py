"""Published data-dependent patterns with their published settings, as rows of one table.

What a method keeps and what its choice costs; `block_selection` has the arithmetic. A multiply and an add: two FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError, shortened
from cascadesim.einsum_cascades.sparsity.block_selection import Selected


def moba(tokens: int, head_dim: int = 128, block: int = 512, kept: float = 2) -> Selected:
    """MoBA (arXiv 2502.13189): each query picks top-3 blocks of 512 by its product with the block's mean key.

    The own block is one of the three and is always taken, causal inside.
    """
    gate = 2 * head_dim * tokens / block  # one product with each block mean, per query
    return Selected("moba", tokens, block, kept, 1, True, head_dim, always=1, choice_flops_per_query=gate)


def flash_moba(tokens: int, head_dim: int = 128, block: int = 128, kept: float = 8) -> Selected:
    """FlashMoBA (arXiv 2511.11571): MoBA with small blocks; queries are regrouped by block, so that a key block
    meets only queries that chose it: every selector works on its own choice."""
    gate = 2 * head_dim * tokens / block
    return Selected("flash-moba", tokens, block, kept, 0, True, head_dim, always=1, alike=1.0,
                    choice_flops_per_query=gate)


def vmoba(tokens: int, head_dim: int = 128, block: int = 256, share: float = 0.25) -> Selected:
    """VMoBA (arXiv 2506.23858): one choice per head over blocks of a video, by cumulative similarity.

    `share` of the blocks is kept (assumed: it depends on the threshold and the head).
    """
    gate = 2 * head_dim * tokens / block
    return Selected("vmoba", tokens, block, 0, 0, False, head_dim, choice_flops_per_query=gate, share=share)


def nsa(tokens: int, head_dim: int = 128, block: int = 64, kept: float = 13) -> Selected:
    """NSA (arXiv 2502.11089): 16 blocks of 64 per query and group of heads, 1 first and 2 local ones among them.

    Choosing is attention over compressed keys, one for every 16 tokens (blocks of 32, step 16), both products.
    """
    compressed = 4 * head_dim * tokens / 16 / 2  # causal: half of them on average
    return Selected("nsa", tokens, block, kept, 1, True, head_dim, always=3, alike=0.5,  # assumed: half alike
                    choice_flops_per_query=compressed)


def vsa(tokens: int, head_dim: int = 128, block: int = 64, kept: float = 32) -> Selected:
    """VSA (arXiv 2505.13389): cubes of 4x4x4 tokens; each query cube picks its top 32 key cubes by pooled attention."""
    coarse = 4 * head_dim * tokens / block / block  # both products between cube means, shared by the cube's queries
    return Selected("vsa", tokens, block, kept, block, False, head_dim, choice_flops_per_query=coarse)


def vertical_slash(tokens: int, head_dim: int = 128, vertical: int = 1000, slash: int = 6096) -> Selected:
    """MInference (arXiv 2407.02490): `vertical` columns and `slash` diagonals of a head, in blocks of 64.

    Estimated from the last 64 queries. Columns are alike for all query tiles; assumed: each column and each diagonal
    block lies in a block of its own, the upper bound.
    """
    block = 64
    kept = min(tokens / block, vertical / block + slash / block)
    return Selected("vertical-slash", tokens, block, kept, block, True, head_dim, always=1,
                    choice_flops_per_query=2 * head_dim * 64)  # 64 queries against all keys, spread over all queries


def pbs(tokens: int, head_dim: int = 128, block: int = 128, share: float = 0.3) -> Selected:
    """PBS-Attn (arXiv 2510.21270): keys sorted by importance inside segments, then blocks of 128 chosen per query
    block; `share` kept of the causal blocks, as table 5 counts (assumed: it depends on the threshold)."""
    estimate = 2 * head_dim * tokens / block / block
    return Selected("pbs", tokens, block, 0, block, True, head_dim, always=1,
                    choice_flops_per_query=estimate, share=share)


def sale(tokens: int, head_dim: int = 128, block: int = 64, share: float = 0.15) -> Selected:
    """SALE (arXiv 2505.24179): 4-bit products of all pairs estimate which blocks matter; the estimate takes about 11%
    of dense attention. `share` of the blocks kept (assumed)."""
    estimate = 0.11 * 4 * head_dim * tokens / 2
    return Selected("sale", tokens, block, 0, block, True, head_dim, always=1,
                    choice_flops_per_query=estimate, share=share)


def xattention(tokens: int, head_dim: int = 128, block: int = 128, share: float = 0.25) -> Selected:
    """XAttention (arXiv 2503.16428): sums along antidiagonals with stride 8 score blocks of 128; `share` kept
    (assumed: it depends on the threshold)."""
    estimate = 2 * head_dim * tokens / 8 / 2
    return Selected("xattention", tokens, block, 0, block, True, head_dim, always=1,
                    choice_flops_per_query=estimate, share=share)


SELECTED: Mapping[str, Callable[..., Selected]] = {
    "moba": moba,
    "flash-moba": flash_moba,
    "vmoba": vmoba,
    "nsa": nsa,
    "vsa": vsa,
    "vertical-slash": vertical_slash,
    "pbs": pbs,
    "sale": sale,
    "xattention": xattention,
}

_RANGES: Mapping[str, tuple[int, int, bool]] = {  # least, most, whole
    "head_dim": (1, 2**16, True), "block": (1, 2**30, True), "vertical": (0, 2**30, True), "slash": (0, 2**30, True),
    "kept": (0, 2**30, False), "share": (0, 1, False),
}  # fmt: skip


def selected(name: str, tokens: int, **settings: float) -> Selected:
    """A published pattern with some settings changed. Raises CascadeSimError naming what it knows."""
    if name not in SELECTED:
        raise UnknownNameError("pattern", name, SELECTED)
    build = SELECTED[name]
    known = build.__code__.co_varnames[1 : build.__code__.co_argcount]
    wrong = sorted(set(settings) - set(known))
    if wrong:
        raise CascadeSimError(f"pattern {name}: no setting '{shortened(wrong[0])}'; known: {', '.join(known)}")
    for field, value in settings.items():
        least, most, whole = _RANGES[field]
        if not least <= value <= most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise CascadeSimError(f"pattern {name}: {field} must be {kind} from {least} to {most}, got {value:g}")
    return build(tokens, **settings)
