"""The reference of the site, written from the code: commands, Python, fields, cascades and whatever else can be named.

Each function gives one page as Markdown. Nothing of it is stored: `docs/hooks.py` calls them at build time. Knows no
MkDocs. Raises what the package raises; a page without what it is about is a ValueError.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import import_module
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import cascadesim as package
from cascadesim.accelerators import catalogue
from cascadesim.accelerators.mapping.text import find_mapping
from cascadesim.einsum_cascades.analysis.passes import pass_class
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.notation import to_text
from cascadesim.einsum_cascades.notation.units import unit_of
from cascadesim.einsum_cascades.sparsity import selection_methods, sparse_patterns
from cascadesim.einsum_cascades.sparsity.pattern_names import pattern_fields
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.kernels import catalogue as kernels
from cascadesim.simulator.cli.commands import cascadesim
from cascadesim.simulator.cli.options import entries_of
from cascadesim.simulator.cli.showing import lines_of
from cascadesim.validation.claim import Claim
from cascadesim.validation.suites import cited_source, own_data, suites

SIGNS = {"gt": "&gt;", "ge": "&ge;", "lt": "&lt;", "le": "&le;"}
FAR = 1e18
OF_KINDS = {int: "whole number", float: "number", str: "text", bool: "yes or no"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a table of Markdown; raises ValueError where there is none."""
    lines = [f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), ' ') for cell in row)} |" for row in rows]
    if not lines:
        raise ValueError(f"no row of {', '.join(head)}")
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines])


def code(text: str) -> str:
    """`text` as it stands, in a cell of a table too, where a bar would begin another cell."""
    return f"<code>{escape(text, quote=False)}</code>" if text else ""


def fenced(lines: Iterable[str], language: str = "text") -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def folded(title: str, lines: Iterable[str]) -> str:
    """A part of the page that opens when its title is pressed."""
    return "\n".join([f'??? note "{title}"', "", *(f"    {line}".rstrip() for line in fenced(lines).splitlines())])


def commands() -> str:
    """Every command with its arguments, options, choices and defaults."""
    context = click.Context(cascadesim, info_name="cascadesim")
    parts = ["# Commands", "`simulate` is short for `cascadesim simulate`. Each takes `--help`. "
             "[How they behave](../commands.md): lists, names, settings, errors."]  # fmt: skip
    for name in cascadesim.list_commands(context):
        command = cascadesim.get_command(context, name)
        if command is None:
            raise ValueError(f"no command {name}")
        parts += _command(command, click.Context(command, info_name=name, parent=context))
    return "\n\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    help_text, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
    yield f"## {context.info_name}"
    yield " ".join(help_text.split()).replace("<", "&lt;")
    yield fenced([command.get_usage(context).removeprefix("Usage: ")])
    if examples:
        yield fenced(examples.strip().splitlines())
    records = [record for each in command.params if isinstance(each, click.Option)
               and (record := each.get_help_record(context)) is not None]  # fmt: skip
    if records:
        yield table(("option", "meaning"), ((code(name), _text(meaning)) for name, meaning in records))


def _text(meaning: str) -> str:
    return re.sub(r"`([^`]*)`", lambda found: code(found[1]), escape(" ".join(meaning.split()), quote=False))


def python() -> str:
    """Every public name of `import cascadesim`: signature, meaning, and what a result has."""
    names = sorted({*package.__all__, *(name for name in dir(package) if not name.startswith("_"))}, key=str.lower)
    parts = ["# Python", "`import cascadesim as cs`: [how to use it](../python.md). "
             "Functions of commands take the options of the command as keywords."]  # fmt: skip
    for name in names:
        parts += _public(name, getattr(package, name))
    return "\n\n".join(parts)


def _public(name: str, found: object) -> Iterator[str]:
    yield f"## cs.{name}"
    if inspect.isclass(found):
        yield _doc(found)
        members = [(each, value) for each, value in vars(found).items() if not each.startswith("_") and
                   (callable(value) or isinstance(value, property))]  # fmt: skip
        annotations = [each for each in inspect.get_annotations(found) if not each.startswith("_")]
        if annotations:
            yield "Fields: " + ", ".join(code(each) for each in annotations) + "."
        if members:
            rows = ((code(each + _parameters(value)), _line(value)) for each, value in members)
            yield table(("has", "meaning"), rows)
    elif callable(found):
        yield fenced(_signature(f"cs.{name}", found), "python")
        yield _doc(found)


def _parameters(member: object) -> str:
    return _unquoted(str(inspect.signature(member))) if callable(member) else ""


def _signature(name: str, found: Callable[..., object]) -> Iterator[str]:
    parameters = [_unquoted(str(each)) for each in inspect.signature(found).parameters.values()]
    whole = f"{name}({', '.join(parameters)})"
    yield from [whole] if len(whole) < 100 else [f"{name}(", *(f"    {each}," for each in parameters), ")"]


def _unquoted(signature: str) -> str:
    """A signature whose annotations, which are texts, are without quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)


def _doc(found: object) -> str:
    """Its docstring; keywords of a command, which stand one a line at its end, as a table."""
    *paragraphs, last = re.split(r"\n\s*\n", inspect.getdoc(found) or "")
    keywords = [re.fullmatch(r"\s*(\w+): (.*)", line) for line in last.splitlines()]
    if len(keywords) > 1 and all(keywords):
        rows = [(code(each[1]), _text(each[2])) for each in keywords if each]
        return "\n\n".join([*map(_text, paragraphs), table(("keyword", "meaning"), rows)])
    return "\n\n".join(map(_text, [*paragraphs, last]))


def _line(found: object) -> str:
    return _text((inspect.getdoc(found) or "").split("\n\n")[0])


def fields() -> str:
    """Fields of architectures and workloads, by the classes that read them."""
    parts = ["# Fields of YAML files", "What a preset, or a file of your own, may hold. `--set` changes what a figure "
             "depends on (`cascadesim show NAME` says). An unknown field, a text for a number and a size of 0 are "
             "refused. Units are in the names."]  # fmt: skip
    seen: set[type[BaseModel]] = set()
    for folder in catalogue.folders():
        first = next(name for name in catalogue.presets() if name.startswith(f"{folder}/"))
        spec = getattr(catalogue.load(first), "spec", None)
        if not isinstance(spec, BaseModel):
            raise ValueError(f"{first}: no spec")
        parts += [f"## architecture: {folder}", *_classes(type(spec), seen)]
    return "\n\n".join([*parts, "## Workloads", *_classes(Workload, seen)])


def _classes(spec: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """A table for `spec` and for each class of its fields that has none yet."""
    if spec in seen:
        return
    seen.add(spec)
    remarks = _remarks(spec)
    yield f"### {spec.__name__}"
    yield _doc(spec) if spec.__doc__ else ""
    yield table(("field", "is", "unit", "default", "remark"), (
        (code(name), _kind(field), unit_of(name) or "", _default(field), _text(remarks.get(name, "")))
        for name, field in spec.model_fields.items()))  # fmt: skip
    for field in spec.model_fields.values():
        for inner in _specs(field.annotation):
            yield from _classes(inner, seen)


def _specs(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _specs(inner)


def _remarks(spec: type[BaseModel]) -> Mapping[str, str]:
    """The comment beside each field, of the class and of those it extends."""
    found: dict[str, str] = {}
    for each in reversed(spec.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            found |= dict(re.findall(r"^    (\w+): [^#\n]*#\s*(.*)$", inspect.getsource(each), re.MULTILINE))
    return found


def _kind(field: FieldInfo) -> str:
    bounds = [_bound(each) for each in field.metadata]
    return " ".join([_named(field.annotation), *filter(None, bounds)])


def _bound(metadata: object) -> str:
    """What limits a number, but for limits so far that they only keep numbers finite."""
    if isinstance(metadata, FieldInfo):
        return " ".join(filter(None, map(_bound, metadata.metadata)))
    limits = {sign: getattr(metadata, name, None) for name, sign in SIGNS.items()}
    return " ".join(f"{sign} {limit:g}" for sign, limit in limits.items() if limit is not None and abs(limit) < FAR)


def _named(annotation: object) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join(filter(None, [_named(inner[0]), *map(_bound, inner[1:])]))
    if origin is Literal:
        return ", ".join(code(str(word)) for word in inner)
    if origin in (Union, UnionType):
        return " or ".join("none" if each is NoneType else _named(each) for each in inner)
    if inspect.isclass(origin) and inner:
        listed = " of ".join(_named(each) for each in inner if each is not Ellipsis)
        return f"each {listed}" if issubclass(origin, Mapping) else f"list of {listed}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return OF_KINDS.get(annotation, str(annotation)) if inspect.isclass(annotation) else str(annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return "as below" if isinstance(value, BaseModel) else "none" if value in (None, (), {}) else code(str(value))


def architectures() -> str:
    return _shown("Architectures", "architectures", "Each preset with its fields, values, units and sources, as "
                  "`cascadesim show NAME` prints them. A file of your own: [extending](../extending.md).")  # fmt: skip


def workloads() -> str:
    return _shown("Workloads", "workloads", "Each model with its sizes and their sources, as `cascadesim show NAME` "
                  "prints them. Your own: [the command line](../commands.md#your-own-model).")  # fmt: skip


def _shown(title: str, section: str, lead: str) -> str:
    parts = [f"# {title}", lead]
    for name, remark in entries_of(section):
        parts += [f"## {name}", _text(remark), folded(f"cascadesim show {name}", lines_of(name))]
    return "\n\n".join(parts)


def cascades() -> str:
    """Each cascade with its text and the passes that are counted from it."""
    parts = ["# Cascades", "Texts that come along, with their passes, as `cascadesim passes NAME` counts them. "
             "[The notation](../cascades.md#the-notation)."]  # fmt: skip
    for name in cascade_names():
        text = find(name)
        counted = cast("dict[str, int]", package.passes(name).to_dict()["passes"])
        over = [f"{rank} {count}" for rank, count in counted.items() if count > 1]
        parts += [f"## {name}", f"{pass_class(text)}; reads {', '.join(text.inputs)}; makes {', '.join(text.outputs)}; "
                  f"passes: {', '.join(over) or 'one'}.", fenced(to_text(text).splitlines())]  # fmt: skip
    return "\n\n".join(parts)


def names() -> str:
    """Mappings, patterns, spaces, kernels, devices, suites."""
    parts = ["# Mappings, patterns, spaces, kernels, suites"]
    parts += ["## Mappings", "`simulate --mapping NAME`; [how to read them](../mapping.md)."]
    for name, remark in entries_of("mappings"):
        parts += [f"### {name}", f"{_text(remark).capitalize()}.", fenced(str(find_mapping(name)).splitlines())]
    parts += ["## Patterns", "`cascadesim gna --layout N --q-tile N --kv-tile N --pattern NAME:FIELD=VALUE,…`.", table(
        ("pattern", "fields", "what attends what"), ((code(name), ", ".join(
            code(field if value is None else f"{field}={value:g}") for field, value in given.items()), _pattern(name))
            for name, given in pattern_fields().items()))]  # fmt: skip
    parts += ["## Design spaces", table(("space", "question"), ((code(name), _text(remark)) for name, remark in
                                                                 entries_of("spaces")))]  # fmt: skip
    parts += ["## Kernels", "[How they are checked and measured](../kernels.md).", table(("family", "what"), (
        (code(name), _line(_family(name))) for name in kernels.families()))]  # fmt: skip
    parts += ["## Suites of `validate`", "Each claim, and why its tolerance is what it is. "
              "[What is found](../validation.md)."]  # fmt: skip
    for suite in suites():
        parts += [f"### {suite.name}", _text(cited_source(suite, own_data(suite), None)), table(
            ("claim", "tolerance", "why"), ((_text(claim.name), _tolerance(claim), _text(claim.because))
                                            for claim in suite.claims))]  # fmt: skip
    judged = {suite.name for suite in suites()}
    others = ", ".join(code(name) for name, _ in entries_of("suites") if name not in judged)
    parts += [f"### Of our own measurements\n\n{others}: [records of kernels](../kernels.md#records)."]
    return "\n\n".join(parts)


def _pattern(name: str) -> str:
    """The docstring of its function, or the remark above its row in the table of methods."""
    function = getattr(sparse_patterns, name.replace("-", "_"), None)
    if function is not None:
        return _line(function)
    above = re.search(rf'((?:^ *#.*\n)+) *"{name}": Method', inspect.getsource(selection_methods), re.MULTILINE)
    return _text(re.sub(r"^ *# ?", "", above[1], flags=re.MULTILINE)) if above else ""


def _family(name: str) -> ModuleType:
    return import_module(f"cascadesim.kernels.{name}")


def _tolerance(claim: Claim) -> str:
    return "reported" if claim.tolerance is None else f"{claim.gate} {claim.tolerance:g}"
