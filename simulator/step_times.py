"""How long a step of a serving engine takes: new tokens of running requests, and chunks of prompts beside them.

A step is the sum of its parts as `simulate` prices them: everything but attention for all tokens together, the head,
attention of new tokens over their caches, attention of prompts. Parts are timed on a grid of sizes, once each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.accelerators.protocol import TimesCaches
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.simulator.execution import planned_and_executed
from cascadesim.simulator.generate import GROWING
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import operations

FINEST = 16  # tokens of a step, or requests, up to which each number is timed; assumed: a kernel's smallest tile
Part: TypeAlias = Literal["rest", "head", "step", "prompt"]
Known: TypeAlias = dict[tuple[Part, int, int], float]  # part of a step, size, keys or number of prompts -> seconds
Chunk: TypeAlias = tuple[int, int]  # tokens of a prompt that its step finds done, and that it leaves done


@dataclass(frozen=True)
class StepTimes:
    """Seconds of steps of one model on one machine. `prompt`: one request's, the longest; `step`: the longest one."""

    prompt: Request
    step: Request
    known: Known = field(default_factory=dict, compare=False, repr=False)
    counted: dict[tuple[Part, int, int], Counter[_Alike]] = field(default_factory=dict, compare=False, repr=False)

    def seconds(self, running: int, keys: float, chunks: Sequence[Chunk]) -> float:
        """A step of `running` requests with caches of `keys` tokens in the mean, and of chunks of prompts."""
        tokens = running + sum(after - before for before, after in chunks)
        total = self.step.accelerator.capabilities.step_overhead_s
        total += self._between("rest", tokens) + self._between("head", running + len(chunks))
        if running:
            total += self._over_lengths(running, keys)
        return total + self._of_chunks(chunks)

    def _of_chunks(self, chunks: Sequence[Chunk]) -> float:
        """What chunks take beyond the rest of a step. Prompts that begin in it share their kernels."""
        begun = [after for before, after in chunks if not before]
        later = sum(self._of_prompts(after) - self._of_prompts(before) for before, after in chunks if before)
        return later + (self._of_prompts(round(sum(begun) / len(begun)), len(begun)) if begun else 0.0)

    def _over_lengths(self, running: int, keys: float) -> float:
        """What new tokens take beyond the rest of a step."""
        long, short = self.step.length, max(1, self.step.length // 2)
        most, least = (self._between("step", running, length) for length in (long, short))
        return least + (most - least) * (keys - short) / max(long - short, 1)

    def _of_prompts(self, tokens: int, prompts: int = 1) -> float:
        """What so many tokens of each of some prompts take beyond the rest of a step, from powers of two of them."""
        low = 1 << prompts.bit_length() - 1
        least = self._between("prompt", tokens, low)
        if low == prompts:
            return least
        return least + (self._between("prompt", tokens, 2 * low) - least) * (prompts - low) / low

    def _between(self, part: Part, size: int, other: int = 0) -> float:
        """A part of a step at a size, from the sizes of the grid around it. `other`: of prompts how many, else keys."""
        low, high = around(size)
        ends = [self._at(part, each, other) for each in (low, high)]
        return ends[0] if low == high else ends[0] + (ends[1] - ends[0]) * (size - low) / (high - low)

    def _at(self, part: Part, size: int, other: int) -> float:
        key = part, size, other or self.step.length
        if key not in self.known:
            self.known[key] = self._timed(*key)
        return self.known[key]

    def _counted(self, part: Part, size: int, other: int) -> Counter[_Alike]:
        """The operations of a part; the parts of the same requests are counted together."""
        if (part, size, other) not in self.counted:
            request = self._request(part, size, other)
            same: tuple[Part, ...] = ("prompt",) if part == "prompt" else ("rest", "head", "step")
            found = operations(request)
            self.counted.update({(each, size, other): _alike(found, each) for each in same})
        return self.counted[part, size, other]

    def _request(self, part: Part, size: int, other: int) -> Request:
        if part == "prompt":
            return replace(self.prompt, sequence_length=size, batch=other)
        return replace(self.step, batch=size, sequence_length=other)

    def _timed(self, part: Part, size: int, other: int) -> float:
        """Time what the part has; of a step and of prompts only what they have beyond the rest of a step."""
        request, counts = self._request(part, size, other), Counter(self._counted(part, size, other))
        if part in ("step", "prompt"):
            tokens = size * other if part == "prompt" else size
            counts.subtract(self._counted("rest", tokens, self.step.length))
        cycles = sum(count * one_cycles(each.operation, request) for each, count in counts.items() if count)
        return cycles / request.accelerator.clock_hz


@dataclass(frozen=True)
class _Alike:
    """An operation, equal to all that take as long."""

    same: tuple[object, ...]
    operation: Operation = field(compare=False)


def _alike(found: Sequence[Operation], part: Part) -> Counter[_Alike]:
    counts: Counter[_Alike] = Counter()
    for each in found:
        if _is_of(each, part):
            same = (each.kind, each.cascade, each.extents, each.mask, each.operand, each.numbers, each.fp32,
                    each.launched)  # fmt: skip
            counts[_Alike(same, each)] += each.count
    return counts


def _is_of(operation: Operation, part: Part) -> bool:
    """Whether a part has the operation: the rest neither attention nor the head, steps and prompts all but the head."""
    head = operation.operand == "head"
    return head if part == "head" else not head and (part != "rest" or operation.kind != "attention")


def one_cycles(operation: Operation, request: Request) -> float:
    """Cycles of an operation, without the plan that explains them where the machine can do without."""
    machine, rank = request.machine, GROWING.get(operation.kind)
    if rank is not None and isinstance(machine, TimesCaches):
        found = machine.cycles_by_length(operation, np.array([operation.extent(rank)], dtype=np.int64))
        if found is not None:
            return float(found[0])
    return planned_and_executed(operation, machine, request.accounting, request.fidelity).exact_cycles


def around(size: int) -> tuple[int, int]:
    """Sizes of the grid below and above: each up to `FINEST`, then four for each doubling."""
    if size <= FINEST:
        return size, size
    step = 2 ** ((size - 1).bit_length() - 3)
    low = size // step * step
    return (low, low) if low == size else (low, low + step)
