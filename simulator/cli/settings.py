"""`--set field=value`: whose field it is, and what was meant where nobody has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened
from cascadesim.einsum_cascades.notation.schema import read_yaml

WIDTHS = ("word_bytes", "element_bits")  # fields of arrays that are built for one
_LONGEST_LIST = 60  # characters of the fields that an architecture, or a workload, has


def split(settings: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Settings of fields that workloads have, and all others, which are the architectures' to know or refuse."""
    of_workload = tuple(setting for setting in settings if _field(setting).split(".")[0] in Workload.model_fields)
    return of_workload, tuple(setting for setting in settings if setting not in of_workload)


def load_architecture(name: str, settings: Sequence[str]) -> Accelerator:
    """Raises SpecError for a file or a setting that cannot be used, UnknownNameError for an unknown name."""
    try:
        return catalogue.load(name, settings)
    except SpecError as error:
        if not settings or Path(name).is_fifo():  # a pipe has been read, and would be waited for
            raise
        catalogue.load(name)  # a file with problems of its own says so first
        unknown = [field for field in map(_field, settings) if _is_unknown(field, str(error))]
        if not unknown:
            raise
        known = tuple(_paths(read_yaml(_file(name))))
        problems = [f"--set {shortened(field)}: {_meant(name, field, known)}" for field in unknown]
        raise SpecError("\n".join(problems)) from None


def _field(setting: str) -> str:
    return ".".join(part.strip() for part in setting.partition("=")[0].split("."))


def _is_unknown(field: str, problems: str) -> bool:
    """The field, or the group that it would be in."""
    return any(f": {path}: unknown field" in problems for path in (field, field.partition(".")[0]))


def _file(name: str) -> Path:
    return next((path for full, path in catalogue.presets().items() if name in (full, path.stem)), Path(name))


def _paths(content: Mapping[str, object], above: str = "") -> Iterator[str]:
    """Every field of a file, dotted."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _meant(name: str, field: str, known: Sequence[str]) -> str:
    """Fields of the same last name first, then those that are spelt nearly so."""
    width = next((path for path in known if path in WIDTHS), None)
    if width is not None and field.partition(".")[0] in ("types", "dtype"):
        return f"{name} keeps all numbers in one width, {width}, and has no types"
    last = field.rpartition(".")[2]
    all_known = (*known, *Workload.model_fields)
    same = [path for path in all_known if path.rpartition(".")[2] == last]
    close = same or get_close_matches(field, all_known, n=1)
    if close:
        return f"no such field; did you mean {' or '.join(map(repr, close))}?"
    own = listed(dict.fromkeys(path.partition(".")[0] for path in known), _LONGEST_LIST)
    of_workload = listed(sorted(Workload.model_fields), _LONGEST_LIST)
    return f"no such field; {shortened(name)} has {own}; a workload has {of_workload}"
