"""What a spatial array is made of: arrays of processing elements, register files, a buffer, a DRAM channel.

Frozen, strict values read from YAML presets. Knows sizes, what an operation costs in cycles and which operations a
point of an Einsum asks of an array; knows no mapping and no energy. FuseMax (MICRO'24), section V; FLAT (ASPLOS'23).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Apply, Einsum, Expression, Select
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.notation.schema import NonNegative, NonNegativeFloat, Positive, Spec

# assumed: no silicon is slower or faster by far; beyond, counts of cycles lose their meaning in floating point
ClockHz = Annotated[float, Field(ge=1e6, le=1e11)]
MOST_BYTES_PER_S = 1e16
BandwidthBytesPerS = Annotated[float, Field(ge=1e6, le=MOST_BYTES_PER_S)]
OperationCycles = Annotated[int, Field(gt=0, le=2**16)]  # assumed: a division in microcode takes hundreds


CLASSES = ("mac", "add", "max", "exp", "divide", "sqrt", "log", "tanh", "erf", "sin", "cos", "round")
# Operations that a unit has not are made of those that it has, good to half precision (11 bits), as wide as the words.
MADE_OF: Mapping[str, Mapping[str, int]] = MappingProxyType({
    # assumed: linear seed on the mantissa (error < 4 %), two Newton steps (y + x/y) / 2 (each squares the error)
    "sqrt": {"mac": 3, "divide": 2},
    # assumed: exponent plus a polynomial of the mantissa, of degree 5 as FuseMax's exponential (section V)
    "log": {"mac": 6, "add": 1},
    # assumed: 1 - 2 / (exp(2x) + 1), exact
    "tanh": {"exp": 1, "add": 1, "mac": 2, "divide": 1},
    # assumed: Abramowitz and Stegun 7.1.25 (error < 2.5e-5): 1 - (a1 t + a2 t^2 + a3 t^3) exp(-x^2), t = 1 / (1 + p x)
    "erf": {"mac": 6, "divide": 1, "exp": 1},
    # assumed: range reduction in two multiply-accumulates, odd polynomial of degree 5
    "sin": {"mac": 6},
    # assumed: range reduction in two multiply-accumulates, even polynomial of degree 6
    "cos": {"mac": 6},
})
OWN_NAMES = frozenset({"dram", "global_buffer", "accumulators", "array_2d", "array_1d", "registers"})
_ON_ARRAYS: Mapping[str, str] = {"multiply": "mac", "min": "max", "compare": "max"}


class Operations(Spec):
    """Cycles that one processing element spends on one operation of each class; an absent class it cannot do.

    Functions beside the exponential are made of other operations where they are absent (`MADE_OF`); they have
    no sourced energy and area.

    `exp_by`: an exponential is either a sequence of `exp` multiply-accumulates, or one trip through a unit of its own.
    `exp_subtracts`: the exponential takes `x - y`, so that the subtraction costs no cycle of its own.
    """

    mac: OperationCycles | None = None
    add: OperationCycles | None = None
    max: OperationCycles | None = None
    exp: OperationCycles | None = None
    divide: OperationCycles | None = None
    sqrt: OperationCycles | None = None
    log: OperationCycles | None = None
    tanh: OperationCycles | None = None
    erf: OperationCycles | None = None
    sin: OperationCycles | None = None
    cos: OperationCycles | None = None
    round: OperationCycles | None = None
    exp_by: Literal["mac", "unit"] = "unit"
    exp_subtracts: bool = False

    @property
    def cycles(self) -> dict[str, int]:
        """The classes that the element can do -> cycles."""
        found = {name: getattr(self, name) for name in CLASSES}
        return {name: cycles for name, cycles in found.items() if cycles is not None}

    def charged(self, operations: Mapping[str, int], differences: int) -> dict[str, int]:
        """Drop what costs no cycle: of additions, the `differences` that go straight into exponentials may be part of
        them."""
        counts = dict(operations)
        if self.exp_subtracts and differences:
            counts["add"] = counts.get("add", 0) - differences
        return {name: count for name, count in counts.items() if count > 0}

    def cycles_of(self, operations: Mapping[str, int], differences: int) -> int:
        """Count the cycles of one element for the operations of one point, all of which it can do."""
        return sum(count * self.cycles[name] for name, count in self.charged(operations, differences).items())

    @model_validator(mode="after")
    def _exponentials_need_macs(self) -> Self:
        if self.exp is not None and self.exp_by == "mac" and self.mac is None:
            raise ValueError("exp_by: mac needs the operation mac")
        if self.exp_subtracts and self.exp is None:
            raise ValueError("exp_subtracts needs the operation exp")
        return self


class PeArray(Spec):
    """A systolic array: operands enter at the left and the top and move one element per cycle."""

    rows: Positive
    columns: Positive
    register_words_per_pe: Positive
    operations: Operations

    @property
    def elements(self) -> int:
        return self.rows * self.columns

    @property
    def mac_cycles(self) -> int:
        """Cycles of one multiply-accumulate."""
        return self.operations.mac or 1


class FoldedPeArray(PeArray):
    """A 2D array that may work fold by fold: what it keeps is loaded, the rest streams by, and the next fold waits.

    `stationary`: of a product, its output or its last operand (the weights); None: neighbouring folds overlap.
    A fold of outputs takes rows + columns + streamed - 2 cycles, one of weights as many as rows more; those that use
    part of the array take as long (SCALE-Sim, arXiv 1811.02883, section III). `count`: so many arrays, alike, that work
    on one Einsum together: a rank is dealt over them. Without registers a sum lies in the buffer while it is added up.
    """

    register_words_per_pe: NonNegative
    stationary: Literal["output", "weights"] | None = None
    count: Positive = 1

    @property
    def elements(self) -> int:
        return self.rows * self.columns * self.count

    @property
    def exposed_cycles(self) -> int:
        """Cycles of a fold in which nothing new streams in: loads, skew and drain."""
        return (2 if self.stationary == "weights" else 1) * self.rows + self.columns - 2


class VectorArray(Spec):
    """A row of lanes that works on one vector at a time."""

    lanes: Positive
    register_words_per_lane: Positive
    operations: Operations


class Buffer(Spec):
    """An SRAM that moves at most one row per port and cycle."""

    capacity_bytes: Positive
    row_bytes: Positive
    ports: Positive

    @property
    def bytes_per_cycle(self) -> int:
        """Bytes that all ports move at once."""
        return self.ports * self.row_bytes

    @model_validator(mode="after")
    def _holds_a_row(self) -> Self:
        if self.row_bytes > self.capacity_bytes:
            raise ValueError(f"row_bytes ({self.row_bytes}) exceed capacity_bytes ({self.capacity_bytes})")
        return self


class OnChipMemory(Buffer):
    """A memory on the chip between DRAM and the buffer; tensors that it does not keep pass it by."""

    name: str


def _in_order(given: Mapping[str, Buffer]) -> tuple[OnChipMemory, ...]:
    return tuple(OnChipMemory(name=name, **memory.model_dump()) for name, memory in given.items())


def _by_name(memories: tuple[OnChipMemory, ...]) -> dict[str, object]:
    return {each.name: each.model_dump(exclude={"name"}) for each in memories}


if TYPE_CHECKING:
    Memories: TypeAlias = tuple[OnChipMemory, ...]
else:  # in a YAML each by its name
    _Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    Memories = Annotated[dict[_Name, Buffer], AfterValidator(_in_order), PlainSerializer(_by_name)]


class Dram(Spec):
    bandwidth_bytes_per_s: BandwidthBytesPerS


class SpatialArray(Spec):
    """A 2D array for tensor products, a 1D array for row statistics, one shared buffer, one DRAM channel.

    `memories`: others on the chip, from DRAM inwards to the buffer. `accumulators`: where the 2D array keeps what it
    makes, instead of the buffer.
    `leakage_w_per_um2`: static power per area, for physical accounting only; no source gives one, so the presets
    say 0 (`assumed:` there).
    """

    has_memories: ClassVar[bool] = False  # published mappings know none between DRAM and the buffer

    architecture: str  # the folder of accelerators/ that plans for it
    clock_hz: ClockHz
    word_bytes: Positive
    pe_array: PeArray
    vector_array: VectorArray
    global_buffer: Buffer
    dram: Dram
    memories: Memories = ()
    accumulators: Buffer | None = None
    leakage_w_per_um2: NonNegativeFloat = 0.0
    technology_nm: Positive = 45  # prices of energy and area are of 45 nm (energy.py); other nodes have none

    @property
    def buffer_words(self) -> int:
        return self.words_of(self.global_buffer)

    @property
    def dram_bytes_per_cycle(self) -> float:
        return self.dram.bandwidth_bytes_per_s / self.clock_hz

    @property
    def other_memories(self) -> tuple[OnChipMemory, ...]:
        """All on the chip but the buffer, by name."""
        return (*self.memories, *(_in_order({"accumulators": self.accumulators}) if self.accumulators else ()))

    @property
    def on_chip_bytes(self) -> int:
        return sum(each.capacity_bytes for each in (self.global_buffer, *self.other_memories))

    def from_buffer(self) -> tuple[Self, ...]:
        """The array as it is, and where it has memories also without them, as its buffer sees it: DRAM as fast as it
        is, and as the next memory is."""
        if not self.memories:
            return (self,)
        near = Dram(bandwidth_bytes_per_s=min(self.memories[-1].bytes_per_cycle * self.clock_hz, MOST_BYTES_PER_S))
        return self, *(self.model_copy(update={"memories": (), "dram": dram}) for dram in (self.dram, near))

    def memory(self, name: str) -> OnChipMemory:
        """The memory of that name between DRAM and the buffer. Raises StopIteration where there is none."""
        return next(each for each in self.memories if each.name == name)

    def words_of(self, memory: Buffer) -> int:
        """Words that a memory holds."""
        return memory.capacity_bytes // self.word_bytes

    @model_validator(mode="after")
    def _memories_have_names(self) -> Self:
        names = {each.name for each in self.memories}
        if taken := sorted(names & OWN_NAMES):
            raise ValueError(f"memories: {', '.join(taken)} names another part of the array, too")
        if self.other_memories and not self.has_memories:
            raise ValueError("memories and accumulators: only arrays that are mapped throughout have some "
                             "(architecture: mapped_array)")  # fmt: skip
        return self


def point_operations(einsum: Einsum) -> Counter[str]:
    """Count operations per point in the classes that arrays do: a product alone takes a MAC, a minimum a comparison."""
    counts: Counter[str] = Counter()
    for charge in charges(einsum):
        counts.update(on_arrays(charge.operations))
    return counts


def differences_of_exponentials(expression: Expression) -> int:
    """Count the differences that go straight into an exponential; sigmoid(x - y) is 1 / (1 + exp(y - x))."""
    match expression:
        case Apply(operator=name, operands=operands):
            own = name in ("exp", "sigmoid") and isinstance(operands[0], Apply) and operands[0].operator == "subtract"
            return own + sum(map(differences_of_exponentials, operands))
        case Select(value=value, otherwise=otherwise):
            return differences_of_exponentials(value) + differences_of_exponentials(otherwise)
    return 0


def on_arrays(operations: Mapping[str, int]) -> Counter[str]:
    """Operations in the classes of `passes` become operations in the classes that arrays do."""
    counts: Counter[str] = Counter()
    for name, count in operations.items():
        counts[_ON_ARRAYS.get(name, name)] += count
    return counts


def in_classes_of(array: Operations, operations: Mapping[str, int], where: str) -> Counter[str]:
    """Count `operations` in the classes that the array does. Raises CascadeSimError on one it cannot do at all."""
    counts: Counter[str] = Counter()
    for name, count in operations.items():
        if name in array.cycles:
            counts[name] += count
        elif name in MADE_OF:
            for part, times in in_classes_of(array, MADE_OF[name], where).items():
                counts[part] += times * count
        else:
            raise CascadeSimError(f"{where}: no unit does '{name}'; it does {', '.join(array.cycles)}")
    return counts
