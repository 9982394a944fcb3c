"""What a part of a published figure takes on a device: seconds of a call, a model, a pass; FLOPs of a model.

Each is what `simulate` answers for the same work: a plan that is checked, in closed form. Sizes are whole numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np
import yaml

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.memory import copy_seconds, dram_seconds, stream_timing
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation, attention_cascade, linear, work_of
from cascadesim.einsum_cascades.models.workload import Workload, load_workload, workload_from
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, Mask
from cascadesim.simulator.execution import planned_and_executed
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.fusemax.predictions import headline
from cascadesim.validation.systems.system import AttentionCall, Flops, MemoryPass, ModelRun, Number, ProductCall
from cascadesim.validation.table import Row

FLOPS_PER_MAC = 2
UNBOUNDED_BYTES = 10**15
Value = Callable[[Number], float]  # a figure or an expression -> its number for a row
Words = Callable[[str], str]  # a text -> with the numbers that its braces name
Workloads = Mapping[str, Mapping[str, Any]]  # of a system, by name


@dataclass(frozen=True)
class Machine:
    """A device as a row has it: a preset and the type of its numbers."""

    device: str
    dtype: str

    def settings(self, *more: str) -> tuple[str, ...]:
        return (f"dtype={self.dtype}", *more)


@lru_cache(maxsize=1024)
def _gpu(device: str, settings: tuple[str, ...]) -> Gpu:
    found = catalogue.load(device, settings)
    if not isinstance(found, Gpu):
        raise CascadeSimError(f"{device} is no GPU")
    return found


def _seconds(operation: Operation, machine: Gpu) -> float:
    return planned_and_executed(operation, machine, "physical", "analytical").exact_cycles / machine.clock_hz


def attention_s(call: AttentionCall, machine: Machine, value: Value, words: Words, causal: bool) -> float:
    """One call of one layer."""
    gpu = _gpu(machine.device, machine.settings(f"kernel={call.kernel}", f"engine={call.engine}"))
    whole = {name: round(value(getattr(call, name)))
             for name in ("batch", "heads", "kv_heads", "head_dim", "queries", "keys")}  # fmt: skip
    values = whole["head_dim"] if call.value_dim is None else round(value(call.value_dim))
    sizes = (("b", whole["batch"]), ("h", whole["heads"]), ("g", max(whole["heads"] // whole["kv_heads"], 1)),
             ("m", whole["keys"]), ("p", whole["queries"]), ("e", whole["head_dim"]), ("f", values))  # fmt: skip
    decodes = whole["queries"] == 1
    masked = causal if call.causal is None else call.causal
    if call.pattern is not None:
        return _patterned_s(call, gpu, whole, words(call.pattern), masked, "decode" if decodes else "prefill")
    mask: Mask = CAUSAL if masked and not decodes else FULL
    text = attention_cascade(call.cascade or gpu.attention)
    return _seconds(Operation("attention", "attention", text, sizes, mask=mask, operand="kv" if decodes
                              else "activations"), gpu)  # fmt: skip


def _patterned_s(
    call: AttentionCall, gpu: Gpu, sizes: Mapping[str, int], pattern: str, causal: bool, phase: Phase
) -> float:  # fmt: skip
    """The attention part of one layer with a pattern: what it chooses and moves, and what it attends."""
    heads, depth = sizes["heads"], sizes["head_dim"]
    workload = workload_from(
        {"name": "layer", "kind": "decoder" if causal else "encoder", "source": "a row", "certainty": "a row",
         "batch": 1, "sequence_length": sizes["keys"], "hidden": heads * depth, "norm": "rms",
         "attention": {"heads": heads, "kv_heads": sizes["kv_heads"], "head_dim": depth, "pattern": pattern},
         "layers": {"layer": {"count": 1, "mask": "causal" if causal else "full", "feed_forward": "none"}}},
        "a layer of the ledger")  # fmt: skip
    (report,) = simulate(workload, gpu, sequence_length=sizes["keys"], batch=sizes["batch"], phase=phase,
                         scope="attention", fidelity="analytical")  # fmt: skip
    found = [operation.cycles for operation in report.operations if re.fullmatch(call.operations, operation.name)]
    if not found:
        raise CascadeSimError(f"pattern {pattern}: no operation matches {call.operations}")
    return sum(found) / report.clock_hz


def product_s(call: ProductCall, machine: Machine, value: Value) -> float:
    rows, depth, outputs, copies = (round(value(size)) for size in (call.rows, call.depth, call.outputs, call.copies))
    gpu = _gpu(machine.device, machine.settings())
    return _seconds(linear("product", rows, depth, outputs, copies, operand="activations"), gpu)


def pass_s(call: MemoryPass, machine: Machine, value: Value) -> float:
    """A kernel of its own, whose operands are in L2 as far as they fit; what is read in tiles comes from DRAM."""
    device = _gpu(machine.device, machine.settings()).spec
    known, reads, writes = constants(device.generation), value(call.reads), value(call.writes)
    if call.in_tiles:
        return float(dram_seconds(device, known, np.asarray(reads + writes)))
    if call.by_index:
        return float(copy_seconds(device, known, reads, writes)[0])
    return float(stream_timing(device, known, reads, writes).total_s[0])


def model_s(run: ModelRun, own: Workloads, machine: Machine, value: Value, words: Words) -> float:
    """A prompt of all sequences, or one step of theirs. What a publication ran fitted, whatever we count of bytes."""
    devices = round(value(run.devices))
    gpu = _gpu(machine.device, machine.settings(f"engine={run.engine}", f"parallel.tensor={devices}",
                                                f"dram_bytes={UNBOUNDED_BYTES}"))  # fmt: skip
    phase: Phase = "decode" if run.phase == "decode" else "prefill"
    (report,) = simulate(_workload(run, own, words), gpu, sequence_length=round(value(run.tokens)),
                         batch=round(value(run.batch)), phase=phase, fidelity="analytical")  # fmt: skip
    return report.latency_s


def flops(counted: Flops, own: Workloads, value: Value, words: Words) -> float:
    """Of products and of attention in one forward pass of one sequence; a multiply and an add are two."""
    workload = _workload(counted, own, words)
    total = 0
    for operation in workload.operations(sequence_length=round(value(counted.tokens)), batch=1):
        wanted = (operation.name == "attention") == (counted.of == "attention")
        if wanted and operation.kind in ("linear", "attention"):
            total += operation.count * sum(work.get("mac", 0) for work in work_of(operation).values())
    return float(FLOPS_PER_MAC * total)


def fusemax_mean(quantity: str) -> float:
    """A speedup of FuseMax over FLAT: the arithmetic mean over 4 models and 6 lengths, as its headlines are."""
    cells = {"quantity": quantity, "architecture": "fusemax", "baseline": "flat", "statistic": "arithmetic_mean"}
    found = headline(Row(tuple(cells.items()), "", 0))["value"]
    return nan if found is None else found


def _workload(given: ModelRun | Flops, own: Workloads, words: Words) -> Workload:
    if given.workload not in own:
        return load_workload(given.workload, given.settings)
    return workload_from(_filled(own[given.workload], words), given.workload, given.settings)


def _filled(given: Any, words: Words) -> Any:
    """The fields of a workload with numbers in the place of braces."""
    if isinstance(given, Mapping):
        return {name: _filled(field, words) for name, field in given.items()}
    if isinstance(given, str) and "{" in given:
        return yaml.safe_load(words(given))
    return given
