"""What a table of published figures may look like: its columns, their other spellings, and which rows are the same.

Knows the names that the FuseMax artifact uses for our columns, models and architectures, so that its files read as
ours do. It reads no file (`table`) and knows no claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cascadesim.einsum_cascades.notation.errors import shortened, suggestion

Value: TypeAlias = str | int | float | None
Parse: TypeAlias = Callable[[str], str | int | float]

LARGEST_COUNT = 2**40  # no count of a published figure comes near; products of several stay honest numbers
LENGTH_SUFFIXES = {"K": 1024, "M": 1024**2}  # FuseMax artifact: 1K = 1024


def length(text: str) -> int:
    """`4096`, `64K` or `1M` as a count of positions."""
    suffix = text[-1:].upper()
    digits, factor = (text[:-1], LENGTH_SUFFIXES[suffix]) if suffix in LENGTH_SUFFIXES else (text, 1)
    return count(digits, "a length such as 4096, 64K or 1M", text) * factor


def count(text: str, expected: str = "a positive whole number", given: str | None = None) -> int:
    if not (text.isascii() and text.isdigit()) or text.strip("0") == "":
        raise ValueError(f"expected {expected}, got '{shortened(given or text)}'")
    if len(text) > 18 or int(text) > LARGEST_COUNT:
        raise ValueError(f"expected {expected}, of at most 2^40, got '{shortened(given or text)}'")
    return int(text)


def whole(text: str, expected: str = "a whole number of at least 0") -> int:
    return 0 if text == "0" else count(text, expected)


def positive(text: str) -> float:
    value = not_negative(text)
    if value == 0:
        raise ValueError("expected a number above 0, got 0")
    return value


def not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got '{shortened(text)}'") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a finite number of at least 0, got '{shortened(text)}'")
    return value


def fraction(text: str) -> float:
    """Reads a share between 0 and 1; published ones exceed 1 by a last bit."""
    value = not_negative(text)
    if value > 1 + 1e-9:
        raise ValueError(f"expected a share between 0 and 1, got '{shortened(text)}'")
    return value


def one_of(what: str, known: Mapping[str, str]) -> Parse:
    """A name in its own or in a published spelling (`known`: lower-case spelling -> our name)."""

    def parse(text: str) -> str:
        name = known.get(text.lower().removeprefix("+"))
        if name is None:
            raise ValueError(f"no {what} '{shortened(text)}'{suggestion(text.lower(), known)}")
        return name

    return parse


@dataclass(frozen=True, slots=True)
class Column:
    """One column: our name, how a cell reads, and the names other files give it."""

    name: str
    parse: Parse
    aliases: tuple[str, ...] = ()
    required: bool = True


def columns_of(parse: Parse, names: str, required: bool = True) -> tuple[Column, ...]:
    """Columns that read alike; their names separated by spaces."""
    return tuple(Column(name, parse, required=required) for name in names.split())


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a suite's data and the ones that tell its rows apart.

    `from_source`: a required column that a file may leave out when its name, or the source its comments cite,
    says the value (the artifact has one file per configuration).
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    from_source: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)

    def named(self, header: str) -> Column | None:
        """The column that `header` spells, our name first."""
        spelt = header.strip().lower()
        for column in self.columns:
            if spelt == column.name.lower() or spelt in (alias.lower() for alias in column.aliases):
                return column
        return None
