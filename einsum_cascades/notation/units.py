"""Quantities as people write them (`8MiB`, `6.7TB/s`, `1.83GHz`, `6.7e12`), for fields whose names say their unit.

A field's last name ends in its unit (`dram_bytes_per_s`), and its number is in that unit. Prefixes are decimal (k, M,
G, T, P; m, u, n, p) or binary (Ki, Mi, Gi, Ti, Pi). A length in tokens takes K and M, which are powers of 1024.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened

UNITS: Mapping[str, str] = {  # end of a field's name, the longest first -> its unit
    "bytes_per_cycle": "B/cycle", "bytes_per_clock": "B/clock", "bytes_per_s": "B/s", "bytes": "B",
    "pj_per_bit": "pJ/bit", "tflops": "TFLOPS", "mm2": "mm2", "hz": "Hz", "length": "tokens", "context": "tokens",
    "w": "W", "s": "s",
}  # fmt: skip
_BINARY = {f"{letter}i": Fraction(2) ** (10 * power) for power, letter in enumerate("KMGTP", start=1)}
_DECIMAL = {letter: Fraction(10) ** (3 * power) for power, letter in enumerate("kMGTP", start=1)}
_SMALL = {letter: Fraction(1, 10 ** (3 * power)) for power, letter in enumerate("munp", start=1)}
_OF_BYTES = {**_BINARY, **_DECIMAL, "K": Fraction(1000)}
_PREFIXES: Mapping[str, Mapping[str, Fraction]] = {
    "B": _OF_BYTES, "B/s": _OF_BYTES, "B/cycle": _OF_BYTES, "B/clock": _OF_BYTES, "Hz": _DECIMAL,
    "W": {**_DECIMAL, **_SMALL}, "s": _SMALL,
}  # fmt: skip
_EXAMPLES = {"B": "8MiB", "B/s": "6.7TB/s", "Hz": "1.83GHz", "s": "5us", "tokens": "64K"}
_TOKENS = {"K": Fraction(2**10), "M": Fraction(2**20)}
_QUANTITY = re.compile(r"([-+]?[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE]([-+]?[0-9]{1,2}))?\s*([A-Za-zµ][A-Za-z0-9µ/]*)?")
_LONGEST = 40  # characters of a number


def unit_of(field: str) -> str | None:
    """The unit that the last name of a dotted field ends in; None where it is no quantity."""
    last = field.rpartition(".")[2]
    return next((unit for end, unit in UNITS.items() if last == end or last.endswith(f"_{end}")), None)


def number_of(text: str, field: str, where: str = "--set ") -> int | float | None:
    """The number that `text` means in the unit of `field`; None where it is no number, or one that YAML reads itself.

    Raises SpecError, which begins with `where`, for a unit that is not the field's.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or len(text) > _LONGEST or not (found[2] or found[3]):
        return None
    digits, exponent, suffix = found.groups()
    value = Fraction(digits.replace("_", "")) * Fraction(10) ** int(exponent or 0)
    unit = unit_of(field)
    if suffix is not None and unit is None:
        return None
    if suffix is not None and unit is not None:
        factor = _factor(suffix, unit)
        if factor is None:
            example = _EXAMPLES.get(unit, f"64{unit}")
            raise SpecError(f"{where}{field}={shortened(text)}: is in {unit}; give a value such as {example}")
        value *= factor
    return int(value) if value.denominator == 1 else float(value)


def _factor(suffix: str, unit: str) -> Fraction | None:
    if unit == "tokens":
        return _TOKENS.get(suffix)
    if not suffix.endswith(unit):
        return None
    prefix = suffix.removesuffix(unit).replace("µ", "u")
    return Fraction(1) if not prefix else _PREFIXES.get(unit, {}).get(prefix)
