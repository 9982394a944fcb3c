"""Command-line text becomes typed values here, once: lists, lengths, choices, settings, file names.

Each reader is a function from text to value; click says which option a refusal belongs to.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from os.path import exists, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click
from click.shell_completion import CompletionItem

from cascadesim import einsum_cascades
from cascadesim.accelerators.kept_code import anything_kept
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened, suggestion
from cascadesim.simulator import cli

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.masks import KeyInterval

Value = TypeVar("Value")
Completion: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
LONGEST_SEQUENCE = 2**24  # assumed: beyond every published context length (10M), and still quick to count masks of
LARGEST_BATCH = 2**16  # assumed: beyond any serving batch
_THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_POWERS = {"K": 2**10, "M": 2**20}
_LONGEST_NUMBER = 20  # digits; more is beyond all limits, and Python refuses to read thousands of them


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a reader of one of `choices` that guesses what was meant where it is none."""

    def chosen(text: str) -> str:
        if text not in choices:
            guess = suggestion(text, choices)
            meant = guess if "did you mean" in guess else f"; give one of: {', '.join(choices)}"
            raise click.BadParameter(f"no '{text}'{meant}")
        return text

    return chosen


def entries_of(section: str) -> list[tuple[str, str]]:
    """List the names of a section of `cascadesim list` and what each of them is."""
    return cli.listing.entries_of(section)


def completing(*sections: str) -> Completion:
    """Complete names of sections of `list` after the last comma; what no name begins with is left to be a file."""

    def found(_: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        known = (name for section in sections for name, _ in entries_of(section))
        names = [CompletionItem(f"{before}{comma}{name}") for name in known if name.startswith(last)]
        return names or [CompletionItem(incomplete, type="file")]

    return found


def completing_words(words: Sequence[str]) -> Completion:
    """Complete one of a few words."""
    return lambda _, _option, incomplete: [CompletionItem(word) for word in words if word.startswith(incomplete)]


def several(read: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    """Make a reader of values separated by commas, each once. A number with a comma in it (`1,024`) is refused."""

    def values(text: str) -> tuple[Value, ...]:
        parts = [part.strip() for part in text.split(",")]
        if _THOUSANDS.fullmatch(text.strip()) and any(part.startswith("0") for part in parts[1:]):
            raise click.BadParameter(f"'{text}': did you mean {''.join(parts)}?")
        return tuple(dict.fromkeys(map(read, parts)))

    return values


def choice(*declared: str, of: Sequence[str], default: str | None = None, help_text: str) -> Decorator:
    """Make an option that takes one of a few words, which help shows."""
    return click.option(*declared, type=one_of(*of), default=default, metavar=f"[{'|'.join(of)}]",
                        shell_complete=completing_words(of), show_default=default is not None,
                        help=help_text)  # fmt: skip


def output_format(*formats: str, help_text: str = "How the result is printed.") -> Decorator:
    """Make the option `--format`; tables are what is printed without it."""
    return choice("--format", "format_", of=formats, default="table", help_text=help_text)


def lengths(text: str) -> tuple[int, ...]:
    """Read `4096`, `64K`, `1M` (powers of 1024), several separated by commas.

    A comma inside one number is refused, as it would make two lengths of it: of `1,000`, and of a multiple of 1024 such
    as `24,576` unless all parts are powers of two. `512,544` are two lengths. 1 to 15 tokens are no length that anybody
    asks for beside others of hundreds.
    """
    parts = [part.strip() for part in text.split(",")]
    if _THOUSANDS.fullmatch(text.strip()) and (
        any(part.startswith("0") for part in parts) or int(parts[0]) < 16
        or (int("".join(parts)) % 1024 == 0 and any(int(part).bit_count() > 1 for part in parts))
    ):  # fmt: skip
        raise click.BadParameter(f"'{text}': did you mean {''.join(parts)}? for {len(parts)} lengths, give the option "
                                 f"{len(parts)} times")
    return tuple(dict.fromkeys(map(_length, parts)))


def together(_: click.Context, _option: click.Parameter, given: Iterable[tuple[Value, ...]]) -> tuple[Value, ...]:
    """Gather the lists of an option that may be given several times: all of its values once, in order."""
    found: list[Value] = []
    for value in (value for values in given for value in values):
        found += [value] if value not in found else []
    return tuple(found)


def whole(least: int, most: int, of: str = "") -> Callable[[str], int]:
    """Make a reader of whole numbers within limits; `of` says what they count."""

    def number(text: str) -> int:
        tidy = text.strip()
        if not _is_number(tidy) or len(tidy) >= _LONGEST_NUMBER:
            raise click.BadParameter(f"'{shortened(text)}' is not a whole number")
        if not least <= int(tidy) <= most:
            raise click.BadParameter(f"{tidy}; give {least} to {most}{of}")
        return int(tidy)

    return number


def names(text: str) -> tuple[str, ...]:
    """Read names or file names separated by commas (a file whose name has a comma is taken as it is).

    What is no text, as Python may give it, is one thing that has been loaded.
    """
    if not isinstance(text, str):
        return (text,)
    if "," in text and isfile(text):  # False also for what no file can be called
        return (text,)
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in found:
        raise click.BadParameter(f"'{text}' has an empty name")
    return found


def loaded_or_named(given: object) -> object:
    """Take a name or a file as it is typed, and what has been loaded, which Python may give, as it is."""
    return given


def share(text: str) -> float:
    """Read a number from 0 to below 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:  # nor what is no number
        raise click.BadParameter(f"'{shortened(text)}'; give a number from 0 to below 1")
    return found


def setting(text: str) -> str:
    """Read `dotted.field=value`."""
    field, equals, _ = text.partition("=")
    if not equals or not all(part.strip() for part in field.split(".")):
        raise click.BadParameter(f"'{text}'; give dotted.field=value")
    return text


def extent(text: str) -> tuple[str, int]:
    """Read `M0=256` or `M=64K`: the name of an extent and its size."""
    name, equals, size = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"'{text}'; give EXTENT=N, such as M0=256")
    return name, _length(size)


def extent_or_setting(text: str) -> tuple[str, int] | str:
    """Read the size of a rank, `M=64K`, or a field of the architecture, whose name has a dot or an underscore."""
    name = text.partition("=")[0]
    return setting(text) if "." in name or "_" in name else extent(text)


def mask(text: str) -> KeyInterval:
    """Read which keys a query attends."""
    try:
        return einsum_cascades.mask_from(text)
    except CascadeSimError as error:
        raise click.BadParameter(str(error)) from None


def new_file(*suffixes: str) -> Callable[[str], Path]:
    """Make a reader of a file to write, in a format that its suffix names."""

    def target(text: str) -> Path:
        path = Path(text)
        if not text.strip() or "\0" in text:
            raise click.BadParameter("give a file name")
        if suffixes and path.suffix.lower() not in suffixes:
            raise click.BadParameter(f"'{text}'; give a file that ends in {' or '.join(suffixes)}")
        return path

    return target


def _length(text: str) -> int:
    factor = _POWERS.get(text[-1:].upper(), 1)
    digits = text[:-1] if factor > 1 else text
    if not _is_number(digits):
        raise click.BadParameter(f"'{text}' is not a length; give one such as 4096, 64K or 1M")
    if len(digits) > _LONGEST_NUMBER or not 1 <= int(digits) * factor <= LONGEST_SEQUENCE:
        raise click.BadParameter(f"{text} tokens; give a length from 1 to {LONGEST_SEQUENCE // 2**20}M")
    return int(digits) * factor


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def first_run() -> bool:
    """Whether nothing of `simulate` ran here before: Python has yet to read its work, and to compile its loops."""
    found = None if "cascadesim.simulator.cli.run" in sys.modules else find_spec("cascadesim.simulator.cli.run")
    return found is not None and found.cached is not None and not exists(found.cached) and not anything_kept()
