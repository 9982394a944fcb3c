"""How long a neighborhood kernel takes on a device: visited tiles, full and masked ones priced apart, in CTA waves.

    time = waves x mean over query tiles of (full + masked x masked_cost + overhead) x time of one full tile per SM

Three constants per device, derived from three published kernel times each (below; `validate` scores the others).
The counts come from `neighborhood`, dense attention from the model of the device; one without constants has no
prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import checked
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.sparsity.neighborhood import Neighborhood
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS
from cascadesim.simulator.gna.neighborhood import Question
from cascadesim.simulator.gna.shapes import BACKENDS, Backend

FLOPS_PER_PAIR = 4  # two products of the head dimension, a multiply and an add each


@dataclass(frozen=True)
class Device:
    """What the model needs to know of a GPU running NATTEN's kernel of its generation.

    `tile_flops_per_s`: rate of the tensor cores over full tiles, all SMs together. `overhead_tiles`: start and end of
    a query tile (its queries in, the first keys' latency, its output) in units of a full tile. `masked_cost`: time of
    a masked tile over that of a full one. `copy_bytes_per_s`: token permutation by the framework's copies.
    """

    name: str
    backend: str
    streaming_multiprocessors: int
    tile_flops_per_s: float
    overhead_tiles: float
    masked_cost: float
    copy_bytes_per_s: float

    @property
    def kernels(self) -> Backend:
        return BACKENDS[self.backend]


# Derived from the kernel times in NATTEN's documentation (docs/profiler.md, sample output of v0.20-0.21), head
# dimension 128, fp16: rate and overhead from FLUX 256x256, window 80x80, stride 16x16 and from one-dimensional
# 32K, window 2048, stride 256 (nothing masked: two equations); masked_cost from FLUX at stride 1x1 (all masked).
# H100: 7.914 ms, 62.687 us, 16.201 ms. B200: 4.114 ms, 37.888 us, 8.692 ms. `tests/simulator` repeats the derivation.
# copy_bytes_per_s: FLUX and HunyuanVideo permutations of the same source, 1.0-1.3 and 1.06-1.42 TB/s, middle.
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device("h100-sxm", "hopper-fna", 132, 712.4e12, 4.165, 1.566, 1.15e12),
        Device("b200", "blackwell-fna", 148, 1405.5e12, 5.447, 1.540, 1.24e12),
    )
}


@dataclass(frozen=True)
class Prediction:
    """Times of one attention operation, forward. `dense_s`: dense attention on the device, as `simulate` has it."""

    device: str
    kernel_s: float
    permute_s: float
    dense_s: float

    @property
    def total_s(self) -> float:
        return self.kernel_s + self.permute_s

    @property
    def kernel_speedup(self) -> float:
        return self.dense_s / self.kernel_s

    @property
    def speedup(self) -> float:
        """With the token permutation before and after."""
        return self.dense_s / self.total_s


def device(name: str) -> Device:
    """Raises UnknownNameError for a device without constants."""
    if name not in DEVICES:
        raise UnknownNameError("device with neighborhood constants", name, DEVICES)
    return DEVICES[name]


def predict(
    question: Question, on: Device, heads: int = 24, head_dim: int = 128, batch: int = 1, element_bytes: int = 2,
    layers_per_permutation: int = 1,
) -> Prediction:
    """One attention of `batch` x `heads` heads with the tiles of the question.

    `layers_per_permutation`: layers that work on tokens in tile order between one permutation and its inverse. They
    must share tiles and dilation and treat tokens alike; positions in rotary embeddings are permuted once, too.
    """
    permute_bytes = permuted_bytes(question, heads, head_dim, batch, element_bytes)
    tokens = question.pattern.tokens
    return Prediction(
        on.name,
        kernel_s(question, on, heads, head_dim, batch),
        permute_bytes / on.copy_bytes_per_s / layers_per_permutation if on.kernels.permutes else 0.0,
        dense_s(on.name, tokens, tokens + question.extra_keys, heads, head_dim, batch),
    )


@lru_cache(maxsize=4096)
def dense_s(device_name: str, queries: int, keys: int, heads: int, head_dim: int, batch: int) -> float:
    """Dense attention by the kernel that the model of the device takes: the closed form of `simulate`, 16 bits."""
    accelerator = catalogue.load(device_name)
    sizes = {"b": batch, "h": heads, "g": 1, "m": keys, "p": queries, "e": head_dim, "f": head_dim}
    operation = Operation("dense attention", "attention", ATTENTION_1PASS, tuple(sizes.items()))
    plan = checked(accelerator.plan(operation, "physical"), accelerator)
    return sum(phase.analytical_cycles for phase in plan.phases) / accelerator.clock_hz


def kernel_s(question: Question, on: Device, heads: int, head_dim: int, batch: int) -> float:
    visits = question.visits(on.kernels.mode)
    extra = question.extra_key_tiles
    masked_all = on.kernels.masks_all and not question.block_sparse
    masked = visits.total if masked_all else visits.partial
    per_query_tile = (visits.total - masked + masked * on.masked_cost) / visits.query_tiles + extra + on.overhead_tiles
    tiles = question.tiles
    rate = on.tile_flops_per_s / on.streaming_multiprocessors
    tile_s = FLOPS_PER_PAIR * tiles.queries * tiles.keys * head_dim / rate
    waves = ceil(visits.query_tiles * heads * batch / on.streaming_multiprocessors)
    return waves * per_query_tile * tile_s


def permuted_bytes(question: Question, heads: int, head_dim: int, batch: int, element_bytes: int) -> int:
    """Q, K and V into tile order, O back: each read once and written once; padding is written (spec: 8 N H D e)."""
    pattern = question.pattern
    if len(pattern.layout) == 1 and pattern.dilation == (1,):
        return 0  # already in order
    padded_queries, padded_keys = (_padded(pattern, shape) for shape in (question.tiles.query, question.tiles.key))
    tokens = pattern.tokens
    moved = (tokens + padded_queries) + 2 * (tokens + padded_keys) + (padded_queries + tokens)
    return element_bytes * batch * heads * head_dim * moved


def _padded(pattern: Neighborhood, tile: Sequence[int]) -> int:
    """Tokens of the layout when every dilation group is filled up to whole tiles."""
    axes = zip(pattern.axes, tile, strict=True)
    return prod(axis.dilation * -(-axis.longest_group // size) * size for axis, size in axes)


def end_to_end(speedup: float, attention_share: float, sparse_steps: int = 1, steps: int = 1) -> float:
    """Amdahl: `attention_share` of the run is attention, of which `sparse_steps` of `steps` are `speedup` faster."""
    changed = attention_share * sparse_steps / steps
    return 1 / (1 - changed + changed / speedup)


def end_to_end_layers(speedups: Sequence[tuple[float, int]], attention_share: float) -> float:
    """Several layers with patterns of their own: (speedup, layers) pairs that share the attention time equally."""
    layers = sum(count for _, count in speedups)
    return 1 / (1 - attention_share + attention_share / layers * sum(count / speedup for speedup, count in speedups))
