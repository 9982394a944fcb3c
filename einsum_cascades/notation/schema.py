"""Files that a user names, read whole and once: text, arrays (`.npy`, `.npz`), and YAML as strict, frozen values.

The only place that opens a file given on the command line or to a reader. A file larger than anything it could rightly
hold is refused by its size; a pipe or a device, which has none, is read up to the limit and no further. What the header
of an array promises is compared with what the file can hold before memory is taken, so a damaged header or a bomb costs
nothing. Every error in YAML names the file, the dotted path of the field, what was given and what is allowed, all
problems of one file at once. Duplicate fields, anchors and aliases are refused: a file says what it means once and in
place.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Annotated, Any, TypeVar, Union, get_args, get_origin

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, shown, suggestion

LARGEST_DESCRIPTION_BYTES = 2**20  # assumed: 100 times the longest workload, space or cascade that comes along
LARGEST_TABLE_BYTES = 2**26  # assumed: 64 MiB, half a million rows of a trace or of measurements
LARGEST_ARRAY_BYTES = 2**29  # assumed: 512 MiB; the attention maps of 12 layers of 12 heads at 512 tokens take 302 MB
_PIECE_BYTES = 2**20
MOST_BYTES = 4 * LARGEST_ARRAY_BYTES  # of one file, unpacked; assumed: attention maps do not shrink by more
_DEFLATED_AT_MOST = 1032  # times: what DEFLATE can shrink a run of equal bytes to (zlib, technical details)
_HEADERS: Mapping[tuple[int, int], Callable[[IO[bytes]], tuple[Any, ...]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What NumPy, zipfile and zlib raise on damaged files: there is no narrower family.
_DAMAGED = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, OSError, RuntimeError, SyntaxError,
    MemoryError, TokenError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


def read_text(path: Path | str, most_bytes: int = LARGEST_DESCRIPTION_BYTES) -> str:
    """The text of a file in UTF-8, without the mark that editors on Windows write in front; line ends as `\\n`.

    Raises SpecError if it cannot be read, is larger than `most_bytes`, or is no UTF-8 text.
    """
    try:
        with io.TextIOWrapper(io.BytesIO(read_bytes(path, most_bytes)), encoding="utf-8-sig") as text:
            return text.read()
    except UnicodeDecodeError:
        raise SpecError(f"{path}: cannot be read: not UTF-8 text") from None


def read_bytes(path: Path | str, most_bytes: int) -> bytes:
    """What a file holds. Raises SpecError if it cannot be read or is larger than `most_bytes`."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_size > most_bytes:
                raise _too_large(path, f"{found.st_size:,} bytes", most_bytes)
            pieces, left = [], most_bytes + 1
            while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):  # as much memory as the file has bytes
                pieces.append(piece)
                left -= len(piece)
            content = b"".join(pieces)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a zero byte in the name
        raise SpecError(f"{path}: cannot be read: not the name of a file") from None
    if len(content) > most_bytes:
        raise _too_large(path, f"more than {most_bytes:,} bytes", most_bytes)
    return content


def _too_large(path: Path | str, given: str, most_bytes: int) -> SpecError:
    return SpecError(f"{path}: cannot be read: {given}; give a file of at most {most_bytes // 2**20} MiB")


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a `.npz` by name, or the one of a `.npy` under "". Raises SpecError."""
    content = read_bytes(path, LARGEST_ARRAY_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's parser, which NumPy asks to read headers
            if not content.startswith(b"PK"):
                return {"": _array(io.BytesIO(content), len(content))}
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return dict(_members(archive))
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise SpecError(f"{path}: cannot be read as .npy or .npz: {shortened(reason, 120)}") from None


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, NDArray[np.generic]]]:
    left = MOST_BYTES
    for member in archive.infolist():
        left -= member.file_size
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename}: packed in a way that NumPy does not write")
        if left < 0 or member.file_size > _DEFLATED_AT_MOST * member.compress_size:
            raise ValueError(f"{member.filename}: {member.file_size:,} bytes of {member.compress_size:,} packed ones")
        with archive.open(member) as stream:
            yield member.filename.removesuffix(".npy"), _array(stream, member.file_size)


def _array(stream: IO[bytes], size: int) -> NDArray[np.generic]:
    """`size`: bytes of the stream. Raises ValueError, or what NumPy raises, unless they are one array."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, by_columns, dtype = _HEADERS[version](stream)
    promised, held = prod(shape) * dtype.itemsize, size - stream.tell()
    if any(side < 0 for side in shape) or promised != held or held > MOST_BYTES:
        raise ValueError(f"{promised:,} bytes of {dtype} promised, {held:,} in it")
    return np.frombuffer(stream.read(held), dtype).reshape(shape, order="F" if by_columns else "C")


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
    """`content` with each `dotted.field=value` of `settings` replaced; values are written as in YAML, or with units.

    Raises SpecError on a setting without `=`, or one that reaches inside something that is no group of fields.
    """
    changed = dict(content)
    for setting in settings:
        path, equals, value = setting.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or not all(parts):
            raise SpecError(f"--set {shortened(setting)}: expected dotted.field=value")
        changed = replaced(changed, parts, _value(value, ".".join(parts), setting), f"--set {shortened(setting)}")
    return changed


def _value(text: str, field: str, setting: str) -> Any:
    from cascadesim.einsum_cascades.notation.units import number_of  # only where something is set

    number = number_of(text, field)
    try:
        return _load(text) if number is None else number
    except _YAML_ERRORS:
        raise SpecError(f"--set {shortened(setting)}: '{shortened(text)}' is not a value") from None


def replaced(content: Mapping[str, Any], path: Sequence[str], value: Any, where: str) -> dict[str, Any]:
    """`content` with the field at `path` replaced. Raises SpecError that starts with `where` if there is no group."""
    head, rest = path[0], path[1:]
    if not rest:
        return {**content, head: value}
    inner = content.get(head)
    if inner is not None and not isinstance(inner, Mapping):
        raise SpecError(f"{where}: '{shortened(head)}' is a value, not a group of fields")
    return {**content, head: replaced(inner or {}, rest, value, where)}


def dotted(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a file by its dotted path, with its value."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
