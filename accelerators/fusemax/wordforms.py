"""Words that one attention operation moves, counted once for every extent: the counting engine on symbols.

Which loops the counting leaves out depends only on which of them have a single iteration, so there is one count for
each such pattern. Knows no extents. Full attention only: projections of masked spaces are no products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from cascadesim.accelerators.counting import Accesses, Size
from cascadesim.accelerators.fusemax.actions import PHYSICAL, count
from cascadesim.accelerators.fusemax.linearform import LinearForm
from cascadesim.accelerators.fusemax.mapping import AttentionShape, AttentionTiles
from cascadesim.accelerators.fusemax.nests import Nests, single_loops, with_single_loops
from cascadesim.accelerators.fusemax.placement import DRAM, GLOBAL_BUFFER, Placement

_SIDE = 2  # any size above 1 shows the same pattern


@dataclass(frozen=True)
class WordForms:
    """Words read from DRAM, written to DRAM, and moved at the buffer."""

    dram_read: LinearForm
    dram_write: LinearForm
    buffer: LinearForm


def word_forms(placement: Placement, key_tiles: int, P1: int, P2: int) -> WordForms:
    """Of every operation whose three loops have a single iteration where these numbers are 1."""
    single = single_loops(key_tiles, P1, P2)
    counted = count(Nests(placement, _example(key_tiles, P1, P2), {"e": _SIDE, "f": _SIDE}, _symbols(single)), PHYSICAL)
    dram, buffer = (sum((einsum.level(level) for einsum in counted), Accesses()) for level in (DRAM, GLOBAL_BUFFER))
    return WordForms(_form(dram.reads), _form(dram.writes), _form(buffer.reads + buffer.writes))


def _symbols(single: frozenset[str]) -> Size:
    """Every projection stands for itself."""

    def size(loops: frozenset[str]) -> LinearForm:
        return LinearForm({with_single_loops(loops, single): 1})

    return cast(Size, size)


def _form(words: object) -> LinearForm:
    return words if isinstance(words, LinearForm) else LinearForm()


def _example(key_tiles: int, P1: int, P2: int) -> AttentionTiles:
    shape = AttentionShape(_SIDE, _SIDE * min(P1, 2) * min(P2, 2), _SIDE * min(key_tiles, 2), _SIDE, _SIDE)
    return AttentionTiles(shape, _SIDE, _SIDE, buffer_tiles=min(P1, 2), P1=min(P1, 2), kv_slots=1)
