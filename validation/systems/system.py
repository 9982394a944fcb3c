"""Systems of the claims ledger as data: what each does, the parts that its figures are made of, and which figure is
which sum of parts.

One YAML a system, in `catalogue/`. A rule says of the rows it is `for` (columns -> regular expressions, which match
the whole cell) that the figure `is` an expression of parts, of columns of the row, of tables of published facts and of
numbers that the expressions name in the row's texts (`(?P<budget>[0-9]+) tokens`). Or it says why there is no
prediction: `lacks` a parameter that the publication does not state, `missing` a mechanism that we do not have, `later`
for what waits for another piece of work. The first rule that matches a row holds. A file that names what is not there,
or states what no rule reads, is refused. Nothing here predicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, model_validator

from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.accelerators.gpu.kernel import BLOCK_SPARSE_FACTOR
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.schema import Spec, read_yaml, validate
from cascadesim.simulator.explore.expressions import parse_expression
from cascadesim.validation.systems.claim_row import NAMES, ClaimRow

FOLDER = Path(__file__).parent / "catalogue"
Number: TypeAlias = str | int | float  # a figure, or an expression of the names above
WORD = re.compile(r"\{(\w+)\}")  # in a text, a name whose number stands there

# How much longer a kernel takes than FlashAttention-2, on A100, with heads of 128 or of 64 (FlashAttention-2, arXiv
# 2307.08691, figures 4 to 7, TFLOP/s without a mask at 16,384 tokens, and with a causal one at 16,384 or 8,192)
KERNEL_FACTORS: Mapping[str, float] = {  # expressions name them
    # xFormers' kernel, which scaled_dot_product_attention has, too
    "memory_efficient_128": (223 / 122 + 197 / 117) / 2, "memory_efficient_64": (192 / 98 + 181 / 94) / 2,
    # of tiles that come from a list (`accelerators.gpu.kernel`, where it is said why)
    "flex_attention": BLOCK_SPARSE_FACTOR,
}  # fmt: skip
SHARED: Mapping[str, float] = {**KERNEL_FACTORS, "eager_launch_s": find_engine("pytorch").host_launch_s}


class AttentionCall(Spec):
    """One attention call of one layer, in seconds. What is left out is the row's own.

    `pattern`: a text in which `{name}` stands for a number; `operations`: of those that a layer with the pattern runs,
    the names that this matches (`pattern_…` choose and move). `engine`: whose kernels it takes.
    """

    batch: Number = "batch"
    heads: Number = "heads"
    kv_heads: Number = "kv_heads"
    head_dim: Number = "head_dim"
    value_dim: Number | None = None
    queries: Number = "seq_len"
    keys: Number = "seq_len"
    causal: bool | None = None
    pattern: str | None = None
    operations: str = "attention"
    kernel: str = "auto"
    engine: str = "none"
    cascade: str | None = None


class ModelRun(Spec):
    """A whole model: a prompt or one step. `workload`: one of the system's own, or the name of one."""

    workload: str
    settings: tuple[str, ...] = ()
    phase: str = "prefill"
    tokens: Number = "seq_len"
    batch: Number = "batch"
    engine: str = "none"
    devices: Number = "devices"


class MemoryPass(Spec):
    """A kernel that reads and writes so many bytes; `by_index`: rows that are copied by index.

    `in_tiles`: an operand of an attention kernel beside keys and values, of which each tile waits for its own: as fast
    as attention reads DRAM, without a launch.
    """

    reads: Number
    writes: Number = 0
    by_index: bool = False
    in_tiles: bool = False


class ProductCall(Spec):
    """A product of `rows` x `depth` and `depth` x `outputs`, `copies` times."""

    rows: Number
    depth: Number
    outputs: Number
    copies: Number = 1


class Flops(Spec):
    """Multiplies and adds of a model's products and attention: `of` attention or the rest of it, one forward pass."""

    workload: str
    of: str
    tokens: Number = "seq_len"
    settings: tuple[str, ...] = ()


class Part(Spec):
    """Exactly one of these; `does` says in a few words what it is.

    `fusemax`: a quantity of FuseMax's headlines, the mean over its models and lengths.
    """

    does: str
    attention: AttentionCall | None = None
    model: ModelRun | None = None
    passes: MemoryPass | None = None
    product: ProductCall | None = None
    flops: Flops | None = None
    fusemax: str | None = None
    number: Number | None = None

    @model_validator(mode="after")
    def _one(self) -> Part:
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}; got {', '.join(kinds) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        return next(name for name in KINDS if getattr(self, name) is not None)


KINDS = ("attention", "model", "passes", "product", "flops", "fusemax", "number")


class Lookup(Spec):
    """Published facts by a column of the row, with their source."""

    by: str
    source: str
    values: Mapping[int | str, float]


class Rule(Spec):
    """What is predicted of the rows that `when` matches, or why nothing is: exactly one of the four.

    `when`: column -> a regular expression that matches its whole cell. `fitted`: a number that the prediction reads was
    taken from these rows, so that they say nothing of its accuracy.
    """

    when: Mapping[str, str]
    predict: str | None = None
    lacks: str | None = None
    missing: str | None = None
    later: str | None = None
    fitted: bool = False

    @model_validator(mode="after")
    def _one(self) -> Rule:
        if sum(answer is not None for answer in (self.predict, self.lacks, self.missing, self.later)) != 1:
            raise ValueError("give one of predict, lacks, missing, later")
        for column, pattern in self.when.items():
            if column not in NAMES:
                raise ValueError(f"when.{column}: no such column; there are {', '.join(NAMES)}")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"when.{column}: not a regular expression: {error}") from None
        return self

    @property
    def named(self) -> frozenset[str]:
        """The numbers that its expressions name in the texts of a row."""
        return frozenset(name for pattern in self.when.values() for name in re.compile(pattern).groupindex)

    def names_in(self, row: ClaimRow) -> Mapping[str, str] | None:
        """Those numbers in a row that it matches; None for another row."""
        found: dict[str, str] = {}
        for column, pattern in self.when.items():
            cell = getattr(row, column)
            match = re.fullmatch(pattern, "" if cell is None else str(cell), re.DOTALL)
            if match is None:
                return None
            found |= {name: text for name, text in match.groupdict().items() if text is not None}
        return found


class System(Spec):
    """`does`: the mechanism in one sentence. `pattern`: as `cascadesim gna --pattern` takes it, where it has one.

    `workloads`: fields of models that the project does not have; `{name}` in them stands for a number of the row.
    """

    name: str
    does: str
    source: str
    pattern: str | None = None
    tables: Mapping[str, Lookup] = {}
    workloads: Mapping[str, Mapping[str, Any]] = {}
    parts: Mapping[str, Part] = {}
    rows: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> System:
        problems = [*self._unknown(), *self._unread()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unknown(self) -> Iterator[str]:
        """Expressions that name what there is not."""
        common = {*self.parts, *self.tables, *NAMES, *SHARED}
        anywhere = common.union(*(rule.named for rule in self.rows))
        stated = [("rows", rule.predict, common | rule.named) for rule in self.rows if rule.predict is not None]
        stated += [(f"parts.{name}", text, anywhere)
                   for name, part in self.parts.items() for text in _expressions(part)]  # fmt: skip
        for where, text, known in stated:
            try:
                parse_expression(text, dict.fromkeys(known, "number"), where)
            except CascadeSimError as error:
                yield str(error)
        for name, part in self.parts.items():
            texts = [part.attention.pattern or ""] if part.attention else []
            yield from (f"parts.{name}: no number {word}" for text in texts for word in WORD.findall(text)
                        if word not in anywhere)  # fmt: skip

    def _unread(self) -> Iterator[str]:
        """Parts, tables and workloads that no rule reads."""
        read = {name for rule in self.rows for name in names_of(rule.predict or "")}
        waiting = [name for name in self.parts if name in read]
        while waiting:
            part = self.parts[waiting.pop()]
            texts = [*_expressions(part), *WORD.findall(part.attention.pattern or "" if part.attention else "")]
            run = part.model or part.flops
            own = self.workloads.get(run.workload, {}) if run else {}
            found = {name for text in texts for name in names_of(text)} | {*WORD.findall(str(own))}
            waiting += [name for name in found - read if name in self.parts]
            read |= found | ({run.workload} if run else set())
        for kind, names in (("parts", self.parts), ("tables", self.tables), ("workloads", self.workloads)):
            yield from (f"{kind}.{name}: no rule reads it" for name in names if name not in read)


_NAME = re.compile(r"[A-Za-z_]\w*")


def names_of(text: str) -> tuple[str, ...]:
    """What an expression names, in order, each once; functions are among them."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def _expressions(part: Part) -> Iterator[str]:
    """All expressions of a part."""
    for each in (part, *(getattr(part, kind) for kind in KINDS)):
        if isinstance(each, BaseModel):
            yield from (value for name, field in type(each).model_fields.items()
                        if field.annotation in (Number, Number | None)
                        and isinstance(value := getattr(each, name), str))  # fmt: skip


@cache
def systems() -> Mapping[str, System]:
    """Name -> system, in alphabetical order."""
    found = (read_system(path) for path in sorted(FOLDER.glob("*.yaml")))
    return {system.name: system for system in sorted(found, key=lambda each: each.name.lower())}


def read_system(path: Path) -> System:
    """Raises SpecError with every problem of the file."""
    return validate(System, read_yaml(path), path.name)


def find_system(name: str) -> System:
    """A system by its name, in any case. Raises UnknownNameError."""
    known = {each.lower(): system for each, system in systems().items()}
    if name.lower() not in known:
        raise UnknownNameError("system", name, tuple(systems()))
    return known[name.lower()]


class CannotPredict(CascadeSimError):
    """Why a figure has no prediction. `kind`: lacks, missing or later, as in a rule."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
