"""Einsums that were written for TeAAL or AccelForge, as cascades in our notation.

TeAAL (Nayak et al., MICRO'23): `einsum: expressions:` is a list of texts `Z[m, n] = a * A[g * m + k] * B[k, n]`, in
which names without indices are scalars and a name times a rank is a number. AccelForge: `workload: einsums:` has texts
or lists of tensor accesses; a dimension is known by its name, which is that of the rank unless the access says
otherwise (`K[b, M: p]`), so that its place is free. Only values that a file's own templates give are filled in.

Mappings, formats and sizes are left out. What the notation cannot say is refused at its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import LONGEST_LINE, parse
from cascadesim.einsum_cascades.notation.schema import read_text, yaml_nodes

_ACCESS = re.compile(r"([A-Za-z_]\w*+)\s*+\[([^\[\]]*+)\]")
_ROLE = re.compile(r"([A-Za-z_]\w*+)\s*+\(\s*+\w++\s*+\)\s*+(?=\[)")  # AccelForge: Q(input)[b,m]
_COPY = re.compile(r"\bcopy\s*+\(([^()]*+)\)")
_SUM = re.compile(r"\s*+sum\s*+\([\w\s,]*+\)\s*+\.\s*+\((.*)\)\s*+")  # TeAAL, before 2023: sum(K).(A[k,m] * B[k,n])
_RENAMED = re.compile(r"\s*+([A-Za-z_]\w*+)\s*+[:=](.*)")
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*+")
_SCALED = re.compile(r"(?<![\w.])([A-Za-z_]\w*+)\s*+\*\s*+([A-Za-z_]\w*+)")
_SET = re.compile(r"\s*+\{%-?\s*+set\s++(\w++)\s*+=\s*+(?:\w++\s*+\|\s*+default\()?"
                  r"([\w.]++|\"\w*+\"|'\w*+')\)?\s*+-?%\}\s*+")
_UNKNOWN_SET = re.compile(r"\s*+\{%-?\s*+set\s[^%]*+%\}\s*+")
_VALUE = re.compile(r"\{\{([^{}]*+)\}\}")
_RENDER = "give the file as its templates render it"
_MAPS = {"multiply": "*", "mul": "*", "add": "+", "subtract": "-", "sub": "-", "divide": "/", "div": "/"}
_REDUCTIONS = {"add": "=", "sum": "=", "max": "max=", "min": "min="}


@dataclass(frozen=True, slots=True)
class _Line:
    """An Einsum as our notation may write it, and the line of the file that has it."""

    number: int
    text: str


def read_foreign(path: Path | str) -> Cascade:
    """The cascade in a YAML file of TeAAL or AccelForge, named after the file.

    Raises SpecError if it cannot be read or is neither, NotationError where the notation cannot say what is in it.
    """
    path = Path(path)
    return foreign(read_text(path), path.name)


def foreign(text: str, source: str) -> Cascade:
    """Reads as `read_foreign` does; `source` names the text in errors."""
    root = yaml_nodes(_rendered(text, source), source)
    teaal, accelforge = _inside(root, "einsum", "expressions"), _inside(root, "workload", "einsums")
    if teaal is not None:
        lines = list(_teaal(_items(teaal, source), source))
    elif accelforge is not None:
        lines = list(_AccelForge(source).lines(_items(accelforge, source)))
    else:
        raise SpecError(f"{source}: neither TeAAL's 'einsum: expressions:' nor AccelForge's 'workload: einsums:'")
    placed: list[str] = []
    for line in lines:  # each on its own line of the file, so that errors point there
        placed += [""] * (line.number - 1 - len(placed)) + [line.text]
    found = parse(source, "\n".join(placed))
    return replace(found, name=Path(source).stem, text="\n".join(line.text for line in lines))


def _rendered(text: str, source: str) -> str:
    """The text with `{{NAME}}` as `{% set NAME = NAME | default(VALUE) %}` says; elsewhere than in Einsums, 0."""
    known: dict[str, str] = {}
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise SpecError(f"{source}, line {number}: line longer than {LONGEST_LINE} characters")
        given = _SET.fullmatch(line)
        if given is not None:
            known[given.group(1)] = given.group(2).strip("'\"")
        elif "{%" in line and not _UNKNOWN_SET.fullmatch(line):
            raise SpecError(f"{source}, line {number}: {shortened(line.strip(), 40)} is a template: {_RENDER}")
        lines.append("" if "{%" in line else _filled(line, known, f"{source}, line {number}"))
    return "\n".join(lines)


def _filled(line: str, known: Mapping[str, str], place: str) -> str:
    for match in _VALUE.finditer(line):
        elsewhere = line.replace(match.group(), "")
        if match.group(1).strip(" -") not in known and ("[" in elsewhere or not elsewhere.strip()):
            raise SpecError(f"{place}: {shortened(match.group(), 40)} has no value here: {_RENDER}")
    return _VALUE.sub(lambda match: known.get(match.group(1).strip(" -"), "0"), line)


def _inside(node: yaml.Node | None, *names: str) -> yaml.Node | None:
    """The node at a path of fields."""
    for name in names:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in pairs if key.value == name), None)
    return node


def _items(node: yaml.Node, source: str) -> Sequence[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise SpecError(f"{source}, line {node.start_mark.line + 1}: expected a list of Einsums")
    return list(node.value)


def _text(node: yaml.Node | None, place: str, what: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise SpecError(f"{place}: expected {what}, as text")
    return " ".join(str(node.value).split())


def _number(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _teaal(items: Sequence[yaml.Node], source: str) -> Iterator[_Line]:
    texts = [_text(item, f"{source}, line {_number(item)}", "an Einsum") for item in items]
    accesses = [access for text in texts for access in _ACCESS.findall(text)]
    plain = {part.strip() for _, indices in accesses for part in indices.split(",")}
    tensors = {name for name, _ in accesses}
    for item, text in zip(items, texts, strict=True):
        left, equals, right = text.replace("<<=", "=").partition("=")
        summed = _SUM.fullmatch(right)
        if equals:
            left = _ACCESS.sub(lambda match: f"{match.group(1)}[{_indices(match.group(2), plain)}]", left)
            right = _scalars(summed.group(1) if summed else right, tensors, plain)
        yield _Line(_number(item), f"{left.strip()} {equals} {right.strip()}".strip())


def _indices(text: str, plain: Set[str]) -> str:
    """`g*x` becomes `G*x`: of a product of names, the one that is no index by itself is a number."""

    def scaled(match: re.Match[str]) -> str:
        first, second = match.groups()
        number, rank = (second, first) if first in plain and second not in plain else (first, second)
        return f"{number.upper()}*{rank}"

    return ",".join(_SCALED.sub(scaled, part).strip() for part in text.split(","))


def _scalars(right: str, tensors: Set[str], plain: Set[str]) -> str:
    """Names that stand alone become scalars: `a` is `A[]`, or `a[]` where A is a tensor."""

    def replaced(match: re.Match[str]) -> str:
        tensor, indices, name = match.groups()
        if tensor is not None:
            return f"{tensor}[{_indices(indices, plain)}]"
        return f"{name if name.upper() in tensors else name.upper()}[]"

    return re.sub(rf"{_ACCESS.pattern}|({_NAME.pattern})(?!\s*+[(\w])", replaced, right)


@dataclass(slots=True)
class _AccelForge:
    """Reads the Einsums of one workload; `dimensions` are those of each tensor, in the order of its first access."""

    source: str
    dimensions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spelt: dict[str, str] = field(default_factory=dict)  # of ranks: nA is na

    def lines(self, items: Sequence[yaml.Node]) -> Iterator[_Line]:
        for item in items:
            place = f"{self.source}, line {_number(item)}"
            whole = item if isinstance(item, yaml.ScalarNode) else _inside(item, "einsum")
            if whole is not None:
                text = self._from_text(_text(whole, place, "an Einsum"), place)
            else:
                text = self._from_accesses(item, place)
            copies = _inside(item, "is_copy_operation")
            if copies is not None and str(copies.value).lower() == "true":
                self._check_copy(text, place)
            yield _Line(_number(item), text)

    def _from_text(self, text: str, place: str) -> str:
        bare = _COPY.sub(r"\1", _ROLE.sub(r"\1", text))
        return _ACCESS.sub(lambda match: self._access(match.group(1), self._named(match.group(2)), place), bare)

    def _named(self, indices: str) -> list[tuple[str, str]]:
        """(dimension, index) of `b, M: p`."""
        found = []
        for part in filter(str.strip, indices.split(",")):
            renamed = _RENAMED.fullmatch(part)
            found.append((renamed.group(1), renamed.group(2)) if renamed else (part.strip().upper(), part))
        return found

    def _access(self, tensor: str, named: Sequence[tuple[str, str]], place: str) -> str:
        """A tensor at its indices, in the order of its dimensions where they are the same ones."""
        names = tuple(name for name, _ in named)
        order = self.dimensions.setdefault(tensor, names)
        if sorted(order) == sorted(names) and len(set(names)) == len(names):
            named = sorted(named, key=lambda pair: order.index(pair[0]))
        return f"{tensor}[{','.join(self._lower(index, place) for _, index in named)}]"

    def _lower(self, index: str, place: str) -> str:
        for name in _NAME.findall(index):
            if self.spelt.setdefault(name.lower(), name) != name:
                raise SpecError(f"{place}: ranks {self.spelt[name.lower()]} and {name} differ in capitals only")
        return "".join(index.lower().split())

    def _from_accesses(self, item: yaml.Node, place: str) -> str:
        """An Einsum as a list of accesses: the output, and the inputs joined by `map_op`, reduced by `reduce_op`."""
        accesses = _inside(item, "tensor_accesses")
        if not isinstance(accesses, yaml.SequenceNode):
            raise SpecError(f"{place}: expected an Einsum as text, or tensor_accesses")
        written: list[str] = []
        read: list[str] = []
        for access in accesses.value:
            tensor = _text(_inside(access, "name"), place, "the name of a tensor")
            output = _inside(access, "output")
            found = self._access(tensor, self._projection(_inside(access, "projection"), place), place)
            (written if output is not None and str(output.value).lower() == "true" else read).append(found)
        if len(written) != 1 or not read:
            raise SpecError(f"{place}: expected one output and some inputs, got {len(written)} and {len(read)}")
        joined = self._word(item, "map_op", _MAPS, "multiply", place)
        return f"{written[0]} {self._word(item, 'reduce_op', _REDUCTIONS, 'add', place)} {f' {joined} '.join(read)}"

    def _projection(self, node: yaml.Node | None, place: str) -> list[tuple[str, str]]:
        if isinstance(node, yaml.SequenceNode):
            parts = [_text(part, place, "an index") for part in node.value]
            return [(part.upper(), part) for part in parts]
        if isinstance(node, yaml.MappingNode):
            return [(_text(name, place, "a rank"), _text(index, place, "an index")) for name, index in node.value]
        raise SpecError(f"{place}: expected a projection, such as [m, k] or {{M: m, H: p + r}}")

    def _word(self, item: yaml.Node, name: str, known: Mapping[str, str], default: str, place: str) -> str:
        node = _inside(item, name)
        word = default if node is None else _text(node, place, name)
        if word not in known:
            raise SpecError(f"{place}: {name} '{shortened(word)}' has no counterpart; known: {', '.join(known)}")
        return known[word]

    def _check_copy(self, text: str, place: str) -> None:
        """A copy has the ranks of its source; where AccelForge lets them differ, it leaves open what goes where."""
        ranks = [set(_NAME.findall(indices)) for _, indices in _ACCESS.findall(text)]
        for other in ranks[1:]:
            if other != ranks[0]:
                changed = ", ".join(sorted(other ^ ranks[0]))
                raise SpecError(f"{place}: a copy between tensors that differ in {changed} does not say which element "
                                f"goes where")
