"""Command-line text becomes typed values here, once: lists, lengths, choices, settings, file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cascadesim.einsum_cascades.errors import suggestion

LONGEST_SEQUENCE = 2**26  # assumed: beyond every published context length, and still quick to count masks of
LARGEST_BATCH = 2**20  # assumed: beyond any serving batch
_POWERS = {"K": 2**10, "M": 2**20}


class OneOf(click.Choice[str]):
    """A choice that guesses what was meant."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if value in self.choices:
            return str(value)
        self.fail(f"no '{value}'{_guess(str(value), self.choices)}", parameter, context)


def _guess(given: str, known: Sequence[str]) -> str:
    guess = suggestion(given, known)
    return guess if "did you mean" in guess else f"; give one of: {', '.join(known)}"


class Lengths(click.ParamType):
    """`4096`, `64K`, `1M` (powers of 1024), several separated by commas."""

    name = "N[,N...]"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(self._length(text.strip(), parameter, context) for text in value.split(",")))

    def _length(self, text: str, parameter: click.Parameter | None, context: click.Context | None) -> int:
        factor = _POWERS.get(text[-1:].upper(), 1)
        digits = text[:-1] if factor > 1 else text
        if not (digits.isascii() and digits.removeprefix("-").isdigit()):
            self.fail(f"'{text}' is not a length; give one such as 4096, 64K or 1M", parameter, context)
        if not 1 <= int(digits[:12]) * factor <= LONGEST_SEQUENCE or len(digits) > 12:
            self.fail(f"{text} tokens; give a length from 1 to {LONGEST_SEQUENCE // 2**20}M", parameter, context)
        return int(digits) * factor


class Names(click.ParamType):
    """Names or file names, several separated by commas (a file whose name has a comma is taken as it is)."""

    name = "NAME[,NAME...]"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        if "," in value and Path(value).is_file():
            return (value,)
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if "" in names:
            self.fail(f"'{value}' has an empty name", parameter, context)
        return names


class Setting(click.ParamType):
    """`dotted.field=value`."""

    name = "FIELD=VALUE"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        field, equals, _ = value.partition("=")
        if not equals or not field.strip():
            self.fail(f"'{value}'; give dotted.field=value", parameter, context)
        return str(value)


class NewFile(click.ParamType):
    """A file to write, in a format that its suffix names."""

    name = "FILE"

    def __init__(self, suffixes: Sequence[str] = ()) -> None:
        self.suffixes = tuple(suffixes)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        path = Path(value)
        if not str(value).strip():
            self.fail("give a file name", parameter, context)
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            self.fail(f"'{value}'; give a file that ends in {' or '.join(self.suffixes)}", parameter, context)
        return path
