"""Attention maps in files: what a user brings, of an encoder or of generated tokens, to be pruned into a trace.

`.npy`: P[layer, head, query, key] of an encoder. `.npz`: `maps`, and `outputs` O[layer, head, query, f] where heads are
to be pruned; or, for generated tokens, `maps_0`, `maps_1`, ... P[layer, head, key] and `outputs_0`, ...
O[layer, head, f]. Knows files; what is kept is `pruning`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.array_files import read_arrays
from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened
from cascadesim.einsum_cascades.sparsity.pruning import Iteration, prune_encoder, prune_generation
from cascadesim.einsum_cascades.sparsity.pruning_schedules import Schedule

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionMaps:
    """One array an iteration; `outputs` is empty where the file has none. An encoder is one iteration."""

    maps: tuple[Array, ...]
    outputs: tuple[Array, ...]
    encoder: bool

    @property
    def layers(self) -> int:
        return int(self.maps[0].shape[0])

    @property
    def heads(self) -> int:
        return int(self.maps[0].shape[1])

    def pruned(self, schedule: Schedule) -> tuple[Iteration, ...]:
        """Raises CascadeSimError where the schedule is of another model."""
        outputs = self.outputs or None
        if self.encoder:
            return (prune_encoder(self.maps[0], schedule, outputs and outputs[0]),)
        return prune_generation(self.maps, schedule, outputs)


def read_maps(path: Path | str) -> AttentionMaps:
    """Raises SpecError if a file cannot be read or holds other arrays."""
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
    return AttentionMaps(
        tuple(arrays[f"maps{name}"].astype(np.float64) for name in names),
        tuple(arrays[name].astype(np.float64) for name in outputs),
        encoder,
    )
