"""Attention kernels as data: tiles, warps, stages, what overlaps, where they run, which text they compute.

One YAML file each: facts with their source, or `assumed:`; which library calls which kernel is in
`kernels/implementations.yaml`. A text is known by its work, never by names of texts or tensors: a fused kernel
(FlashAttention and its kin) does per score a multiply-accumulate for each element of query and key, a maximum, an
exponential of a difference, a sum and a multiply-accumulate for each element of the value, in one pass over the keys;
an unfused one stores scores and divides each of them, in three. What any other text takes is priced by its own work
(`generic`). Knows no device rate and no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Literal, Self, TypeAlias, get_args

from pydantic import model_validator

from cascadesim.accelerators.gpu.engines.engine import Engine, find_engine
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, Generation
from cascadesim.einsum_cascades.analysis.bound_counts import KEY
from cascadesim.einsum_cascades.analysis.passes import all_passes, partitions
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.operators import charges, is_first, repeated_ranks
from cascadesim.einsum_cascades.notation.schema import (
    Fraction,
    NonNegative,
    Positive,
    PositiveFloat,
    Spec,
    read_yaml,
    validate,
)
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS

FOLDER = Path(__file__).parent / "kernels"
LIBRARIES = ("implementations",)  # files about what calls kernels
KernelPhase: TypeAlias = Literal["prefill", "decode", "mla"]
Text: TypeAlias = Literal["fused", "unfused"]
KERNELS: Mapping[Text, Cascade] = {"fused": ATTENTION_1PASS, "unfused": ATTENTION_3PASS}
TILE = "tile of keys"

# assumed: cycles of a key tile that comes from a list over those of one in a row: its address hangs on a load, and
# every tile takes the loop that masks. NATTEN's loops that compute place and mask take 1.50 (B200) to 1.55 (H100) times
# its plain ones (gpu/natten.py)
BLOCK_SPARSE_FACTOR = 1.5


class CompiledLoop(Spec):
    """What a warp does for a key tile in a compiler's loop over the keys: instructions, all of them; among them
    barriers of the block; and loads of registers that spilled, where the stacks of all threads do not fit L1.

    `windowed`: the same where a window is configured; `beyond`: for a tile that no query's window reaches, which is
    compared and left; `unaligned`: where rows are no multiples of 16 elements. None: as `plain`.
    """

    warps: Positive
    plain: tuple[Positive, NonNegative, NonNegative]
    windowed: tuple[Positive, NonNegative, NonNegative] | None = None
    beyond: tuple[NonNegative, NonNegative, NonNegative] = (0, 0, 0)
    unaligned: tuple[Positive, NonNegative, NonNegative] | None = None
    trips: NonNegative | None = None  # loads that hang on one another; None: those of the kernel


class Tile(Spec):
    """The tile of scores of one thread block, for queries and keys of up to `head_dim` elements (after padding).

    `causal`, `generations`, `bytes`, `most_rows`: where it holds (element size; rows that share keys), None everywhere.
    """

    head_dim: Positive
    queries: Positive
    keys: Positive
    blocks_per_sm: Positive = 1  # at most: registers and shared memory
    causal: bool | None = None
    generations: tuple[Generation, ...] | None = None
    bytes: Positive | None = None
    most_rows: Positive | None = None
    emulated_exponentials: Fraction = 0.0  # computed on the FP32 units instead of the special-function units
    overlapped: bool = True  # False: softmax waits for the products, whatever the kernel does elsewhere
    loop: CompiledLoop | None = None  # of kernels that a compiler made, where it was counted


Tiles: TypeAlias = tuple[Tile, ...]


class Kernel(Spec):
    """One attention kernel.

    `tiles`: ascending in head_dim; a head dimension takes the first that fits and holds, and is padded to it.
    `overlap`: `serial`: products, then softmax; `plain`: the scheduler overlaps warps as it can; `specialised`: warps
    of their own load, multiply and exponentiate, softmax of one group against products of the other.
    `heads_first`: neighbouring thread blocks work on different heads, not on the queries of one head; `heads_last`: the
    blocks of all sequences and one head come before those of the next head.
    `sequences_per_scan`: its scheduler sums the tiles of as many sequences at a time to find a block's next one; 0: it
    needs no search. `window_excludes_query`: its windows count the keys before the query, which it sees, too.
    `packs_group`: the query heads of one key head share tiles; `packs_where_fuller`: only where their tiles are fuller
    than those of single heads by a ninth.
    """

    name: str
    source: str
    phases: tuple[KernelPhase, ...]
    generations: tuple[Generation, ...]
    dtypes: tuple[Dtype, ...] = ("fp16", "bf16")
    tiles: Tiles
    threads: Positive
    stages: Positive = 2
    overlap: Literal["serial", "plain", "specialised"]
    instructions_per_score: PositiveFloat | None = None  # beside products and exponentials; None: those of its kind
    instructions: Literal["mma_sync", "wgmma", "tcgen05"]
    skips_window: bool = True  # tiles before the window; False: it computes them
    passes_window: bool = False  # tiles before the window are compared, found empty and passed by
    compares_ends: bool = False  # tiles that a window cuts, with both its ends, whichever lies in the tile
    window_excludes_query: bool = False
    heads_first: bool = False  # and in the sequence: that changes fastest, then the head
    heads_last: bool = False
    persistent: bool = False
    longest_first: bool = False  # blocks with most keys begin first, so that those that end last are the shortest
    loads_ahead: bool = False  # by TMA, in a warp of its own, several tiles before they are used
    tiles_between: NonNegative = 0  # from one block to the next, in key tiles: its scheduler's own figure
    sequences_per_scan: NonNegative = 0
    searches_anew: bool = False  # every block, from the first sequence on; again in the end, to find that none is left
    packs_group: bool = False
    packs_where_fuller: bool = False
    row_step: NonNegative = 0  # rows of a tile shrink to multiples of it where there are fewer; 0: never
    row_choices: tuple[Positive, ...] = ()  # smaller tiles it has: the first that holds the rows of a head
    narrow_rows: tuple[Positive, Positive] | None = None  # rows of a tile, where a head has up to so many
    most_group: Positive | None = None  # query heads of a key head that it takes
    dependent_loads: NonNegative = 0  # round trips in each iteration that only other blocks of the SM hide, to DRAM
    keys_from_l2: bool = False  # or to L2, as blocks of a head read the same keys
    rotates: bool = False  # a step's queries and keys, and stores the new ones
    appends_keys: bool = False  # a block first copies into the cache the new keys and values that it walks over
    splits_keys: bool = False
    combines_afterwards: bool = False  # by a kernel that loads nothing before all parts are stored
    always_combines: bool = False  # parts of one are written and combined, too
    sums_itself: NonNegative = 0  # rows up to which its last block sums up the parts, and no kernel of its own does
    for_windows: bool = True  # False: a configured window takes a path that neither packs nor splits
    most_splits: Positive = 128
    splits_fully: NonNegative = 0  # calls of up to as many sequences have the most parts, also those without keys
    split_share: Fraction = 0.0  # the fewest parts that fill rounds of blocks to this share of what any number does
    split_blocks_per_sm: Positive = 2  # of such a round, whatever fits
    split_load: PositiveFloat | None = None  # keys are split into parts of so many times an SM's share of all key tiles
    uncut_tiles: NonNegative = 0  # of a block that has no more of them, keys stay together
    split_waves: Positive | None = None  # keys are split until there are this many waves of blocks; None: one, if that
    keys_per_split: Positive = 1  # at least
    split_doublings_of: Positive | None = None  # waves are as many as the keys are doublings of it, one at least
    multiplies_in_cache_type: bool = False  # an 8-bit cache makes 8-bit products, whatever the queries' type
    absorbed: bool = False  # one latent key for all heads, in every phase
    on_fp32_units: bool = False  # multiplies element by element, without tensor cores
    converts_cache: bool = False  # a cache narrower than the products' type, element by element
    converting_instructions: PositiveFloat | None = None  # of such an element, in slots of a lane; None: calibrated
    fetches_lines: bool = False  # of L2, whole, though heads lie side by side in them
    merges_warps: bool = False  # warps divide the keys of a tile whose rows one of them holds, else its rows
    warps_divide_keys: bool = False  # with mma.sync, in every tile; sums are made in place
    adds_apart: bool = False  # 8-bit products with values are summed tile by tile, each sum added to those before
    transposes_values: bool = False  # 8-bit values, element by element
    most_value_columns: Positive | None = None  # of one block; for more, several blocks each multiply queries and keys
    stores_scores: bool = False  # scores and weights pass by DRAM (unfused)
    extra_kernels: NonNegative = 0  # launched beside it in every call
    block_sparse_factor: PositiveFloat = BLOCK_SPARSE_FACTOR
    preference: NonNegative = 100  # `kernel: auto` takes the lowest that runs

    @model_validator(mode="after")
    def _tiles_ascend(self) -> Self:
        dims = [tile.head_dim for tile in self.tiles]
        if not dims or dims != sorted(dims):
            raise ValueError("tiles must be given, and ascend in head_dim")
        return self

    def tiles_on(self, generation: Generation, causal: bool, operand_bytes: float, rows: float = inf) -> Tiles:
        """One per head dimension, ascending: the first that holds."""
        found: dict[int, Tile] = {}
        for tile in self.tiles:
            known = tile.generations is None or generation in tile.generations
            fits = tile.bytes in (None, operand_bytes) and rows <= (tile.most_rows or inf)
            if known and fits and tile.causal in (None, causal):
                found.setdefault(tile.head_dim, tile)
        return tuple(found.values())

    def largest_head_dim(self, generation: Generation, dtype: Dtype) -> int:
        return max((tile.head_dim for tile in self.tiles_on(generation, False, DTYPE_BYTES[dtype])), default=0)

    def problem(
        self, device: Device, phase: KernelPhase, head_dim: int, dtype: Dtype, group: int = 1,
        cache: Dtype | None = None,
    ) -> str | None:  # fmt: skip
        """Why it does not run there; None where it does. `cache`: type of keys and values, None: like the queries."""
        if device.generation not in self.generations:
            return f"does not run on {device.device} ({device.generation}); it runs on {', '.join(self.generations)}"
        if phase not in self.phases:
            return f"does no {phase}; it does {', '.join(self.phases)}"
        if dtype not in self.dtypes:
            return f"takes no {dtype}; it takes {', '.join(self.dtypes)}"
        largest = self.largest_head_dim(device.generation, dtype)
        if head_dim > largest:
            return f"takes head dimensions up to {largest}, got {head_dim}"
        if self.most_group is not None and group > self.most_group:
            return f"takes up to {self.most_group} query heads of a key head, got {group}"
        if cache in (None, dtype):
            return None
        # 8-bit floats beside 16-bit queries are what decode kernels take; each multiplies or converts them
        takes = "fp8" in self.dtypes or self.converts_cache or self.on_fp32_units
        if not takes or cache != "fp8" or dtype not in ("bf16", "fp16"):
            return f"reads no cache in {cache} beside queries in {dtype}; types.kv: {dtype}{' or fp8' * takes}"
        if self.multiplies_in_cache_type and cache not in device.sm.tensor_flop_per_clock.known:
            return f"multiplies a cache in {cache} as it is, which {device.device} cannot"
        return None


@cache
def kernels() -> Mapping[str, Kernel]:
    """Name -> kernel, of every file."""
    paths = sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in LIBRARIES)
    return {path.stem: validate(Kernel, read_yaml(path), path.name) for path in paths}


def load_kernel(name: str) -> Kernel:
    if name not in kernels():
        raise UnknownNameError("kernel", name, kernels())
    return kernels()[name]


def text_on(device: Device) -> Text:
    """What its attention kernels compute: `unfused` where the one that is asked for stores scores, or all known do."""
    asked = [load_kernel(device.kernel)] if device.kernel != "auto" else kernels().values()
    fused = any(device.generation in kernel.generations and not kernel.stores_scores for kernel in asked)
    return "fused" if fused else "unfused"


@dataclass(frozen=True)
class Asked:
    """What a kernel must take. `cache`: type of keys and values; `stores_scores`: what the text does."""

    phase: KernelPhase
    head_dim: int
    dtype: Dtype
    group: int = 1
    stores_scores: bool = False
    cache: Dtype | None = None


def choose_kernel(device: Device, asked: Asked) -> Kernel:
    """The one the device asks for, or the first that runs. Raises CascadeSimError if none does.

    A kernel that stores scores where the text does not, or the other way round, computes another text.
    """
    if device.kernel != "auto":
        return _named(device, asked)
    found = [kernel for kernel in _running(device, asked) if kernel.stores_scores == asked.stores_scores]
    if not found:
        raise CascadeSimError(_none_runs(device, asked))
    return next(_of_engine(find_engine(device.engine), found, asked.group),
                min(found, key=lambda kernel: kernel.preference))  # fmt: skip


def _of_engine(engine: Engine, running: Sequence[Kernel], group: int) -> Iterator[Kernel]:
    """Those that the engine has, in its order, of what runs."""
    by_name = {kernel.name: kernel for kernel in running}
    for name in engine.kernels:
        if name in by_name and group in engine.groups.get(name, (group,)):
            yield by_name[name]


def _none_runs(device: Device, asked: Asked) -> str:
    """Why: the text, the type of attention, or that of its cache; with what some kernel takes."""
    where = f"{device.device}: no kernel for {asked.phase} with head dimension {asked.head_dim}"
    others = sorted(kernel.name for kernel in _running(device, asked))
    if others:
        text = KERNELS["fused" if asked.stores_scores else "unfused"].name
        kept = "keeps scores on the chip (none of its libraries' is known to us)"
        way = "stores scores" if asked.stores_scores else kept
        return f"{where} in {asked.dtype} that {way}; {others[0]} computes {text}"
    known = [one for one in get_args(Dtype) if any(_running(device, replace(asked, dtype=one, cache=None)))]
    if asked.dtype not in known:
        allowed = f"; types.attention (and types.kv): {' or '.join(known)}" if known else ""
        return f"{where} multiplies {asked.dtype}{allowed}"
    caches = [one for one in get_args(Dtype) if any(_running(device, replace(asked, cache=one)))]
    return (f"{where} reads a KV cache in {asked.cache} beside attention in {asked.dtype}; "
            f"types.kv: {' or '.join(caches)}")  # fmt: skip


def _named(device: Device, asked: Asked) -> Kernel:
    """Its sibling where the named kernel does only the other phase."""
    kernel = load_kernel(device.kernel)
    sibling = kernels().get(f"{device.kernel}-{asked.phase}", kernel)
    chosen = sibling if asked.phase not in kernel.phases else kernel
    problem = chosen.problem(device, asked.phase, asked.head_dim, asked.dtype, asked.group, asked.cache)
    if problem is not None:
        raise CascadeSimError(f"kernel {chosen.name} {problem}")
    if chosen.stores_scores != asked.stores_scores:
        stored = (chosen.stores_scores, asked.stores_scores)
        texts = [KERNELS["unfused" if one else "fused"].name for one in stored]
        raise CascadeSimError(f"kernel {chosen.name} computes {texts[0]}, the text does the work of {texts[1]}")
    return chosen


def _running(device: Device, asked: Asked) -> Iterator[Kernel]:
    """`absorbed` kernels share one latent key; an unfused one does any phase."""
    for kernel in kernels().values():
        fits = kernel.absorbed == (asked.phase == "mla") or kernel.stores_scores
        problem = kernel.problem(device, asked.phase, asked.head_dim, asked.dtype, asked.group, asked.cache)
        if fits and problem is None:
            yield kernel


@cache
def kernel_text(cascade: Cascade) -> Text | None:
    """None for a text whose work or passes are those of no kernel: it is fused into kernels of its own (`generic`).

    Raises CascadeSimError for one whose results are repeated or scattered.
    """
    for einsum in cascade.einsums:
        if einsum.scatters or (repeated_ranks(einsum) and not is_first(einsum)):
            raise CascadeSimError(f"not yet: GPU kernels write each result once and in order; {einsum.name} of "
                                  f"{cascade.name} is {'scattered' if einsum.scatters else 'repeated'}")
    own, passes = _work(cascade), all_passes(cascade).get(KEY)
    for text, known in KERNELS.items():
        if own == _work(known) and passes == all_passes(known)[KEY]:
            return text
    return None


def key_tiles(cascade: Cascade) -> tuple[str, ...]:
    """The parts of the keys, outermost first; empty where the text does not tile them."""
    return next((parts for parts in partitions(cascade) if parts[0].startswith(KEY)), ())


@cache
def _work(cascade: Cascade) -> Mapping[tuple[frozenset[str], str], int]:
    """(ranks, operation class) -> operations of a point, under whatever conditions: the mask counts the points.

    Ranks are those of an Einsum: keys, or tiles of them, queries, elements.
    """
    parts = key_tiles(cascade)
    names = {**dict.fromkeys(parts[:-1], TILE), **dict.fromkeys(parts[-1:], KEY)}
    found: Counter[tuple[frozenset[str], str]] = Counter()
    for einsum in cascade.einsums:
        for charge in charges(einsum):
            ranks = frozenset(names.get(rank, rank) for rank in charge.ranks)
            place = ranks - {TILE} if KEY in ranks else ranks
            found.update({(place, name): count for name, count in charge.operations.items()})
    return {work: count for work, count in found.items() if count}
