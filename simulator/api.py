"""The commands as functions: `cascadesim.simulate("h100-sxm", "llama", phase="decode", batch=64, seq_len="8K")`.

A function runs its command, so that options, defaults and errors have one place: keywords are the command's options
(`--seq-len` is `seq_len`) with values as they are typed, or numbers, lists of values, sizes such as `(30, 48, 80)`, and
`set={"clock_hz": "1.83GHz"}`. What the command would print is the `repr` of what is returned. What it says beside that
becomes a warning. Raises CascadeSimError where the command would end with a line and exit code 2.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shown, suggestion
from cascadesim.simulator.cli import commands, options
from cascadesim.simulator.result import Result

if TYPE_CHECKING:
    from cascadesim.accelerators.protocol import Accelerator
    from cascadesim.einsum_cascades.analysis.footprint import Analysis
    from cascadesim.simulator.explore.results import Frame
    from cascadesim.simulator.generate import Generation
    from cascadesim.simulator.mapper import FoundMapping
    from cascadesim.simulator.report import Report
    from cascadesim.simulator.request import AnyWorkload

Function = TypeVar("Function", bound=Callable[..., object])
Architectures: TypeAlias = "str | Path | Accelerator | Collection[str | Path | Accelerator]"
Workloads: TypeAlias = "str | Path | AnyWorkload | Collection[str | Path | AnyWorkload]"


def _command(name: str) -> click.Command:
    found = commands.cascadesim.get_command(click.Context(commands.cascadesim), name)
    if found is None:
        raise CascadeSimError(f"no command '{name}'")
    return found


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """Keyword -> parameter: `--seq-len` is `seq_len`, and an argument goes by its own name."""
    return {max(each.opts, key=len).lstrip("-").replace("-", "_").lower(): each for each in command.params}


def _default(option: click.Parameter) -> object:
    default = option.get_default(click.Context(click.Command("none")))
    if isinstance(default, tuple) and default:
        return default[0]
    return default if isinstance(default, str | bool) else None


def _of_command(name: str) -> Callable[[Function], Function]:
    """Show a command's options as keywords of a function, and what they mean in its docstring."""
    return partial(_documented, _command(name))


def _documented(command: click.Command, function: Function) -> Function:
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    taken = {each.name for each in own}
    options = {name: option for name, option in _options(command).items() if name not in taken}
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(option))
                for name, option in options.items()]  # fmt: skip
    function.__signature__ = inspect.Signature([*own, *keywords])  # type: ignore[attr-defined]
    meant = (f"{name}: {' '.join((option.help or '').split())}" for name, option in options.items())
    function.__doc__ = "\n    ".join((inspect.getdoc(function) or "", "", *meant))
    return function


@_of_command("simulate")
def simulate(arch: Architectures, workload: Workloads, **options: object) -> Result[tuple[Report, ...]]:
    """How long workloads take on architectures, what they move and burn, and which unit bounds them.

    Both by name, as files, or as loaded (`load_accelerator`, `load_workload`). Returns a report for each combination.
    """
    if hasattr(arch, "operations"):  # a workload first: the order before version 1
        arch, workload = workload, arch  # type: ignore[assignment]
    return _called("simulate", arch=arch, workload=workload, **options)


@_of_command("passes")
def passes(cascade: str, **options: object) -> Result[Analysis]:
    """Passes over each rank, live footprint, operations and least traffic of a cascade, by name or as a file."""
    return _called("passes", cascade=cascade, **options)


@_of_command("gna")
def gna(**options: object) -> Result[Any]:
    """The speedup that a neighborhood attention pattern can reach on given tiles, and why not more."""
    return _called("gna", **options)


@_of_command("explore")
def explore(space: str, **options: object) -> Result[Frame]:
    """All designs of a space judged, by name or as a file: those that none beats, a row each."""
    return _called("explore", space=space, **options)


@_of_command("map")
def map_cascade(cascade: str, arch: str, **options: object) -> Result[FoundMapping]:
    """The best mapping of a cascade on an array that is found: what to fuse, tile sizes, what is kept where."""
    return _called("map", cascade=cascade, arch=arch, **options)


@_of_command("generate")
def generate(
    arch: str | Path | Accelerator, workload: str | Path | AnyWorkload, **options: object
) -> Result[Generation]:
    """Time to the first token, time per token, tokens/s and memory of requests that start together.

    Both by name, as files, or as loaded; devices and an engine go with a name or a file.
    """
    return _called("generate", arch=arch, workload=workload, **options)


def validate(*suites: str, **options: object) -> Result[Any]:
    """Hold the models against published figures: a verdict for each claim of the suites, or of all.

    data: compare with this file of the suite's columns instead of its own. plot: also draw to this file.
    """
    return _called("validate", names=suites, **options)


def names(section: str) -> tuple[str, ...]:
    """List what can be named in a section of `cascadesim list`. Raises CascadeSimError for another section."""
    if section not in commands.SECTIONS:
        raise CascadeSimError(f"no section '{section}'{suggestion(section, commands.SECTIONS)}")
    return tuple(name for name, _ in options.entries_of(section))


def __getattr__(name: str) -> Callable[[], tuple[str, ...]]:
    """`list_architectures()` and so on: the names of each section."""
    section = name.removeprefix("list_")
    if section == name or section not in commands.SECTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(names, section)


def _called(name: str, **given: object) -> Result[Any]:
    """Run a command on keywords. What is None is left out."""
    command = _command(name)
    known = _options(command) | {each.name: each for each in command.params if each.name is not None}
    for keyword in given:
        if keyword not in known:
            raise CascadeSimError(f"{name}: no option '{keyword}'{suggestion(keyword, known)}")
    values = {known[keyword].name: _as_typed(known[keyword], value)
              for keyword, value in given.items() if value is not None}  # fmt: skip
    try:
        with redirect_stdout(StringIO()) as printed, command.make_context(name, [], default_map=values) as context:
            result = command.invoke(context)
    except click.ClickException as error:
        raise CascadeSimError(f"{name}: {commands.message(error)}") from None
    for line in (*result.remarks, *result.problems):
        warnings.warn(line, stacklevel=3)
    return replace(result, printed=printed.getvalue())


def _as_typed(option: click.Parameter, value: object) -> object:
    """Write a value as the option takes it: text, several of it, or something that has been loaded."""
    if isinstance(value, Mapping):
        value = [f"{field}={_text(each)}" for field, each in value.items()]
    if isinstance(value, str) or not isinstance(value, Collection):
        is_switch = isinstance(value, bool) and getattr(option, "is_flag", False)
        return (_text(value),) if _takes_several(option) else value if is_switch else _text(value)
    texts = [_text(each) for each in value]
    if _takes_several(option):
        return tuple(texts)
    return ("x" if "x" in (option.metavar or "") else ",").join(map(str, texts))


def _takes_several(option: click.Parameter) -> bool:
    return getattr(option, "multiple", False) or option.nargs == -1


def _text(value: object) -> object:
    """Numbers as they are typed (True in a list is 1); what has been loaded stays as it is."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | Path | Number):
        return str(value)
    if hasattr(value, "plan") or hasattr(value, "operations"):
        return value
    raise CascadeSimError(f"expected text, a number or a list of them, got {shown(value)}")
