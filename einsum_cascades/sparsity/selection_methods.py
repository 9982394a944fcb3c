"""Published methods that choose blocks by the data, a row each: what is kept, and the passes that choose and move.

Scores that only the largest leave (fused-scores) stay on the chip; all others pass by memory, as the published code of
each does. MInference is arXiv 2407.02490; the others are cited where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod, sqrt

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError, shortened
from cascadesim.einsum_cascades.sparsity.block_selection import Selected
from cascadesim.einsum_cascades.sparsity.choice_passes import Pass, means


@dataclass(frozen=True)
class Method:
    """How a published method chooses: as `Selected`."""

    block: int  # 0: the square root of the tokens
    passes: tuple[Pass, ...]
    kept: float | None = None  # of the blocks; None: a `share` of them
    share: float = 0.0
    selector: int | None = None  # None: the queries of a block
    causal: bool = True
    always: int = 1
    alike: float = 0.0
    phases: tuple[str, ...] = ("prefill", "decode")
    repeats_keys: bool = False


PROMPTS = ("prefill",)
VERTICAL, SLASH = 1000, 6096  # columns and diagonals of a head (MInference, arXiv 2407.02490)
_PER_QUERY = Pass("scores", "scores", "queries", "blocks")  # one product with the mean key of each block
_REGROUPED = (  # queries gathered by the blocks that chose them; results in fp32, one for each, merged by their sums
    Pass("list", "list", "queries", "kept", runs=3),  # histogram, scan, scatter
    Pass("gather_queries", "gather", "queries", "kept"),
    Pass("merge", "merge", "queries", "kept"),
)
_REORDERED = (Pass("gather_queries", "gather", "tokens"), Pass("gather_keys", "gather", "tokens", heads="key"),
              Pass("gather_values", "gather", "tokens", heads="key"), Pass("scatter_results", "gather", "tokens"))
_POOLED = (means("keys"), means("queries"), Pass("scores", "scores", "query-blocks", "blocks"),
           Pass("softmax", "softmax", "query-blocks", "blocks"))  # fmt: skip
SELECTED: Mapping[str, Method] = {
    # MoBA (arXiv 2502.13189): each query picks top-3 blocks of 512 by its product with the block's mean key. The own
    # block is one of the three and is always taken, causal inside.
    "moba": Method(512, (means("keys"), _PER_QUERY, Pass("select", "select", "queries", "blocks")), kept=2, selector=1),
    # FlashMoBA (arXiv 2511.11571): MoBA with small blocks; the products and the largest 8 in one kernel, then queries
    # are regrouped by block, so that a key block meets only queries that chose it: every selector works on its own.
    "flash-moba": Method(128, (means("keys"), Pass("scores", "fused-scores", "queries", "blocks"), *_REGROUPED),
                         kept=8, selector=0, alike=1.0),
    # VMoBA (arXiv 2506.23858): each query its own blocks of a video, by cumulative similarity over all (query, block)
    # scores of a head; regrouped as in FlashMoBA, by varlen attention, whose results are scattered. A block of 76K
    # tokens is 1,053 of them where 72 are of space and time. assumed: the share, which depends on threshold and head.
    "vmoba": Method(1024, (means("keys"), _PER_QUERY, Pass("sort", "radix", "queries", "blocks"), *_REGROUPED,
                           Pass("scatter_results", "gather", "queries", "kept")),
                    share=0.25, selector=0, causal=False, always=0, alike=1.0),
    # NSA (arXiv 2502.11089): 16 blocks of 64 per query and group of heads, 1 first and 2 local ones among them.
    # Choosing is attention over compressed keys, one for every 16 tokens (blocks of 32, step 16), and its scores once
    # more; causal: half of them on average. assumed: half alike.
    "nsa": Method(64, (means("keys", "32", "tokens/16"), means("values", "32", "tokens/16"),
                       Pass("compressed", "attend", "queries", "tokens/32"),
                       Pass("scores", "fused-scores", "queries", "tokens/32"),
                       Pass("select", "select", "queries", "blocks", "key")),
                  kept=13, selector=1, always=3, alike=0.5),
    # VSA (arXiv 2505.13389): cubes of 4x4x4 tokens; each query cube picks its top 32 key cubes by pooled attention:
    # both products between cube means, shared by the cube's queries.
    "vsa": Method(64, (*_POOLED, means("values"), Pass("coarse", "scores", "query-blocks", "blocks"),
                       Pass("select", "select", "query-blocks", "blocks")),
                  kept=32, causal=False, always=0),
    # MInference: VERTICAL columns and SLASH diagonals in blocks of 64, estimated from the last 64 queries, spread over
    # all. Columns are alike for all query tiles; assumed: each column and each diagonal block lies in a block of its
    # own, the upper bound.
    "vertical-slash": Method(64, (Pass("scores", "scores", "64", "tokens"), Pass("softmax", "softmax", "64", "tokens"),
                                  Pass("select", "select", "1", "tokens", runs=2),
                                  Pass("list", "list", "query-blocks", "kept")),
                             kept=(VERTICAL + SLASH) / 64, phases=PROMPTS),
    # PBS-Attn (arXiv 2510.21270): the last 128 queries weigh all keys, which are sorted inside segments of 256 and
    # gathered with their values, for each query head; then blocks of 128 by pooled attention, sorted, up to a sum. The
    # share is of the causal blocks, as table 5 counts (assumed: it depends on the threshold).
    "pbs": Method(128, (Pass("last_queries", "scores", "128", "tokens"), Pass("weights", "softmax", "128", "tokens"),
                        Pass("sort_keys", "sort", "tokens/256", "256"), Pass("gather_keys", "gather", "tokens"),
                        Pass("gather_values", "gather", "tokens"), *_POOLED,
                        Pass("sort_blocks", "sort", "query-blocks", "blocks")),
                  share=0.3, phases=PROMPTS, repeats_keys=True),
    # SALE (arXiv 2505.24179): queries and keys in 4 bits; their products, of half of all pairs, and a comparison each
    # say which blocks matter. assumed: the share.
    "sale": Method(64, (Pass("quantise_queries", "stream", "queries", "depth"),
                        Pass("quantise_keys", "stream", "tokens", "depth", "key"),
                        Pass("scores", "fused-scores", "queries", "tokens/2", codes=True)),
                   share=0.15, phases=PROMPTS),
    # XAttention (arXiv 2503.16428): sums along antidiagonals with stride 8 score blocks of 128, causal: half of them.
    # assumed: the share, which depends on the threshold.
    "xattention": Method(128, (Pass("scores", "scores", "tokens/8", "tokens/16", depth=8),
                               Pass("softmax", "softmax", "tokens/8", "tokens/16"),
                               Pass("sort_blocks", "sort", "query-blocks", "blocks/2")),
                         share=0.25, phases=PROMPTS),
    # SparseD (arXiv 2509.24014): all scores of a step, pooled to blocks of 128, the top 30 % of each row. Its 277 s at
    # 64K on LLaDA (table 2) are about 100 bytes of DRAM for each score, in eager kernels that read and write 2 each.
    "sparsed": Method(128, (Pass("scores", "scores", "tokens", "tokens"),
                            Pass("eager", "stream", "tokens", "tokens", runs=25),
                            Pass("select", "select", "query-blocks", "blocks")),
                      share=0.3, causal=False, always=0, phases=PROMPTS),
    # PSA (arXiv 2512.04025): keys and values averaged 2, 4 and 8 times; each pair of blocks takes one level or none, by
    # scores of means. The share is the sum of shares over levels, 0.10 for Wan 1.3B (psa_topk); tokens are reordered.
    "psa": Method(128, (*(means(of, str(level), f"tokens/{level}") for of in ("keys", "values") for level in (2, 4, 8)),
                        *_POOLED, Pass("sort_blocks", "sort", "query-blocks", "blocks"), *_REORDERED),
                  share=0.1, causal=False, always=0, phases=PROMPTS),
    # Routing Transformer (arXiv 2003.05997): the square root of the tokens are clusters, each of as many tokens, found
    # by products with all centroids and the largest of each; dense inside, causal in order of the tokens.
    "clusters": Method(0, (Pass("assign", "scores", "queries", "blocks"),
                           Pass("members", "select", "blocks", "tokens"), *_REORDERED),
                       kept=0, selector=0, phases=PROMPTS),
    # TidalDecode (arXiv 2410.05076), a layer that attends what another one chose: 512 tokens.
    "tidal": Method(1, (), kept=512, selector=0, always=0, alike=1.0, phases=("decode",)),
    # TidalDecode, a layer that chooses: it attends everything, keeps its scores and takes the largest.
    "tidal-choose": Method(1, (Pass("stored_scores", "stream", "queries", "tokens"),
                               Pass("select", "select", "queries", "tokens", runs=2, keep="512")),
                           share=1.0, selector=0, always=0, alike=1.0, phases=("decode",)),
}  # fmt: skip
_RANGES: Mapping[str, tuple[int, int, bool]] = {  # least, most, whole
    "head_dim": (1, 2**16, True), "block": (1, 2**30, True), "vertical": (0, 2**30, True), "slash": (0, 2**30, True),
    "kept": (0, 2**30, False), "share": (0, 1, False),
}  # fmt: skip


def settings_of(name: str) -> Mapping[str, float | None]:
    """What can be changed of a published pattern, with its published value; None follows from the model."""
    method = SELECTED[name]
    if name == "vertical-slash":
        return {"head_dim": None, "vertical": VERTICAL, "slash": SLASH}
    if not method.block:
        return {"head_dim": None, "block": None}
    amount = ("share", method.share) if method.kept is None else ("kept", method.kept)
    return dict((("head_dim", None), ("block", method.block), amount))


def halo_of_layout(layout: tuple[int, ...], block: tuple[int, ...], halo: tuple[int, ...]) -> Selected:
    """HaloNet (arXiv 2103.12731) in several dimensions: blocks of queries see as many keys and `halo` on each side.

    Keys and values are copied for every block, padded with zeros at the borders, which are attended like any others.
    Raises CascadeSimError where sizes do not match the layout.
    """
    problems = [f"block {size} does not divide the layout {length}" for size, length in zip(block, layout, strict=False)
                if length % size]  # fmt: skip
    if not len(layout) == len(block) == len(halo) or problems:
        problems = problems or [f"give a block and a halo for each of the {len(layout)} dimensions of the layout"]
        raise CascadeSimError("\n".join(f"pattern halo: {problem}" for problem in problems))
    seen = prod(size + 2 * more for size, more in zip(block, halo, strict=True))
    copied = tuple(Pass(f"gather_{what}", "gather", "blocks", str(seen), "key") for what in ("keys", "values"))
    tokens, queries = prod(layout), prod(block)
    return Selected("halo", tokens, queries, min(seen / queries, tokens / queries), queries, False, 128,
                    passes=copied, phases=PROMPTS)  # fmt: skip


def selected(name: str, tokens: int, causal: bool | None = None, /, **settings: float) -> Selected:
    """A published pattern with some settings changed. Raises CascadeSimError naming what it knows.

    `causal`: whether blocks are chosen among earlier ones; None: as published.
    """
    if name not in SELECTED:
        raise UnknownNameError("pattern", name, SELECTED)
    method, known = SELECTED[name], settings_of(name)
    wrong = sorted(set(settings) - set(known))
    if wrong:
        raise CascadeSimError(f"pattern {name}: no setting '{shortened(wrong[0])}'; known: {', '.join(known)}")
    for field, value in settings.items():
        least, most, whole = _RANGES[field]
        if not least <= value <= most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise CascadeSimError(f"pattern {name}: {field} must be {kind} from {least} to {most}, got {value:g}")
    block = int(settings.get("block", method.block or ceil(sqrt(tokens))))
    kept = settings.get("kept", min(method.kept or 0, -(-tokens // block)))  # short sequences have fewer
    if name == "vertical-slash":
        kept = min(tokens / block, (settings.get("vertical", VERTICAL) + settings.get("slash", SLASH)) / block)
    selector = block if method.selector is None else method.selector
    return Selected(name, tokens, block, kept, selector, method.causal if causal is None else causal,
                    int(settings.get("head_dim", 128)), method.always, method.alike,
                    settings.get("share", method.share), method.passes, method.phases, method.repeats_keys)  # fmt: skip
