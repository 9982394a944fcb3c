"""Attention maps become a pruning trace: which tokens and heads each layer keeps, which queries fetch low bits.

SpAtten (HPCA'21), section III: importance of a token is the sum of its probabilities over heads, queries, layers and
generated tokens; importance of a head the magnitude of its output over queries, layers and generated tokens. The most
important stay, in their own order, the lower index of equal ones; within an iteration what is dropped never returns,
and what the first layer has dropped never does. How many stay is the schedule's business. Maps are a user's arrays in
files. Knows no hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened
from cascadesim.einsum_cascades.notation.schema import read_arrays
from cascadesim.einsum_cascades.sparsity.pruning_schedules import LOW_BITS, PruningSchedule, kept
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Importance: TypeAlias = tuple[Floats, Floats]  # how much tokens and heads have mattered so far, dropped ones included
_ONE = 1e-2  # how far rows of probabilities may be from summing to one: those of half-precision maps are


@dataclass(frozen=True)
class LayerPruning:
    """What one layer of one iteration ran on. `flat[head, query]`: no probability reached the threshold."""

    tokens: Whole
    heads: Whole
    values: int  # rows of V fetched by each query of each head
    flat: NDArray[np.bool_]


@dataclass(frozen=True)
class PrunedIteration:
    """All layers over `length` tokens; `kept`: tokens chosen after the last layer for the next iteration's first."""

    length: int
    layers: tuple[LayerPruning, ...]
    kept: int | None = None


def survivors(importance: Floats, candidates: Whole, keep: int) -> Whole:
    """The `keep` most important candidates, ascending; of equal ones the lower."""
    order = np.argsort(-importance[candidates], kind="stable")[:keep]
    return np.sort(candidates[order])


def kept_values(probabilities: Floats, keep: int) -> Whole:
    """Local value pruning: the `keep` most probable keys of each head and query, ascending, as [head, query, key]."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")[..., :keep]
    return np.sort(order, axis=-1)


def flat_queries(probabilities: Floats, threshold: float | None) -> NDArray[np.bool_]:
    """Progressive quantization: queries whose largest probability, from the first bits, is below the threshold."""
    largest = probabilities.max(axis=-1)
    return np.zeros(largest.shape, dtype=np.bool_) if threshold is None else largest < threshold


def prune_encoder(maps: ArrayLike, schedule: PruningSchedule, outputs: ArrayLike | None = None) -> PrunedIteration:
    """Prunes by maps P[layer, head, query, key] of the unpruned model: dropped tokens are neither keys nor queries.

    Rows are normalised again over the kept keys, which is softmax over them. Outputs O[layer, head, query, f] are
    needed where the schedule prunes heads. Raises CascadeSimError for arrays that are no such maps.
    """
    given = _maps(maps, schedule, 4)
    if given.shape[2] != given.shape[3]:
        raise CascadeSimError(f"maps of an encoder need as many queries as keys, got {given.shape[2:]}")
    if schedule.token_keep[0] < 1:
        raise CascadeSimError(f"pruning schedule {schedule.name} drops tokens before the first layer of an encoder, "
                              f"which has nothing to choose by")
    nothing = np.zeros(given.shape[3]), np.zeros(given.shape[1])
    return _iteration(given, _outputs(outputs, given, schedule), schedule, np.arange(given.shape[3]), nothing, False)[0]


def prune_generation(
    maps: Sequence[ArrayLike], schedule: PruningSchedule, outputs: Sequence[ArrayLike] | None = None
) -> tuple[PrunedIteration, ...]:
    """Prunes by one map P[layer, head, key] (and output O[layer, head, f]) per generated token, each a key longer.

    The first token sees all keys. What is chosen after its last layer is what the next one's first layer sees.
    """
    if not maps:
        raise CascadeSimError("no maps: one P[layer, head, key] is needed for each generated token")
    found: list[PrunedIteration] = []
    candidates: Whole = np.arange(0)
    importance: Importance = np.zeros(0), np.zeros(schedule.heads[0])
    for number, each in enumerate(maps):
        given = _maps(each, schedule, 3)[:, :, None, :]
        known, length = importance[0].size, given.shape[3]
        if length <= known:
            raise CascadeSimError(f"map {number} has {length} keys, no more than the {known} of the one before")
        own = None if outputs is None else np.asarray(outputs[number], dtype=np.float64)[:, :, None, :]
        candidates = np.concatenate([candidates, np.arange(known, length)])
        grown = np.concatenate([importance[0], np.zeros(length - known)]), importance[1]  # new tokens: by nobody yet
        iteration, importance, candidates = _iteration(
            given, _outputs(own, given, schedule), schedule, candidates, grown, first=not found
        )
        found.append(iteration)
    return tuple(found)


def _iteration(
    maps: Floats, outputs: Floats | None, schedule: PruningSchedule, tokens: Whole, importance: Importance, first: bool
) -> tuple[PrunedIteration, Importance, Whole]:
    """One walk over the layers; also the importance after it and the tokens that the next one's first layer sees."""
    length, candidates = maps.shape[3], tokens
    of_tokens, of_heads = (each.copy() for each in importance)
    heads: Whole = np.arange(maps.shape[1])
    layers: list[LayerPruning] = []
    for layer in range(schedule.layers):
        if not first:
            tokens = survivors(of_tokens, tokens, schedule.tokens(layer, length))
        heads = survivors(of_heads, heads, schedule.heads[layer])
        queries = tokens if maps.shape[2] > 1 else np.arange(maps.shape[2])
        chosen = maps[layer][np.ix_(heads, queries, tokens)]
        total = chosen.sum(axis=-1, keepdims=True)  # rows sum to one again; a row of nothing is spread evenly
        probabilities = np.divide(chosen, total, out=np.full_like(chosen, 1 / tokens.size), where=total > 0)
        of_all = min(tokens.size, kept(schedule.value_keep, schedule.base or tokens.size))
        values = of_all if first else schedule.values(layer, length)
        layers.append(LayerPruning(tokens, heads, values, flat_queries(probabilities, schedule.threshold)))
        of_tokens[tokens] += probabilities.sum(axis=(0, 1))
        if outputs is not None:
            of_heads[heads] += np.abs(outputs[layer][np.ix_(heads, queries)]).sum(axis=(1, 2))
    following = survivors(of_tokens, candidates, schedule.tokens(0, length))
    pruned = schedule.token_keep[0] < 1
    return PrunedIteration(length, tuple(layers), following.size if pruned else None), (of_tokens, of_heads), following


def _maps(maps: ArrayLike, schedule: PruningSchedule, dimensions: int) -> Floats:
    given = np.asarray(maps, dtype=np.float64)
    if given.ndim != dimensions or 0 in given.shape:
        raise CascadeSimError(f"maps need {dimensions} dimensions, none of them empty, got shape {given.shape}")
    if given.shape[0] != schedule.layers:
        raise CascadeSimError(f"maps of {given.shape[0]} layers, pruning schedule {schedule.name} has "
                              f"{schedule.layers}")
    if given.shape[1] != schedule.heads[0]:
        raise CascadeSimError(f"maps of {given.shape[1]} heads, pruning schedule {schedule.name} begins with "
                              f"{schedule.heads[0]}")
    sums = given.sum(axis=-1)
    if not (np.all(given >= 0) and np.all(np.abs(sums - 1) < _ONE)):
        raise CascadeSimError("maps hold probabilities: none below 0, each row sums to 1")
    return given


def _outputs(outputs: ArrayLike | None, maps: Floats, schedule: PruningSchedule) -> Floats | None:
    if outputs is None:
        if schedule.heads[-1] < maps.shape[1]:
            raise CascadeSimError(f"pruning schedule {schedule.name} prunes heads by their outputs: none are given")
        return None
    given = np.asarray(outputs, dtype=np.float64)
    if given.ndim != 4 or given.shape[:3] != maps.shape[:3]:
        raise CascadeSimError(f"outputs need the layers, heads and queries of the maps, {maps.shape[:3]}, and a depth; "
                              f"got shape {given.shape}")
    return given


def rows_of(
    iterations: Sequence[PrunedIteration], schedule: PruningSchedule, head_dim: int = 64
) -> tuple[TracedHead, ...]:
    """The trace in rows. One query that needs low bits makes the head fetch them."""
    rows: list[TracedHead] = []
    for number, iteration in enumerate(iterations):
        after = [layer.tokens.size for layer in iteration.layers[1:]]
        for index, layer in enumerate(iteration.layers):
            for head, flat in zip(layer.heads.tolist(), layer.flat, strict=True):
                rows.append(TracedHead(
                    number, index, head, iteration.length, layer.tokens.size, layer.values, schedule.key_bits,
                    schedule.value_bits, schedule.query_bits, head_dim, schedule.threshold, bool(flat.any()),
                    None if schedule.threshold is None else LOW_BITS, queries=flat.size,
                    low_bit_queries=int(flat.sum()) if flat.size > 1 else None,
                ))  # fmt: skip
            fewer = after[index] if index < len(after) and after[index] < layer.tokens.size else None
            rows[-1] = replace(rows[-1], kept=fewer if index < len(after) else iteration.kept)
    return tuple(rows)


@dataclass(frozen=True)
class AttentionMaps:
    """One array an iteration; `outputs` is empty where the file has none. An encoder is one iteration."""

    maps: tuple[Floats, ...]
    outputs: tuple[Floats, ...]
    encoder: bool

    @property
    def layers(self) -> int:
        return int(self.maps[0].shape[0])

    @property
    def heads(self) -> int:
        return int(self.maps[0].shape[1])

    def pruned(self, schedule: PruningSchedule) -> tuple[PrunedIteration, ...]:
        """Raises CascadeSimError where the schedule is of another model."""
        outputs = self.outputs or None
        if self.encoder:
            return (prune_encoder(self.maps[0], schedule, outputs and outputs[0]),)
        return prune_generation(self.maps, schedule, outputs)


def read_maps(path: Path | str) -> AttentionMaps:
    """Attention maps in a file, of an encoder or of generated tokens.

    `.npy`: P[layer, head, query, key] of an encoder. `.npz`: `maps`, and `outputs` O[layer, head, query, f] where heads
    are to be pruned; or, for generated tokens, `maps_0`, `maps_1`, ... P[layer, head, key] and `outputs_0`, ...
    O[layer, head, f]. Raises SpecError if the file cannot be read or holds other arrays.
    """
    path = Path(path)
    return _maps_of({name or "maps": array for name, array in read_arrays(path).items()}, path.name)


def _maps_of(arrays: Mapping[str, NDArray[np.generic]], source: str) -> AttentionMaps:
    encoder = "maps" in arrays
    dimensions = 4 if encoder else 3
    wrong = [name for name, array in arrays.items() if array.dtype.kind not in "fiu" or array.ndim != dimensions]
    if wrong:
        raise SpecError(f"{source}: {shortened(wrong[0])}: expected numbers in {dimensions} dimensions, got shape "
                        f"{arrays[wrong[0]].shape} of {arrays[wrong[0]].dtype}")
    names = [""] if encoder else [f"_{number}" for number in range(len(arrays)) if f"maps_{number}" in arrays]
    expected = {f"{what}{name}" for what in ("maps", "outputs") for name in names}
    if not names or set(arrays) - expected:
        raise SpecError(f"{source}: holds {listed(sorted(arrays)) or 'nothing'}; expected maps and outputs, or "
                        f"maps_0, maps_1, ... and outputs_0, outputs_1, ...")
    outputs = [f"outputs{name}" for name in names if f"outputs{name}" in arrays]
    if outputs and len(outputs) != len(names):
        raise SpecError(f"{source}: outputs are there for {len(outputs)} of {len(names)} iterations")
    return AttentionMaps(tuple(arrays[f"maps{name}"].astype(np.float64) for name in names),
                         tuple(arrays[name].astype(np.float64) for name in outputs), encoder)
