"""The iterative construction: sums of exp(x - max x) become running sums that follow a running maximum.

FuseMax (MICRO'24), section III-C2; online softmax (Milakov and Gimelshein, 2018). `make_iterative` needs a maximum
over the rank, exponentials of differences to it, and sums that are linear in those. What needs the exponentials one
by one (softmax itself) keeps a second pass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cascadesim.einsum_cascades.analysis.passes import rank_group, rank_groups
from cascadesim.einsum_cascades.analysis.rewrites import NOTHING, defer_division, fresh_name, rebuilt, rewritten, split
from cascadesim.einsum_cascades.notation import ir
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened

LOWEST = ir.Constant(float("-inf"))
LOWEST_NUMBER = ir.Constant(-sys.float_info.max)  # where a first tile may be empty: exp(-inf - -inf) would be NaN


def rewritten_to(cascade: ir.Cascade, rewrite: str) -> ir.Cascade:
    """The cascade rewritten as a text says: `defer-division`, `split:RANK=EXTENT`, `online` or `online:RANK`.

    `online` by itself takes the rank that a maximum is taken over. Raises CascadeSimError where the text names no
    rewrite, where there is no such rank or several, and as the rewrites do.
    """
    name, colon, argument = rewrite.partition(":")
    rank, equals, extent = argument.partition("=")
    if name == "defer-division" and not colon:
        return defer_division(cascade)
    if name == "split" and rank and extent:
        return split(cascade, rank, extent)
    if name != "online" or equals:
        raise CascadeSimError(f"no rewrite '{shortened(rewrite)}'; give defer-division, split:RANK=EXTENT such as "
                              f"split:m=M0, online or online:RANK")
    reduced = {rank for einsum in cascade.einsums if einsum.reduction == "max" for rank in einsum.reduced_ranks}
    over = [rank] if rank else [each.name for each in rank_groups(cascade) if each.members & reduced]
    if len(over) != 1:
        raise CascadeSimError(f"{cascade.name}: online takes one rank that a maximum is taken over, and there are "
                              f"{len(over)}: {', '.join(over) or 'give another cascade'}")
    return make_iterative(cascade, over[0])


def make_iterative(cascade: ir.Cascade, rank: str) -> ir.Cascade:
    """Each maximum over the rank, and the sums that wait for it, in one pass. A split rank iterates over its tiles.

    Raises CascadeSimError where there is no such chain.
    """
    over = rank_group(cascade, rank)
    inner = set(over.inner)
    along = next((each for each in cascade.ranks if each in over.outer and each not in inner), rank)
    result = cascade
    maxima = [each for each in cascade.einsums if each.reduction == "max" and along in each.reduced_ranks]
    for maximum in maxima:
        chain = _Chain(result, along, result.einsum(maximum.name))
        if chain.sums:
            result = rewritten(result, f"{cascade.name}-iterative", chain.einsums())
    if result is cascade:
        raise CascadeSimError(f"{cascade.name}: nothing to make iterative along '{rank}': it takes a maximum over "
                              f"'{along}' (GM max= X), exponentials exp(X - GM), and sums of them over '{along}'")
    return result


@dataclass(slots=True)
class _Chain:
    """A maximum over `rank`, the tensors that are scaled by exp(-maximum), and their sums over the rank."""

    cascade: ir.Cascade
    rank: str
    maximum: ir.Einsum
    scaled: dict[str, ir.Access] = field(default_factory=dict)  # as they are written
    sums: list[str] = field(default_factory=list)
    late: set[str] = field(default_factory=set)  # what has its value only after the pass
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # of (tensor, form)

    def __post_init__(self) -> None:
        self.late.add(self.maximum.name)
        for einsum in self.cascade.einsums:
            linear = self._degree(einsum.expression) == 1 and einsum.reduction == "add" and not einsum.scatters
            own = set(self.maximum.output.ranks) <= set(einsum.output.ranks)  # each row keeps its own maximum
            if linear and own and self.rank in einsum.output.ranks:
                self.scaled[einsum.name] = einsum.output
            elif linear and own and self.rank in einsum.reduced_ranks:
                self.sums.append(einsum.name)
                self.late.add(einsum.name)
            elif any(each.tensor in self.late or each.tensor in self.scaled for each in einsum.inputs):
                self.late.add(einsum.name)
        held = {index.gather.tensor for index in self.cascade.indices if index.gather is not None}
        if held & {*self.late, *self.scaled}:
            self.sums.clear()  # coordinates that wait for the pass cannot run with it

    def _degree(self, expression: ir.Expression, where: frozenset[ir.Condition] = frozenset()) -> int | None:
        """How many factors exp(-maximum) an expression has under conditions; None where it is not so simple."""
        match expression:
            case ir.Access(tensor=tensor):
                if tensor in self.scaled:
                    return 1 if self.scaled[tensor] == expression else None
                return None if tensor in self.late else 0
            case ir.Apply(operator="exp", operands=(ir.Apply(operator="subtract", operands=(value, below)),)):
                if below == self.maximum.output and self._is_below(value, where):
                    return 1
            case ir.Apply(operator="multiply", operands=(left, right)):
                first, second = self._degree(left, where), self._degree(right, where)
                return None if first is None or second is None else first + second
            case ir.Apply(operator="divide", operands=(above, below)):
                return self._degree(above, where) if self._degree(below, where) == 0 else None
            case ir.Apply(operator="negate", operands=(operand,)):
                return self._degree(operand, where)
            case ir.Apply(operator="add" | "subtract", operands=(left, right)):
                degree = self._degree(left, where)
                return degree if degree == self._degree(right, where) else None
            case ir.Select(conditions=own, value=value, otherwise=otherwise):
                degree = self._degree(value, where | set(own))
                return degree if otherwise == NOTHING or degree == self._degree(otherwise, where) else None
        return None if any(self._degree(each) != 0 for each in ir.accesses(expression)) else 0

    def _is_below(self, value: ir.Expression, where: frozenset[ir.Condition]) -> bool:
        """Whether a value is one of those the maximum is taken of: then no exponential so far exceeds 1."""
        largest = self.maximum.expression
        return value == largest or (
            isinstance(largest, ir.Select) and value == largest.value and where >= set(largest.conditions))

    def einsums(self) -> Iterator[ir.Einsum]:
        """Initial states, one pass, and what comes after it."""
        conditional = any(True for einsum in self.cascade.einsums for _ in ir.conditions(einsum.expression))
        states = [(self.maximum, LOWEST_NUMBER if conditional else LOWEST)]
        states += [(self.cascade.einsum(name), NOTHING) for name in self.sums]
        for einsum, value in states:
            yield ir.Einsum(self._placed(einsum, "running", ir.Index()), "add", value)
        inside, after = self._parts()
        for einsum in inside:
            yield from self._running(einsum)
        yield from self._corrections()
        for name in self.sums:
            if name in self.cascade.outputs:
                result = self.cascade.einsum(name).output
                yield ir.Einsum(result, "add", self._final(result))
        for einsum in after:
            yield replace(einsum, expression=rebuilt(einsum.expression, self._final))

    def _parts(self) -> tuple[list[ir.Einsum], list[ir.Einsum]]:
        """Einsums inside the pass, and those that wait for its end."""
        inside, after = [], []
        for einsum in self.cascade.einsums:
            running = einsum is self.maximum or einsum.name in self.sums
            if running or self._summed(einsum.name) or not (einsum.name in self.late or einsum.name in self.scaled):
                inside.append(einsum)
            if not running and (einsum.name in self.late or self._needed_whole(einsum.name)):
                after.append(einsum)
        return inside, after

    def _readers(self, tensor: str) -> list[ir.Einsum]:
        return [einsum for einsum in self.cascade.einsums if any(each.tensor == tensor for each in einsum.inputs)]

    def _summed(self, tensor: str) -> bool:
        """Whether exponentials go into a running sum."""
        return tensor in self.scaled and any(
            reader.name in self.sums or self._summed(reader.name) for reader in self._readers(tensor))

    def _needed_whole(self, tensor: str) -> bool:
        """Whether someone needs exponentials one by one: a reader that is no running sum, or the user."""
        readers = self._readers(tensor)
        return tensor in self.scaled and (not readers or any(
            self._needed_whole(reader.name) if reader.name in self.scaled else reader.name not in self.sums
            for reader in readers))

    def _running(self, einsum: ir.Einsum) -> Iterator[ir.Einsum]:
        """The Einsum of one step of the pass."""
        expression = rebuilt(einsum.expression, self._local)
        if einsum.name in self.scaled:
            yield ir.Einsum(replace(einsum.output, tensor=self._name(einsum, "local")), "add", expression)
        elif einsum is self.maximum or einsum.name in self.sums:
            if len(einsum.reduced_ranks) > 1:
                yield ir.Einsum(self._at(einsum, "local", 0), einsum.reduction, expression)
            if einsum is self.maximum:
                yield ir.Einsum(self._at(einsum, "running", 1), "add",
                             ir.Apply("max", (self._at(einsum, "running", 0), self._step(einsum, expression))))
        else:
            yield einsum

    def _corrections(self) -> Iterator[ir.Einsum]:
        """What the earlier steps are now worth, and the running sums."""
        worth = self._at(self.maximum, "worth", 0)
        before, now = self._at(self.maximum, "running", 0), self._at(self.maximum, "running", 1)
        yield ir.Einsum(worth, "add", ir.Apply("exp", (ir.Apply("subtract", (before, now)),)))
        for name in self.sums:
            einsum = self.cascade.einsum(name)
            corrected = self._at(einsum, "corrected", 0)
            step = self._step(einsum, rebuilt(einsum.expression, self._local))
            yield ir.Einsum(corrected, "add", ir.Apply("multiply", (worth, self._at(einsum, "running", 0))))
            yield ir.Einsum(self._at(einsum, "running", 1), "add", ir.Apply("add", (corrected, step)))

    def _step(self, einsum: ir.Einsum, expression: ir.Expression) -> ir.Expression:
        """What a step adds: the local result where a step has a tile, otherwise the expression itself."""
        return self._at(einsum, "local", 0) if len(einsum.reduced_ranks) > 1 else expression

    def _local(self, access: ir.Access) -> ir.Expression:
        """A read inside the pass: exponentials so far, the maximum so far."""
        if access.tensor == self.maximum.name:
            return self._at(self.maximum, "running", 1)
        if access.tensor in self.scaled:
            return replace(access, tensor=self._name(self.cascade.einsum(access.tensor), "local"))
        return access

    def _final(self, access: ir.Access) -> ir.Access:
        """A read after the pass: the state after the last step."""
        if access.tensor == self.maximum.name or access.tensor in self.sums:
            maker = self.cascade.einsum(access.tensor)
            place = self._place(maker)
            indices = list(access.indices)
            indices.insert(place, ir.Index(offsets=(self.rank.upper(),)))
            return ir.Access(self._name(maker, "running"), tuple(indices))
        return access

    def _at(self, einsum: ir.Einsum, form: str, offset: int) -> ir.Access:
        return self._placed(einsum, form, ir.Index(((self.rank, 1),), (offset,) if offset else ()))

    def _placed(self, einsum: ir.Einsum, form: str, index: ir.Index) -> ir.Access:
        indices = list(einsum.output.indices)
        indices.insert(self._place(einsum), index)
        return ir.Access(self._name(einsum, form), tuple(indices))

    def _place(self, einsum: ir.Einsum) -> int:
        """The place of the rank among the indices of a result: behind those it follows in what is reduced."""
        source = next(access.ranks for access in einsum.inputs if self.rank in access.ranks)
        before = source[: source.index(self.rank)]
        return max((place + 1 for place, index in enumerate(einsum.output.indices) if set(index.ranks) & set(before)),
                   default=0)

    def _name(self, einsum: ir.Einsum, form: str) -> str:
        """The paper's letters: GM -> LM, RM, PRM; SD -> SLD, RD, SPD; others get theirs in front."""
        name = einsum.name
        known = len(name) > 1 and name[0] in "GS"
        rest = name[1:] if known else name
        sum_letter = "S" if known and name[0] == "S" else ""
        wanted = {"local": f"{sum_letter}L{rest}", "running": f"R{rest}", "worth": f"PR{rest}",
                  "corrected": f"{sum_letter}P{rest}"}[form]
        if (name, form) not in self.names:
            self.names[name, form] = fresh_name(wanted, self.cascade, self.names.values())
        return self.names[name, form]
