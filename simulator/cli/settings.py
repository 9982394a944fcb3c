"""What `--set field=value` means: whose field it is, by which name it goes, and whether it changes anything.

A field is the workload's or the architecture's. A quantity of the architecture may go by its last name
(`dram_bytes_per_s`), where the model reads one that is called so. Where nobody has the field, the error says what was
meant. A setting without which all figures are the same is reported; nothing else can tell that no model read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened
from cascadesim.einsum_cascades.notation.schema import dotted, read_yaml
from cascadesim.einsum_cascades.notation.units import unit_of
from cascadesim.simulator.fields import values_of
from cascadesim.simulator.request import Request, as_it_is
from cascadesim.simulator.simulate import reports

WIDTHS = ("word_bytes", "element_bits")  # fields of arrays that are built for one
LACKED: Mapping[str, str] = {  # groups that machines with kernels of libraries have -> what others are
    "parallel": "is one device, and no model is divided over it", "engine": "runs no kernels of an engine",
}  # fmt: skip
_LONGEST_LIST = 60  # characters of the fields that an architecture, or a workload, has


def of_a_workload(setting: str) -> bool:
    return _field(setting).split(".")[0] in Workload.model_fields


def load_architecture(name: str | Accelerator, settings: Sequence[str]) -> tuple[Accelerator, Mapping[str, str]]:
    """Load an architecture by name or file; one that is loaded stays as it is.

    Returns it, and the settings that it has under another name: as given -> by the field's full name. Raises SpecError
    for a file or a setting that cannot be used, UnknownNameError for an unknown name.
    """
    if not isinstance(name, str):
        return as_it_is(name, settings), {}
    try:
        return catalogue.load(name, settings), {}
    except SpecError as error:
        if not settings or Path(name).is_fifo():  # a pipe has been read, and would be waited for
            raise
        plain = catalogue.load(name)  # a file with problems of its own says so first
        unknown = [  # the field, or the group that it would be in
            field for field in map(_field, settings)
            if any(f": {path}: unknown field" in each for path in (field, field.partition(".")[0])
                   for each in error.problems)
        ]  # fmt: skip
        possible = (field for field, _, _ in values_of(getattr(plain, "spec", None)))
        known = tuple(dict.fromkeys((*_fields(name), *possible)))
        meant = {field: full for field in unknown if (full := _alias(field, known, plain)) is not None}
        if not unknown or len(meant) < len(unknown):
            problems = [f"--set {shortened(field)}: {_meant(name, field, known)}" for field in unknown
                        if field not in meant]  # fmt: skip
            raise SpecError("\n".join(problems)) if problems else error from None
    made = {each: f"{meant[_field(each)]}={each.partition('=')[2]}" for each in settings if _field(each) in meant}
    return catalogue.load(name, [made.get(each, each) for each in settings]), made


def unused(
    ask: Callable[[tuple[str, ...]], Iterable[Request]], settings: tuple[str, ...], requests: Sequence[Request]
) -> tuple[str, ...]:
    """Name the settings without which every request has the same figures.

    In closed form first, which is quick; only what changes nothing there is run at the requests' own fidelity, too.
    """
    return tuple(f"--set {shortened(setting)}: set but not used: all figures are the same without it"
                 for number, setting in enumerate(settings)
                 if _changes_nothing(ask, (*settings[:number], *settings[number + 1 :]), requests))


def _changes_nothing(
    ask: Callable[[tuple[str, ...]], Iterable[Request]], others: tuple[str, ...], requests: Sequence[Request]
) -> bool:
    try:
        without = tuple(ask(others))
    except CascadeSimError:  # something else needs it
        return False
    return all(_figures(replace(one, fidelity=fidelity)) == _figures(replace(other, fidelity=fidelity))
               for fidelity in dict.fromkeys(("analytical", requests[0].fidelity))
               for one, other in zip(requests, without, strict=True))


def _figures(request: Request) -> object:
    """All that a report says of a run, or why there is none."""
    try:
        found = [report.to_dict() for report in reports(request)]
    except CascadeSimError as error:
        return str(error)
    left_out = ["notes", "mapping", "uncertainty"]  # words that repeat settings; what is known of runs without any
    left_out += [] if request.scope == "model" else ["parameters"]  # which are the whole model's
    return [{name: value for name, value in each.items() if name not in left_out} for each in found]


def _field(setting: str) -> str:
    return ".".join(part.strip() for part in setting.partition("=")[0].split("."))


def _fields(name: str) -> tuple[str, ...]:
    """List the dotted fields of an architecture's file."""
    file = next((path for full, path in catalogue.presets().items() if name in (full, path.stem)), Path(name))
    return tuple(path for path, _ in dotted(read_yaml(file)))


def _alias(field: str, known: Sequence[str], accelerator: Accelerator) -> str | None:
    """Find the quantity whose last name is `field`, the first in the file that figures depend on."""
    same = [path for path in known if "." not in field and path.rpartition(".")[2] == field]
    read = [path for path in same if path not in catalogue.unread(accelerator, same)]
    return read[0] if read and unit_of(field) is not None else None


def _meant(name: str, field: str, known: Sequence[str]) -> str:
    """Guess the field that was meant: of the same last name, or else spelt nearly so."""
    width = next((path for path in known if path in WIDTHS), None)
    if width is not None and field.partition(".")[0] in ("types", "dtype"):
        return f"{name} keeps all numbers in one width, {width}, and has no types"
    if (group := field.partition(".")[0]) in LACKED:
        return f"{shortened(name)} {LACKED[group]}; `cascadesim list devices` names those that can"
    last = field.rpartition(".")[2]
    all_known = (*known, *Workload.model_fields)
    same = [path for path in all_known if path.rpartition(".")[2] == last]
    close = same or get_close_matches(field, all_known, n=1)
    if close:
        return f"no such field; did you mean {' or '.join(map(repr, close))}?"
    own = listed(dict.fromkeys(path.partition(".")[0] for path in known), _LONGEST_LIST)
    of_workload = listed(sorted(Workload.model_fields), _LONGEST_LIST)
    return (f"no such field; {shortened(name)} has {own}; a workload has {of_workload}; "
            f"`cascadesim show {shortened(name)}` has all")
