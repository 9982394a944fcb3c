"""How long kernels of any text take: cycles of each unit, blocks over SMs, what passes by L2 and DRAM, launches.

Rates, ceilings and latencies are those of the attention kernels, achieved fractions those of plain Triton; nothing here
was measured. What one kernel leaves for another one stays in L2 as far as everything that both of them touch fits, and
passes by DRAM otherwise. Blocks that are resident together share what DRAM gives, as those of attention do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from cascadesim.accelerators.gpu.attention.tile import legacy_rate
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.explain import ISSUE, SPECIAL, TENSOR, instructions
from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.generic.blocks import TRITON, Stage, divisions, stages_of
from cascadesim.accelerators.gpu.generic.fusion import fused_kernels
from cascadesim.accelerators.gpu.generic.problem import Problem
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.memory import FLOAT_BYTES, dram_seconds, dram_share, share_in_l2, small_kernel_s
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.einsum_cascades.models.operation import kept_states
from cascadesim.einsum_cascades.notation.ir import Access

# assumed: from an Einsum of a running value's circuit to the next: a sum over warps through shared memory and a barrier
CIRCUIT_CYCLES = 60


@dataclass(frozen=True)
class StageMovement:
    """Bytes of one launch. `again_bytes`: what DRAM gives more than once, among those read."""

    l2_bytes: float
    read_bytes: float
    write_bytes: float
    again_bytes: float


@dataclass(frozen=True)
class StageTiming:
    """Seconds of each unit alone, over the whole device; then what the schedule makes of them."""

    tensor_s: float
    special_s: float
    issue_s: float
    l2_s: float
    dram_s: float
    schedule_s: float  # thread blocks over the SMs, memory as fast as wanted
    waits_s: float  # of it: steps of running values wait for each other
    launch_s: float
    total_s: float
    movement: StageMovement


def own_parts(stage: Stage, parts: Sequence[EinsumActivity]) -> tuple[EinsumActivity, ...]:
    """What each unit does of each Einsum of this launch. Where no product accumulates, FP32 lanes add."""
    own = [part for part in parts if part.name in stage.names]
    products = sum(part.operations.get("mac", 0) for part in own if part.unit == TENSOR)
    sums = sum(part.operations.get("add", 0) for part in own if part.unit == TENSOR)
    if sums <= products:
        return tuple(own)
    return tuple(replace(part, unit=ISSUE) if set(part.operations) == {"add"} else part for part in own)


def warm_shares(problem: Problem, stages: Sequence[Stage]) -> Mapping[str, float]:
    """Input or output -> its share in L2 from the call before, or left there.

    A cache or a state of the step before is not: all other layers ran since.
    """
    share = float(share_in_l2(problem.device.l2_kept_bytes, _touched_bytes(stages)))
    cold = problem.operation.extent("p") == 1
    states = kept_states(problem.cascade)
    return {tensor: 0.0 if cold and (tensor in states or problem.keyed(tensor)) else share
            for tensor in problem.least}  # fmt: skip


def _touched_bytes(stages: Sequence[Stage]) -> float:
    """Everything that these launches read or write, each tensor once."""
    found: dict[str, float] = {}
    for tensor, size in (item for stage in stages for item in stage.touched.items()):
        found[tensor] = max(found.get(tensor, 0.0), size)
    return sum(found.values())


@dataclass(frozen=True)
class BetweenLaunches:
    """What passes by memory in a row of launches, and what L2 keeps between them."""

    stages: Sequence[Stage]
    warm: Mapping[str, float]  # input or output -> share of it

    def movement(self, number: int) -> StageMovement:
        """Operands and results of a launch once, parts of results, and again what L2 has lost."""
        stage, own = self.stages[number], dict(self.stages[number].reread)
        loaded = {each: stage.loaded_elements(*each) * stage.problem.element_bytes(*each) for each in stage.operands}
        stored = {tensor: stage.problem.size_bytes(tensor, access) for tensor, access in stage.results}
        reads = sum(stage.touched[tensor] * (1 - self._found(number, tensor))
                    for tensor in dict.fromkeys(name for name, _ in stage.operands))  # fmt: skip
        reads += sum(stored[tensor] * (1 - self._waiting((stage,))) for tensor in own)
        writes = sum(size * (1 - self._left(number, tensor)) for tensor, size in stored.items())
        partial = stage.partial_elements * FLOAT_BYTES
        lost = partial * (1 - float(share_in_l2(stage.problem.device.l2_kept_bytes, partial)))
        again = rounds_again_bytes(stage, loaded)
        l2_bytes = sum(loaded.values()) + sum(stored.values()) + sum(stored[tensor] for tensor in own) + partial
        combines = stage.combines > 1
        return StageMovement(l2_bytes, reads + again + lost * combines, writes + lost * (not combines), again)

    def _found(self, number: int, tensor: str) -> float:
        """Share of an operand in L2, from the last launch that used it or from before the first."""
        users = [place for place in range(number) if any(
            tensor == name for name, _ in (*self.stages[place].operands, *self.stages[place].results))]
        return self._waiting(self.stages[users[-1] : number + 1]) if users else self.warm[tensor]

    def _left(self, number: int, tensor: str) -> float:
        """Share of a result that waits in L2 for the last launch that reads it, and never goes to DRAM."""
        if tensor in self.warm:
            return self.warm[tensor]
        readers = [place for place in range(number, len(self.stages))
                   if any(tensor == name for name, _ in self.stages[place].operands)]
        return self._waiting(self.stages[number : max(readers, default=number) + 1])

    def _waiting(self, stages: Sequence[Stage]) -> float:
        """Share of what the first of these launches leaves that the last one finds."""
        return float(share_in_l2(stages[0].problem.device.l2_kept_bytes, _touched_bytes(stages)))


def rounds_again_bytes(stage: Stage, loaded: Mapping[tuple[str, Access], float]) -> float:
    """What later rounds of resident blocks fetch again of the operands that blocks of the same walk share.

    As in `memory.movement`: a round shares what DRAM gives, and L2 keeps or loses it over one whole walk.
    """
    walked = frozenset[str]().union(*(walk.outer for walk in stage.streamed))
    rows = [walk for walk in stage.grid if walk.tile > 1]
    total = sum(size for (_, access), size in loaded.items() if walked & set(access.ranks)
                and any(walk.outer.isdisjoint(access.ranks) for walk in rows))  # fmt: skip
    device, readers = stage.problem.device, stage.row_tiles
    resident = min(max(device.sms * stage.together / stage.parts, 1.0), readers)
    walk_bytes = total / (stage.blocks / stage.parts)
    return total * (1 / resident - 1 / readers) * (1 - float(share_in_l2(device.l2_kept_bytes, walk_bytes)))


def stage_timing(stage: Stage, parts: Sequence[EinsumActivity], moved: StageMovement, known: Constants) -> StageTiming:
    """One launch; `parts`: what its units do of its Einsums."""
    device = stage.problem.device
    tensor, special, issue = _sm_cycles(stage, parts, known)
    computed = tensor + max(special, issue)
    work = max(computed, moved.l2_bytes / L2_PORT_BYTES_PER_CLOCK)
    schedule_s, waits_s = (cycles / device.clock_hz for cycles in
                           (_makespan_cycles(stage, work, computed, known), _waits_cycles(stage)))  # fmt: skip
    l2_s = moved.l2_bytes / device.l2_ceiling_bytes_per_s  # asked for ahead, evenly, as attention does
    share = dram_share(np.asarray(moved.read_bytes), np.asarray(moved.write_bytes))
    dram_s = float(dram_seconds(device, known, (moved.read_bytes + moved.write_bytes) / share))
    launch_s = small_kernel_s(device) if stage.combines > 1 else device.launch_s + known.kernel_latency_s
    order = 1 / (1 - min(known.memory_overlap, 0.99))  # as attention: they disturb each other most where they are equal
    longer, shorter = max(schedule_s, l2_s, dram_s), min(schedule_s, max(l2_s, dram_s))
    total_s = launch_s + longer * (1 + (shorter / longer) ** order) ** (1 / order)
    tensor_s, special_s, issue_s = (cycles / device.sms / device.clock_hz for cycles in (tensor, special, issue))
    return StageTiming(tensor_s, special_s, issue_s, l2_s, dram_s, schedule_s, waits_s, launch_s, total_s,
                        moved)  # fmt: skip


def _sm_cycles(stage: Stage, parts: Sequence[EinsumActivity], known: Constants) -> tuple[float, float, float]:
    """Cycles of products, functions and instructions, of all SMs together."""
    device, kernel = stage.problem.device, load_kernel(TRITON)
    products, functions, lanes = 0.0, 0.0, stage.partial_elements * (stage.combines > 1)
    for part in parts:
        einsum = stage.problem.cascade.einsum(part.name)
        padding = stage.computed(einsum) / max(stage.counted(einsum), 1)
        if part.unit == TENSOR:
            products += part.operations.get("mac", 0) * padding
        else:
            on_lanes, on_special = instructions((part,))
            lanes, functions = lanes + on_lanes * padding, functions + on_special * padding
    reached = known.tensor_fraction * legacy_rate(kernel.instructions, device.generation)
    return (
        products / (device.flop_per_clock_sm(stage.problem.product_type) / 2 * reached),
        functions / (device.sm.special_per_clock * known.special_fraction),
        lanes / device.sm.fp32_fma_per_clock,
    )


def _makespan_cycles(stage: Stage, work: float, computed: float, known: Constants) -> float:
    """The work spread over the SMs, the last round not full; at least the longest block; blocks of an SM in turn.

    The steps of a running value wait for each other, in which a block computes nothing else; operands come meanwhile.
    """
    device, blocks, seen = stage.problem.device, stage.blocks, stage.seen
    each, rounds = work / blocks, blocks / device.sms
    late = (ceil(rounds) - rounds) * each * seen.shortest if rounds > 1 else 0.0
    together = min(stage.together, ceil(rounds))
    turns = max(rounds - 1, 0.0) * known.block_latency_s * device.clock_hz / together
    waits = _waits_cycles(stage)
    in_order = waits + computed / blocks * seen.longest * (waits > 0)
    return max(rounds * each + late, each * seen.longest, in_order) + turns


def _waits_cycles(stage: Stage) -> float:
    """From step to step of a running value, in the blocks that an SM has one after another."""
    rounds, seen = stage.blocks / stage.problem.device.sms, stage.seen
    in_turn = ceil(rounds / min(stage.together, ceil(rounds)))
    return in_turn * stage.steps * seen.share * seen.longest * stage.kernel.circuit * CIRCUIT_CYCLES


def unit_seconds(timing: StageTiming) -> Mapping[str, float]:
    return {TENSOR: timing.tensor_s, SPECIAL: timing.special_s, ISSUE: timing.issue_s, "l2": timing.l2_s,
            "dram": timing.dram_s, "launch": timing.launch_s}  # fmt: skip


@dataclass(frozen=True)
class Launches:
    """Every launch of a text, one after another, and how long each takes.

    `divided`: parts of each kernel's walk, columns of its results. `warm`: input or output -> share in L2.
    """

    divided: tuple[tuple[int, int], ...]
    stages: tuple[Stage, ...]
    timings: tuple[StageTiming, ...]
    warm: Mapping[str, float]

    @property
    def total_s(self) -> float:
        return sum(timing.total_s for timing in self.timings)


def launches(problem: Problem, parts: Sequence[EinsumActivity], known: Constants) -> Launches:
    """Walks in as many parts, results in as many columns, as are fastest; `parts`: what units do of Einsums.

    Kernel by kernel. Devices of more SMs choose among more divisions, so that they are not slower.
    """
    choices = [divisions(problem, kernel) for kernel in fused_kernels(problem.cascade)]
    best = launched(problem, tuple(each[0] for each in choices), parts, known)
    for number, each in enumerate(choices):
        for division in each[1:]:
            other = (*best.divided[:number], division, *best.divided[number + 1 :])
            best = min(best, launched(problem, other, parts, known), key=lambda found: found.total_s)
    return best


def launched(
    problem: Problem, divided: tuple[tuple[int, int], ...], parts: Sequence[EinsumActivity], known: Constants
) -> Launches:
    """In these parts and columns, kernel by kernel."""
    stages = tuple(stage for kernel, division in zip(fused_kernels(problem.cascade), divided, strict=True)
                   for stage in stages_of(problem, kernel, *division))  # fmt: skip
    traffic = BetweenLaunches(stages, warm_shares(problem, stages))
    timings = (stage_timing(stage, own_parts(stage, parts), traffic.movement(number), known)
               for number, stage in enumerate(stages))  # fmt: skip
    return Launches(divided, stages, tuple(timings), traffic.warm)
