"""Strict, frozen values read from YAML: one base class, one loader, one error format.

Every file error names the file, the dotted path of the field, what was given and what is allowed, all problems of
one file at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascadesim.einsum_cascades.errors import SpecError, suggestion

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Spec(BaseModel):
    """Base of everything a YAML file describes: frozen, strict, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SpecType = TypeVar("SpecType", bound=Spec)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds. Raises SpecError if it cannot be read or holds something else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{path}: cannot be read: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path.name}: not valid YAML: {_yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path.name}: expected fields (name: value), got {type(content).__name__}")
    return content


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def validate(model: type[SpecType], content: Mapping[str, Any], source: str) -> SpecType:
    """`content` as a `model`. Raises SpecError listing every problem as `source: dotted.path: message`."""
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        lines = [f"{source}: {_problem(model, detail)}" for detail in error.errors()]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None


def _problem(model: type[BaseModel], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown field{suggestion(str(detail['loc'][-1]), _fields(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"{path}: missing"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    given = "" if isinstance(detail["input"], dict) else f" (got {detail['input']!r})"
    return f"{path}: {message}{given}" if path else f"{message}{given}"


def _fields(model: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """Field names allowed at `location` inside `model`, following nested specs."""
    for part in location:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def with_settings(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`content` with each `dotted.field=value` of `settings` replaced; values are YAML scalars or lists.

    Raises SpecError on a setting without `=`, or one that reaches inside something that is no group of fields.
    """
    changed = dict(content)
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise SpecError(f"--set {setting}: expected dotted.field=value")
        changed = _replace(changed, path.strip().split("."), _scalar(value, setting), setting)
    return changed


def _scalar(value: str, setting: str) -> Any:
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SpecError(f"--set {setting}: '{value}' is not a value") from None


def _replace(content: Mapping[str, Any], path: Sequence[str], value: Any, setting: str) -> dict[str, Any]:
    head, rest = path[0], path[1:]
    if not rest:
        return {**content, head: value}
    inner = content.get(head, {})
    if not isinstance(inner, Mapping):
        raise SpecError(f"--set {setting}: '{head}' is a value, not a group of fields")
    return {**content, head: _replace(inner, rest, value, setting)}
