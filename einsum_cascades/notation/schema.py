"""Strict, frozen values read from YAML: one base class, one loader, one error format.

Every file error names the file, the dotted path of the field, what was given and what is allowed, all problems of
one file at once. Duplicate fields, anchors and aliases are refused: a file says what it means once and in place.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, shown, suggestion
from cascadesim.einsum_cascades.notation.files import read_text

LARGEST_WHOLE = 2**62  # fits int64 twice over; no count of anything comes near
LARGEST_NUMBER = 1e30  # beyond every physical quantity in SI units; products of several stay finite
Positive = Annotated[int, Field(gt=0, le=LARGEST_WHOLE)]
PositiveFloat = Annotated[float, Field(gt=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Spec(BaseModel):
    """Base of everything a YAML file describes: frozen, strict, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SpecType = TypeVar("SpecType", bound=Spec)
Loaded = TypeVar("Loaded")

# What PyYAML raises on bad text: its own family and, from the constructors of tags such as `!!bool x`, `!!int ""`
# or a date out of range, whatever Python raised inside them.
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML has it
_MOST_PROBLEMS = 20  # of one file that are described; the others are counted
_LONGEST_PATH = 80  # characters of a dotted path that an error repeats


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds. Raises SpecError if it cannot be read or holds something else."""
    return parse_yaml(read_text(path), path.name)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping that YAML `text` holds; `source` names it in errors."""
    content = _read(text, source, _load)
    if not isinstance(content, dict):
        raise SpecError(f"{source}: expected fields (name: value), got {type(content).__name__}")
    return content


def yaml_nodes(text: str, source: str) -> yaml.Node | None:
    """The nodes of YAML `text`, which know their lines; None where it is empty. Refuses what `parse_yaml` refuses."""
    return _read(text, source, _nodes)


def _read(text: str, source: str, load: Callable[[str], Loaded]) -> Loaded:
    try:
        return load(text)
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
        place = "" if mark is None else f"line {mark.line + 1}: "
        raise SpecError(f"{source}: not valid YAML: {place}{shortened(problem, 160)}") from None


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = _checked(loader)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _nodes(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return _checked(loader)
    finally:
        loader.dispose()


def _checked(loader: yaml.SafeLoader) -> yaml.Node | None:
    node: yaml.Node | None = loader.get_single_node()
    if node is not None:
        _check_nodes(node)
    return node


def _check_nodes(root: yaml.Node) -> None:
    """Refuse a field given twice, and aliases (a shared node), which could unfold without bound."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.ScalarNode):
            continue
        if id(node) in seen:
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not used here", problem_mark=node.start_mark)
        seen.add(id(node))
        pending.extend(node.value if not isinstance(node, yaml.MappingNode) else [
            part for pair in node.value for part in pair])
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        lines: dict[str, int] = {}
        for key in (key for key in keys if isinstance(key, yaml.ScalarNode)):
            if key.value in lines:
                problem = f"'{shortened(key.value)}' is given twice, first in line {lines[key.value]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1


def validate(model: type[SpecType], content: Mapping[str, Any], source: str) -> SpecType:
    """`content` as a `model`, its lists as tuples. Raises SpecError listing every problem as `source: path: what`."""
    try:
        return model.model_validate(_frozen(dict(content)))
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [f"{shortened(source)}: {_problem(model, detail)}" for detail in details[:_MOST_PROBLEMS]]
        raise SpecError("\n".join(dict.fromkeys(lines)), further=len(details[_MOST_PROBLEMS:])) from None
    except RecursionError:
        raise SpecError(f"{source}: nested too deeply") from None


def _frozen(value: Any) -> Any:
    """YAML has lists, frozen specs have tuples, and strict validation takes no list for a tuple."""
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value


def _problem(model: type[BaseModel], detail: Any) -> str:
    path = shortened(".".join(str(part) for part in detail["loc"] if part != "[key]"), _LONGEST_PATH)
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown field{suggestion(str(detail['loc'][-1]), _fields(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"{path}: missing"
    if detail["type"] in ("model_type", "dict_type"):
        known = listed(_fields(model, detail["loc"])) or "name: value"
        return f"{path}: expected fields ({known}), got {shown(detail['input'])}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    given = "" if isinstance(detail["input"], dict) else f" (got {shown(detail['input'])})"
    hint = _number_hint(detail["input"])
    return f"{path}: {message}{given}{hint}" if path else f"{message}{given}{hint}"


def _number_hint(value: object) -> str:
    """YAML 1.1 reads `940e6` as text: say how to write the number that was meant."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not abs(number) < 1e18:  # also infinities and not-a-number
        return ""
    written = f"{int(number):_} or " if number.is_integer() else ""
    return f"; YAML reads this as text: write {written}{_scientific(number)}"


def _scientific(number: float) -> str:
    """Scientific notation that YAML 1.1 takes for a number: a point in the mantissa, a sign in the exponent."""
    mantissa, exponent = f"{number:.15e}".split("e")
    digits = mantissa.rstrip("0")
    return f"{digits}{'0' if digits.endswith('.') else ''}e{int(exponent):+d}"


def _fields(model: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """Field names allowed at `location` inside `model`, following nested specs, optional ones, mappings and tuples."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = _inner(field.annotation) if field else None
        else:
            current = _inner(get_args(current)[-1] if get_origin(current) is not tuple else get_args(current)[0])
        if current is None:
            return ()
    return tuple(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else ()


def _inner(annotation: Any) -> Any:
    """The spec or container that an annotation allows besides None; None where it allows neither."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _inner(options[0]) if len(options) == 1 else None
    is_spec = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_spec or get_args(annotation) else None


def with_settings(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`content` with each `dotted.field=value` of `settings` replaced; values are written as in YAML.

    Raises SpecError on a setting without `=`, or one that reaches inside something that is no group of fields.
    """
    changed = dict(content)
    for setting in settings:
        path, equals, value = setting.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or not all(parts):
            raise SpecError(f"--set {shortened(setting)}: expected dotted.field=value")
        changed = _replace(changed, parts, _value(value, setting), setting)
    return changed


def _value(text: str, setting: str) -> Any:
    try:
        return _load(text)
    except _YAML_ERRORS:
        raise SpecError(f"--set {shortened(setting)}: '{shortened(text)}' is not a value") from None


def _replace(content: Mapping[str, Any], path: Sequence[str], value: Any, setting: str) -> dict[str, Any]:
    head, rest = path[0], path[1:]
    if not rest:
        return {**content, head: value}
    inner = content.get(head)
    if inner is not None and not isinstance(inner, Mapping):
        raise SpecError(f"--set {shortened(setting)}: '{shortened(head)}' is a value, not a group of fields")
    return {**content, head: _replace(inner or {}, rest, value, setting)}
