"""Which keys the harness of the public RTL fetches: the initial content of its score buffer, line by line."""

from __future__ import annotations

from functools import lru_cache

from cascadesim.accelerators.spatten.randomness import JavaRandom


@lru_cache(maxsize=256)
def gathered_keys(keys: int, fetch_channels: int, largest_key: int, seed: int = 1) -> tuple[int, ...]:
    """The first `keys` of them, and those that fill their last line."""
    lines = index_lines(fetch_channels, largest_key, -(-keys // fetch_channels), seed)
    return tuple(key for line in lines for key in line)


def index_lines(fetch_channels: int, largest_key: int, lines: int, seed: int = 1) -> tuple[tuple[int, ...], ...]:
    """Line i: `fetch_channels` of the 2 x `fetch_channels` keys from i x `fetch_channels` on, shuffled and sorted.

    About half of a window, windows overlapping by half; key numbers wrap at `largest_key`.
    """
    draw = JavaRandom(seed)
    return tuple(_line(fetch_channels, largest_key, line, draw) for line in range(lines))


def _line(fetch_channels: int, largest_key: int, line: int, draw: JavaRandom) -> tuple[int, ...]:
    window = list(range(2 * fetch_channels))
    for count in range(len(window), 1, -1):  # scala.util.Random.shuffle: from the end
        chosen = draw.below(count)
        window[count - 1], window[chosen] = window[chosen], window[count - 1]
    return tuple((key + line * fetch_channels) % largest_key for key in sorted(window[:fetch_channels]))
