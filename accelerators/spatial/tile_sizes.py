"""Which sizes of a tile are worth trying: an array may leave rows, columns and lanes idle.

The sizes do not depend on the array, which only says how large they may be: whatever a small array can do, a larger
one can.
"""

from __future__ import annotations

from functools import lru_cache

_FINE = 64  # every size up to it, then 32 to the octave: what lies between wastes at most a 33rd
_FEWEST_TILES = 64  # every size that cuts the extent into as many equal tiles or fewer
_COARSE = (2, 3)  # powers of two, and three times them
_FEWEST_COARSE_TILES = 4


@lru_cache(maxsize=4096)
def tile_sizes(side: int, extent: int) -> tuple[int, ...]:
    """Of `extent` coordinates over at most `side` elements, largest first; no tile is longer than the extent."""
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, _FEWEST_TILES + 1)}
    return tuple(sorted({size for size in {*few, *_fine(most)} if size <= most}, reverse=True))


@lru_cache(maxsize=4096)
def coarse_sizes(side: int, extent: int) -> tuple[int, ...]:
    """Some of `tile_sizes`, where trying one is not cheap: two to the octave, and few equal tiles."""
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, _FEWEST_COARSE_TILES + 1)}
    octaves = {start << power for start in (1, *_COARSE) for power in range(most.bit_length() + 1)}
    return tuple(sorted({size for size in few | octaves if size <= most}, reverse=True))


def _fine(most: int) -> set[int]:
    shifts = range(max(0, most.bit_length() - _FINE.bit_length() + 1) + 1)
    return {step << shift for shift in shifts for step in range(1, _FINE + 1) if step << shift <= most}
