"""A figure as printed (value, unit) as numbers: quantity, SI value, and how far the print or the reading goes.

A value is one number, a range (its middle, half of it), or a pair whose unit says which is which ("x attention / e2e").
What a unit means stands in `cleaning.yaml`. Formulas and texts without a number are no figures. Knows no configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import NamedTuple, cast

from cascadesim.einsum_cascades.notation.errors import shortened
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.table import CannotJudge

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:e[+-]?[0-9]{1,2})?"
_ONE = re.compile(rf"(?P<about>~|>=?|<=?|up to )? ?(?P<number>{_NUMBER})(?P<suffix>[KM]?)")
_RANGE = re.compile(rf"(?P<low>{_NUMBER}) ?(?:-|–| to )(?P<high>{_NUMBER})")
_LABELS = re.compile(r"(\w+) / (\w+)")
_SUFFIXES = {"": 1, "K": 1000, "M": 1_000_000}
# "+-0.15", "+-2 % to 64K, +-15 % above"
_READING = re.compile(r"\+-([0-9]{1,9}(?:\.[0-9]{1,9})?)( %| pixel)?(?: to ([0-9]{1,6})K)?")
# FlashMoBA's picture, as the collection says: one pixel is 1 % to 20 % at 8K
PIXEL_SHARES = ((8192, Decimal("0.2")), (None, Decimal("0.01")))


@dataclass(frozen=True)
class Figure:
    """`value` and `half_width` in units of `quantity`; `part`: which one of a pair; `single`: printed as one number."""

    quantity: str
    value: float
    half_width: float
    part: str = ""
    single: bool = True


class _Meaning(NamedTuple):
    """What a unit means: the quantity, and how a printed number becomes one of it."""

    quantity: str
    form: str
    factor: Decimal


@cache
def tables() -> Mapping[str, Sequence[Sequence[str]]]:
    """`cleaning.yaml`."""
    file = resources.files("cascadesim.validation.systems").joinpath("cleaning.yaml")
    content = parse_yaml(file.read_text(encoding="utf-8"), file.name)
    return cast("Mapping[str, Sequence[Sequence[str]]]", content)


def figures(value: str, unit: str, kind: str, reading: Decimal | None = None) -> tuple[Figure, ...]:
    """What is printed as `value` of `unit`; `kind`: system and quantity as the file names them ("SALE: latency_ms").

    `reading`: how far a picture was read, a share of the value. Raises CannotJudge where there is no number, or the
    unit is none that we know.
    """
    measured = [_measured(one) for one in value.split(" / ", 1)]
    meaning = _meaning(f"{kind}: {unit}")
    if len(measured) == 1:
        ((middle, half),) = measured
        single = re.fullmatch(_NUMBER, value) is not None
        return (_figure(meaning, middle, half if reading is None else reading * middle, "", single),)
    labels = _LABELS.search(unit)
    if labels is None:
        raise CannotJudge(f"a pair, and its unit does not say which is which: {shortened(value)}")
    return tuple(_figure(meaning, *each, part, False) for each, part in zip(measured, labels.groups(), strict=True))


def _meaning(text: str) -> _Meaning:
    """What a unit means. Raises CannotJudge for one that is not in the table."""
    for pattern, quantity, form, factor in tables()["units"]:
        if found := re.search(pattern, text):
            if quantity == "dropped":
                raise CannotJudge(form)
            whole = Decimal(found.group(1) if found.groups() else 1)
            if not whole:
                raise CannotJudge(f"a share of nothing: {shortened(text)}")
            return _Meaning(quantity, form, Decimal(factor) / whole)
    raise CannotJudge(f"no unit that is known: {shortened(text)}")


def _measured(text: str) -> tuple[Decimal, Decimal]:
    """(middle, half-width) of a number or a range as printed: half of the last digit, half of the range."""
    plain = text.strip().replace(",", "")
    if span := _RANGE.fullmatch(plain):
        low, high = Decimal(span["low"]), Decimal(span["high"])
        return (low + high) / 2, abs(high - low) / 2
    one = _ONE.fullmatch(plain)
    if one is None:
        raise CannotJudge(f"no number: {shortened(text)}")
    number, scale = Decimal(one["number"]), _SUFFIXES[one["suffix"]]
    return number * scale, Decimal(5).scaleb(cast("int", number.as_tuple().exponent) - 1) * scale


def _figure(meaning: _Meaning, middle: Decimal, half: Decimal, part: str, single: bool) -> Figure:
    """The figure in units of its quantity. Raises CannotJudge for a share above all or an inverse of nothing."""
    value, width = meaning.factor * middle, meaning.factor * half
    if meaning.form == "inverse":
        if not middle:
            raise CannotJudge("an inverse of 0")
        value, width = meaning.factor / middle, meaning.factor * half / middle**2
    elif meaning.form != "times":
        value = 1 + value if meaning.form == "more" else 1 - value
    if value < 0:
        raise CannotJudge(f"no {meaning.quantity} of {float(value):g}")
    return Figure(meaning.quantity, float(f"{value:.12g}"), float(f"{width:.4g}"), part, single)


def reading_error(text: str, length: int | None, value: Decimal) -> Decimal | None:
    """How far a figure is read from a picture, as a share of it, where `text` says so; `length` in tokens."""
    for amount, kind, limit in _READING.findall(text):
        if kind != " pixel" and (not limit or (length or 0) <= int(limit) * 1024):
            return Decimal(amount) / 100 if kind else Decimal(amount) / value
    shares = (share for limit, share in PIXEL_SHARES if limit is None or (length or 0) <= limit)
    return next(shares) if "pixel" in text else None
