"""Space files: which designs, judged on which work by which figures, searched how. Strict, every error located.

`read_space` gives frozen values; names of fields and metrics are checked by `problem`, which knows the model.
A space is a question: the designs that its fields span, and the objectives that answer it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal, TypeAlias

from click import BadParameter
from pydantic import Field, field_validator, model_validator

from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.workload import Scope
from cascadesim.einsum_cascades.notation.errors import SpecError, UnknownNameError, listed, shortened, shown
from cascadesim.einsum_cascades.notation.schema import (
    Fraction,
    NonNegative,
    Positive,
    PositiveFloat,
    Spec,
    parse_yaml,
    read_text,
    validate,
)
from cascadesim.einsum_cascades.notation.units import number_of
from cascadesim.simulator.cli.options import lengths

Scalar: TypeAlias = int | float | str | bool
MOST_VALUES = 100_000  # of one field; assumed: beyond this a coarser step serves
_FOLDER = resources.files("cascadesim.simulator.explore") / "spaces"


class Values(Spec):
    """The values that a field may have, given in exactly one of these ways. Ends are included."""

    values: tuple[object, ...] | None = None
    range: tuple[object, ...] | None = None  # from, to, step
    powers_of_two: tuple[object, ...] | None = None  # from, to
    log_range: tuple[object, ...] | None = None  # from, to, how many

    @model_validator(mode="after")
    def _can_be_listed(self) -> Values:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            listed = ", ".join(given) or "none"
            raise ValueError(f"give one of values, range, powers_of_two and log_range, got {listed}")
        self.listed()
        return self

    def listed(self) -> tuple[Scalar, ...]:
        """Every value, in order. Raises ValueError on ends that mean nothing."""
        if self.values is not None:
            return _as_given(self.values)
        if self.range is not None:
            return _stepped(*_numbers("range", ("from", "to", "step"), self.range))
        if self.powers_of_two is not None:
            return _powers(*_numbers("powers_of_two", ("from", "to"), self.powers_of_two))
        return _spread(*_numbers("log_range", ("from", "to", "how many"), self.log_range or ()))


def _as_given(values: Sequence[object]) -> tuple[Scalar, ...]:
    found = tuple(value for value in values if isinstance(value, int | float | str))
    if len(found) != len(values) or not 1 <= len(values) <= MOST_VALUES:
        raise ValueError(f"values: expected a list of 1 to {MOST_VALUES:,} numbers or texts")
    if any(isinstance(value, int | float) and not abs(value) < 2**63 for value in found):
        raise ValueError("values: expected numbers below 2^63")
    if len({isinstance(value, str) for value in found}) > 1:
        raise ValueError("values: numbers and texts do not mix in one field")
    doubled = sorted({str(value) for value, times in Counter(found).items() if times > 1})
    if doubled:
        raise ValueError(f"values: {listed(doubled)} is given more than once")
    return found


def _numbers(what: str, names: Sequence[str], given: Sequence[object]) -> tuple[float, ...]:
    found = tuple(value for value in given if isinstance(value, int | float) and not isinstance(value, bool))
    if len(found) != len(names) or len(found) != len(given) or not all(abs(each) < 2**63 for each in found):
        raise ValueError(f"{what}: expected [{', '.join(names)}], got {shown(list(given))}")
    return found


def _stepped(first: float, last: float, step: float) -> tuple[Scalar, ...]:
    if step <= 0 or last < first or (last - first) / step >= MOST_VALUES:
        raise ValueError(f"range: expected from <= to, step > 0 and at most {MOST_VALUES} values")
    found = (first + number * step for number in range(int((last - first) / step * (1 + 1e-12)) + 1))
    return tuple(value if isinstance(value, int) else float(f"{value:.14g}") for value in found)  # 1.7, not 1.70…02


def _powers(first: float, last: float) -> tuple[Scalar, ...]:
    if first != int(first) or first < 1 or int(first) & (int(first) - 1) or not first <= last < 2**63:
        raise ValueError("powers_of_two: expected [from, to] with from a power of two and from <= to < 2^63")
    return tuple(takewhile(lambda power: power <= last, (int(first) << number for number in count())))


def _spread(first: float, last: float, how_many: float) -> tuple[Scalar, ...]:
    """Whole numbers where both ends are whole: rounded, each once."""
    if first <= 0 or last <= first or how_many != int(how_many) or not 2 <= how_many <= MOST_VALUES:
        raise ValueError(f"log_range: expected 0 < from < to and 2 to {MOST_VALUES} values")
    steps = int(how_many) - 1
    found = [first * (last / first) ** (number / steps) for number in range(steps)] + [last]
    whole = isinstance(first, int) and isinstance(last, int)
    return tuple(dict.fromkeys(round(value) if whole else float(f"{value:.12g}") for value in found))


class Use(Spec):
    """One workload that every design runs; sums count it `weight` times."""

    workload: str
    weight: PositiveFloat = 1.0
    scope: Scope = "model"
    phase: Phase = "prefill"
    sequence_length: Positive | str | None = None  # also 64K, 1M
    batch: Positive | None = None
    attention: str | None = None

    @field_validator("sequence_length")
    @classmethod
    def _in_tokens(cls, given: int | str | None) -> int | None:
        try:
            return None if given is None else lengths(str(given).replace(",", " "))[0]
        except BadParameter as problem:
            raise ValueError(problem.message) from None


class NeighborhoodSpec(Spec):
    """A neighborhood attention pattern whose sizes may vary, instead of an architecture."""

    workload: str | None = None  # gives layout, text, heads
    layout: str | None = None
    window: str
    device: str | None = None
    heads: Positive = 24
    head_dim: Positive = 128
    extra_keys: NonNegative = 0


class Search(Spec):
    """exhaustive: every design. evolutionary: `generations` of `population` designs each, seeded.

    fidelity: by which latency the front is judged; `cycle` simulates as few designs as the closed form lets it.
    tolerance: relative gain for which that does not look further (0: the front is exact).
    """

    method: Literal["exhaustive", "evolutionary"] = "exhaustive"
    fidelity: Literal["analytical", "cycle"] = "analytical"
    tolerance: Fraction = 0.0
    population: Positive = 200
    generations: Positive = 60


class Space(Spec):
    """A question about designs. `derive`: fields that follow from others; `conditions` and `constraints`: what must
    hold of fields, and of figures."""

    question: str
    architecture: str | None = None
    neighborhood: NeighborhoodSpec | None = None
    set: Mapping[str, object] = {}
    vary: Mapping[str, Values]
    derive: Mapping[str, str] = {}
    conditions: tuple[str, ...] = ()
    workloads: tuple[Use, ...] = ()
    accounting: Literal["physical", "artifact"] = "physical"
    objectives: tuple[str, ...] = Field(min_length=1)
    constraints: tuple[str, ...] = ()
    search: Search = Search()
    seed: NonNegative = 0

    @model_validator(mode="after")
    def _about_one_model(self) -> Space:
        if (self.architecture is None) == (self.neighborhood is None):
            raise ValueError("give either architecture or neighborhood: what the fields belong to")
        if self.architecture is not None and not self.workloads:
            raise ValueError("workloads: give at least one; a design is judged by what it runs")
        if self.neighborhood is not None and self.workloads:
            raise ValueError("workloads: a neighborhood has its own; name one inside `neighborhood`")
        if not self.vary:
            raise ValueError("vary: give at least one field with its values")
        return self


def space_names() -> tuple[str, ...]:
    """The spaces that come with cascadesim."""
    return tuple(sorted(Path(entry.name).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")))


def read_space(name_or_path: str | Path) -> tuple[Space, str]:
    """A space by name or path, and the text that it was read from. Raises SpecError with every problem of the file."""
    text_of = str(name_or_path)
    if text_of.lower().endswith((".yaml", ".yml")):
        path = Path(text_of)
        text = read_text(path)
        return space_from(parse_yaml(text, path.name), path.name), text
    if text_of not in space_names():
        raise UnknownNameError("space (give a .yaml file, or one that comes along)", text_of, space_names())
    text = (_FOLDER / f"{text_of}.yaml").read_text(encoding="utf-8")
    return space_from(parse_yaml(text, f"{text_of}.yaml"), f"{text_of}.yaml"), text


def space_from(content: Mapping[str, Any], source: str) -> Space:
    """`content` as YAML has it; a plain list of values is short for `values`, and quantities may have units (8MiB)."""
    varied, given = content.get("vary"), content.get("set")
    if isinstance(varied, Mapping):
        content = {**content, "vary": {name: {kind: _with_units(each, str(name), source) for kind, each in
                                              _values(name, value, source).items()} for name, value in varied.items()}}
    if isinstance(given, Mapping):
        content = {**content, "set": {name: _with_units(value, str(name), source) for name, value in given.items()}}
    return validate(Space, content, source)


def _with_units(given: object, field: str, source: str) -> object:
    if isinstance(given, list | tuple):
        return [_with_units(value, field, source) for value in given]
    number = number_of(given, field, f"{source}: ") if isinstance(given, str) else None
    return given if number is None else number


def _values(name: object, given: object, source: str) -> Mapping[str, object]:
    if not isinstance(name, str):
        raise SpecError(f"{source}: vary: expected names of fields, got {shown(name)}")
    if isinstance(given, list | tuple):
        return {"values": given}
    if not isinstance(given, Mapping):
        raise SpecError(f"{source}: vary.{shortened(name)}: expected a list of values, or range, powers_of_two or "
                        f"log_range (got {shown(given)})")
    return given
