"""Numbers as a person reads them: 2.013 ms, 375.0 MiB, 1,892,352. The one place that knows display units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Scale = Sequence[tuple[float, str]]  # (size of the unit, its name), largest first

_SECONDS: Scale = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_JOULES: Scale = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
_BYTES: Scale = tuple(
    (float(2**power), f"{prefix}B") for power, prefix in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki"), (0, ""))
)
_COUNTS: Scale = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_HERTZ: Scale = ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (1.0, "Hz"))


def seconds(latency_s: float) -> str:
    return _scaled(latency_s, _SECONDS)


def joules(energy_j: float) -> str:
    return _scaled(energy_j, _JOULES)


def bytes_of(amount_bytes: float) -> str:
    return _scaled(amount_bytes, _BYTES)


def gigabytes(amount_bytes: float) -> str:
    """Count 10^9 bytes each, as capacities of memory are sold."""
    return f"{amount_bytes / 1e9:,.2f} GB"


def hertz(clock_hz: float) -> str:
    return _scaled(clock_hz, _HERTZ)


def square_millimetres(area_um2: float) -> str:
    return f"{area_um2 * 1e-6:,.1f} mm²"


def count(amount: float) -> str:
    """Write a metric prefix: 805 G."""
    return _scaled(amount, _COUNTS).strip()


def whole(amount: float) -> str:
    return f"{round(amount):,}"


def rate(per_second: float) -> str:
    """Keep three significant digits of a rate below 100: 0.4 tokens/s is not 0."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def shares(by_component: Mapping[str, float], most: int = 3) -> str:
    """Name the largest components with their part of the sum: 61% mac_2d, 20% dram, 9% registers_2d."""
    total = sum(by_component.values())
    largest = sorted(by_component.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{amount / total:.0%} {name}" for name, amount in largest if amount > 0)


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def error(relative: float) -> str:
    """Keep two significant digits: an error of 0.045% is not 0.0%."""
    return f"{100 * relative:.2g}%"


def length(tokens: int) -> str:
    """Write a length as `--seq-len` takes it: 4096 is 4K, powers of 1024."""
    for factor, suffix in ((2**20, "M"), (2**10, "K")):
        if tokens >= factor and tokens % factor == 0:
            return f"{tokens // factor}{suffix}"
    return str(tokens)


def _scaled(amount: float, scale: Scale) -> str:
    """Write `amount` in the largest unit in which it is at least 1, with four significant digits."""
    size, name = next((unit for unit in scale if abs(amount) >= unit[0]), scale[-1])
    value = amount / size
    digits = max(0, 3 - len(str(int(abs(value)))) + 1) if value != int(value) else 0
    return f"{value:,.{digits}f} {name}"
