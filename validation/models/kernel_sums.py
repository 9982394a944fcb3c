"""Whole prompts and single steps against sums of kernels that were timed one by one, those of two libraries.

The sums are aiconfigurator's (sdk/models/llama.py, moe.py), of kernels as its collectors time them, without the host.
So each part is predicted as it was timed, not as it runs between others:

* Products are called in turn with weights of their own, a few sets of them: of small ones L2 has some already.
* A call of attention finds its cache in L2 where that fits. vLLM's writes the new token into the cache, TensorRT-LLM's
  rotates, too. Nothing rotates in a step of vLLM's, and nobody norms queries and keys.
* Norms, the gate's activation, and what a prompt's queries and keys need besides were never timed: a formula has them
  (`UNTIMED`). No prediction of ours stands for them.
* A sum over devices and the norm after it are two kernels in these tables. Experts are one call, here kernel by kernel.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import log

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu import batch as vectorised
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.accelerators.gpu.engines.fusion import fused
from cascadesim.accelerators.gpu.plans import kernel_of
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation, least_elements
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.texts import transformer
from cascadesim.simulator.execution import planned_and_executed
from cascadesim.simulator.request import Request, own_operations, refuse_what_does_not_fit
from cascadesim.validation.claim import Cell, Claim, PredictedFigures, Settings, Suite, Verdict, default_verdict
from cascadesim.validation.gpu.model import LIBRARY, before, small_kernels, timed_in_l2
from cascadesim.validation.models.rows import DEVICES
from cascadesim.validation.table import Layout, Row, columns_of, count, positive

FILE = "models-kernel-sums.csv"
LIBRARIES = {"vllm": "vllm", "trtllm": "tensorrt-llm"}  # as columns begin -> engine
PHASES: tuple[Phase, ...] = ("prefill", "decode")
COLUMNS = {f"{library}_{phase}_ms": (library, phase) for library in LIBRARIES for phase in PHASES}
LAYOUT = Layout(
    (*columns_of(str, "device model"), *columns_of(count, "count tp batch tokens"),
     *columns_of(positive, " ".join(COLUMNS))),
    key=("device", "count", "model", "tp", "batch", "tokens"),
)  # fmt: skip
TOGETHER = "all-reduce-norm"  # a fusion of engines that the sums do not have
# aiconfigurator, query_mem_op and systems/*.yaml: bytes over a share of the datasheet's bandwidth, and a constant
UNTIMED_SHARE, UNTIMED_S = 0.8, 3e-6
# sdk/operations/attention.py, ContextAttention.query: two such for the rotation and two for the cache, eight for norms
# of queries and keys, all of one token's bytes, times 1.1; GenerationAttention.query adds none
ROTATION_KERNELS, HEAD_NORM_KERNELS, PROMPT_FACTOR = 4, 8, 1.1
ROTATIONS = ("rotary_cache", "q_rotary", "k_rotary")
HEAD_NORMS = ("q_norm", "k_norm")
EXPERTS = ("expert_", "router_")  # how operations of the timed call of experts begin


def milliseconds(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The four figures of a row."""
    where = DEVICES[row.text("device")], row.count("tp"), row.text("model"), row.count("batch"), row.count("tokens")
    return {column: _ms(*where, library, phase, tuple(settings)) for column, (library, phase) in COLUMNS.items()}


@lru_cache(maxsize=256)
def _ms(device: str, devices: int, model: str, batch: int, tokens: int, library: str, phase: Phase,
        settings: tuple[str, ...]) -> float:  # fmt: skip
    machine = catalogue.load(device, (f"parallel.tensor={devices}", f"engine={LIBRARIES[library]}", *settings))
    assert isinstance(machine, Gpu)
    request = Request(load_workload(model), machine, tokens, batch, phase, "model", "analytical")
    refuse_what_does_not_fit(request)
    return 1e3 * sum(one.count * seconds(one, request, machine.spec, library) for one in counted(request))


def counted(request: Request) -> tuple[Operation, ...]:
    """Operations as the engine launches them, but for what the sums hold apart or have no kernel for."""
    engine = find_engine(request.accelerator.capabilities.engine)
    apart = engine.model_copy(update={"fuses": tuple(kind for kind in engine.fuses if kind != TOGETHER)})
    return fused(own_operations(request), apart)


def seconds(one: Operation, request: Request, device: Device, library: str) -> float:
    """What a sum has for one operation."""
    if one.kind == "attention":
        return _attention_s(one, device, library)
    if one.kind == "linear" and one.operand != "experts":
        return _product_s(one, device, library)
    if one.kind != "elementwise" or one.name.startswith(EXPERTS):
        return planned_and_executed(one, request.machine, "physical", "analytical").exact_cycles / device.clock_hz
    return _untimed_s(one, device, request.phase)


def _attention_s(one: Operation, device: Device, library: str) -> float:
    size, source = dict(one.extents), f"{LIBRARY} {library}"
    phase = "decode" if size["p"] == 1 else "prefill"
    dtype = device.type_of("attention")
    found = vectorised.attention_seconds(
        device, kernel_of(one, device), batch=size["b"], heads=size["h"], heads_kv=size["h"] // size["g"],
        queries=size["p"], keys=size["m"], head_dim=size["e"], value_dim=size["f"], causal=phase == "prefill",
        dtype=dtype, kv_dtype=device.type_of("kv"), before=before(phase, source),
        launches=small_kernels(phase, source, "", dtype),
    )  # fmt: skip
    return float(found[0])


def _product_s(one: Operation, device: Device, library: str) -> float:
    rows, outputs, depth = (one.extent(rank) for rank in ("r", "n", "k"))
    dtype = device.type_of("weights")
    warm = timed_in_l2(device, f"{LIBRARY} {library}", rows, outputs, depth, DTYPE_BYTES[dtype])
    return float(vectorised.gemm_seconds(device, rows=rows, outputs=outputs, depth=depth, dtype=dtype, in_l2=warm)[0])


def _untimed_s(one: Operation, device: Device, phase: Phase) -> float:
    prompt = phase == "prefill"
    if one.name in HEAD_NORMS:
        return PROMPT_FACTOR * HEAD_NORM_KERNELS / len(HEAD_NORMS) * UNTIMED_S * prompt
    if one.cascade == transformer.ROTARY or one.name in ROTATIONS:
        return PROMPT_FACTOR * ROTATION_KERNELS * UNTIMED_S * prompt
    elements = least_elements(one)
    moved = sum(elements[name] for name in (*one.cascade.inputs, *one.cascade.outputs))
    moved_bytes = DTYPE_BYTES[device.type_of("activations")] * moved
    return moved_bytes / (UNTIMED_SHARE * device.datasheet.dram_bytes_per_s) + UNTIMED_S


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Judge by the mean error, or by how far the median ratio is from 1 (`bias`, as a logarithm)."""
    found = default_verdict(suite, claim, source, cells)
    ratios = [cell.ratio for cell in cells if cell.ratio]
    figures = {"mean": found.errors.mean, "bias": abs(statistics.median(map(log, ratios))) if ratios else None}
    return replace(found, figures=figures)
