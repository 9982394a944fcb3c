"""SpAtten's published figures (HPCA'21) beside ours: sizes, reductions, steps of the ladder, throughput.

The paper averages 30 benchmarks, of which two are public as workload files (GPT-2 small and medium on WikiText-2); what
stands here is those two, and BERT-base under the schedule that the paper's rule gives (its ratios are assumed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from math import prod

from cascadesim.accelerators.spatten.accelerator import Spatten
from cascadesim.accelerators.spatten.baselines import A3, MNNFAST, TITAN_XP, Accelerated, dense_operations
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.sparsity.pruning_schedules import published_schedule
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS
from cascadesim.simulator.execution import execute
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.spatten.ladder import LENGTH, MODELS, Rung, ladder, machine
from cascadesim.validation.table import Column, Layout, Row, Table, not_negative, parse_table, with_cells

GIVEN, COUNTED, PREDICTED, OTHER = "given", "counted", "predicted", "not modelled"
BERT_BENCHMARKS, GPT2_BENCHMARKS = 22, 8  # HPCA 2021: 11 tasks and 4 data sets, two models each
TITAN_XP_TOKEN_S = 0.370 / 30  # HPCA 2021: 370 ms for 30 tokens of GPT-2
BERT_LENGTH = 128  # assumed: the paper takes each task's mean length and prints none
DENSE_BITS = 32  # assumed: what a GPU keeps; the paper does not say against what its 5.1x is
NOMINAL = ("dram.mode=nominal",)  # the paper's bandwidth; the public RTL's memory delivers half of it

LAYOUT = Layout(
    (
        Column("metric", str), Column("benchmark", str), Column("value", str, required=False),
        Column("unit", str, required=False), Column("source", str), Column("certainty", str),
        Column("figure", not_negative, required=False), Column("kind", str, required=False),
    ),
    ("metric", "benchmark", "source"),
)  # fmt: skip


def parse_paper(text: str, layout: Layout, source: str) -> Table:
    """Each row with its figure, where it is one, and how we come to ours."""
    table = parse_table(text, layout, source)
    rows = []
    for row in table.rows:
        key = (row.text("metric"), row.text("benchmark"))
        kinds = ((GIVEN, _GIVEN), (COUNTED, _COUNTED), (PREDICTED, _PREDICTED))
        kind = next((kind for kind, figures in kinds if key in figures), OTHER)
        try:
            figure = float(row.text("value")) if row.get("value") is not None else None
        except ValueError:
            figure = None  # lists such as 4+4;6+4
        rows.append(with_cells(row, figure=figure, kind=kind))
    return replace(table, rows=tuple(rows))


def paper(row: Row, settings: Settings = ()) -> PredictedFigures:
    key = (row.text("metric"), row.text("benchmark"))
    return {"figure": {**_GIVEN, **_COUNTED, **_PREDICTED}[key]()}


def explain(row: Row) -> str:
    """Why a predicted figure is not the published one."""
    return _WHY.get((row.text("metric"), row.text("benchmark")), "")


def _mean(values: Iterable[float]) -> float:
    """The geometric mean."""
    found = list(values)
    return float(prod(found) ** (1 / len(found)))


def _kept_tokens(layer: int) -> float:
    return published_schedule("gpt-2-small").tokens(layer, LENGTH)


def _step(later: str, earlier: str) -> float:
    """Speedup of one rung over another, mean of both models at the paper's bandwidth."""
    rungs = [{rung.name: rung for rung in ladder(model, "spatten", NOMINAL)} for model in MODELS]
    return _mean(rung[later].speedup(rung[earlier]) for rung in rungs)


def _fetched(model: str, tokens: bool, heads: bool) -> int:
    """Keys and values fetched for one token, with the prunings named."""
    full = published_schedule(model)
    chosen = full if tokens else full.unpruned()
    counts = full.heads if heads else full.heads[:1] * full.layers
    return sum(
        head * (chosen.tokens(layer, LENGTH) + chosen.values(layer, LENGTH)) for layer, head in enumerate(counts)
    )


def _token_reduction() -> float:
    return _mean(_fetched(model, False, False) / _fetched(model, True, False) for model in MODELS)


def _head_reduction() -> float:
    return _mean(_fetched(model, True, False) / _fetched(model, True, True) for model in MODELS)


def _bit_reduction() -> float:
    """Key and value bits alike, low bits for those heads that fetch them."""
    means = []
    for model in MODELS:
        full = published_schedule(model)
        keys = (full.key_bits or DENSE_BITS) + 4 * full.low_bit_share
        means.append(2 * DENSE_BITS / (keys + (full.value_bits or DENSE_BITS)))
    return _mean(means)


def _products() -> float:
    rungs = [ladder(model, "spatten", NOMINAL) for model in MODELS]
    return _mean(each[0].products / each[-1].products for each in rungs)


def _last(model: str, architecture: str = "spatten") -> Rung:
    return ladder(model, architecture, NOMINAL)[-1]


def _tera(operations_per_cycle: float) -> float:
    return operations_per_cycle * machine().clock_hz / 1e12


@cache
def _dense_bert() -> Operation:
    """One layer of BERT-base's attention, unpruned."""
    (dense,) = load_workload("bert-base").operations(
        sequence_length=BERT_LENGTH, batch=1, phase="prefill", scope="attention", attention="attention-3pass"
    )
    return dense


@cache
def _bert(architecture: str) -> tuple[int, int, int]:
    """Cycles, operations done and operations of the dense model, of all layers of BERT-base's attention."""
    dense, layers = _dense_bert(), published_schedule("bert-base").layers
    pruned, work = _at_nominal(architecture).prepared((replace(dense, count=layers),), "bert-base")
    cycles = done = 0
    for operation in work:
        size = dict(operation.extents)
        cycles += operation.count * execute(pruned.plan(operation, "physical"), "cycle").cycles
        done += operation.count * 2 * size["h"] * size["p"] * size["e"] * (size["m"] + size["k"])
    return cycles, done, layers * dense_operations(dense)


def _bert_tflops() -> float:
    cycles, done, _ = _bert("spatten")
    return _tera(done / cycles)


def _effective_gops() -> float:
    """Operations of the dense model by the time that SpAtten-1/8 takes; BERT-base."""
    cycles, _, dense = _bert("spatten-1-8")
    return 1e3 * _tera(dense / cycles)


def _over(baseline: Accelerated) -> float:
    """Time of a baseline by that of SpAtten-1/8, BERT-base and GPT-2, by how many benchmarks there are of each."""
    bert = _speedup("bert-base", baseline.seconds(_dense_bert()), _bert("spatten-1-8")[0])
    return _over_all(bert, _mean(
        _speedup(model, baseline.seconds(_dense_layer(model), published_schedule(model).value_keep),
                 _last(model, "spatten-1-8").cycles)
        for model in MODELS
    ))  # fmt: skip


def _over_titan_xp() -> float:
    """The same at full size, the GPU at its published throughput."""
    bert = _speedup("bert-base", TITAN_XP.seconds(_dense_bert(), "prefill"), _bert("spatten")[0])
    return _over_all(bert, _mean(
        _speedup(model, TITAN_XP.seconds(_dense_layer(model), "decode"), _last(model).cycles) for model in MODELS
    ))  # fmt: skip


def _datapath() -> float:
    """Dense attention of GPT-2 on SpAtten against the GPU at its published throughput."""
    return _mean(
        _speedup(model, TITAN_XP.seconds(_dense_layer(model), "decode"), ladder(model, "spatten", NOMINAL)[0].cycles)
        for model in MODELS
    )


def _speedup(model: str, layer_s: float, cycles: int) -> float:
    """The speedup of all layers in so many cycles over a machine that takes `layer_s` for a layer of the model."""
    return published_schedule(model).layers * layer_s / (cycles / machine().clock_hz)


def _over_all(bert: float, gpt2: float) -> float:
    return float((bert**BERT_BENCHMARKS * gpt2**GPT2_BENCHMARKS) ** (1 / (BERT_BENCHMARKS + GPT2_BENCHMARKS)))


def _end_to_end() -> float:
    """One generated token of the whole model, weights of 8 bits, against the GPU's published time of 30 tokens."""
    times = []
    for model in MODELS:
        (found,) = simulate(load_workload(model), _at_nominal(), sequence_length=LENGTH, phase="decode")
        times.append(found.latency_s)
    return TITAN_XP_TOKEN_S / _mean(times)


def _dense_layer(model: str) -> Operation:
    """Attention of one layer for one generated token."""
    heads = published_schedule(model).heads[0]
    size = {"b": 1, "h": heads, "g": 1, "m": LENGTH, "p": 1, "e": 64, "f": 64}
    return Operation(model, "attention", ATTENTION_3PASS, tuple(size.items()))


def _dram_w() -> float:
    """Power of the DRAM under GPT-2: energy of a token's bytes by its time."""
    pj_per_byte = 8 * machine().spec.dram.energy_pj_per_bit
    return _mean(
        _last(model).dram_bytes * pj_per_byte * 1e-12 / (_last(model).cycles / machine().clock_hz) for model in MODELS
    )


def _at_nominal(name: str = "spatten") -> Spatten:
    return machine(name, NOMINAL)


Figures = Mapping[tuple[str, str], Callable[[], float]]
_FULL, _EIGHTH = "SpAtten", "SpAtten-1/8"
_SMALL, _MEDIUM = "GPT-2-Small WikiText-2 workload", "GPT-2-Medium WikiText-2 workload"
_STEPS = ("dense", "+ local value pruning, serial top-k", "+ parallel top-k engine", "+ progressive quantization")


_GIVEN: Figures = {
    ("multipliers_qk", _FULL): lambda: _at_nominal().spec.multipliers,
    ("multipliers_pv", _FULL): lambda: _at_nominal().spec.multipliers,
    ("clock", _FULL): lambda: _at_nominal().clock_hz / 1e9,
    ("hbm_channels", _FULL): lambda: _at_nominal().spec.dram.channels,
    ("crossbar_masters", _FULL): lambda: _at_nominal().spec.fetch_channels,
    ("crossbar_slaves", _FULL): lambda: _at_nominal().spec.dram.channels,
    ("softmax_parallelism", _FULL): lambda: _at_nominal().spec.softmax_lanes,
    ("topk_comparators", _FULL): lambda: _at_nominal().spec.topk_parallelism,
    ("multipliers", _EIGHTH): lambda: 2 * _at_nominal("spatten-1-8").spec.multipliers,
    ("area", _FULL): lambda: sum((_at_nominal().area_um2() or {}).values()) / 1e6,
    ("area", _EIGHTH): lambda: sum((_at_nominal("spatten-1-8").area_um2() or {}).values()) / 1e6,
}
_COUNTED: Figures = {
    ("hbm_channel_bandwidth", _FULL): lambda: (
        _at_nominal().spec.dram.peak_bytes_per_cycle / _at_nominal().spec.dram.channels
    ),
    ("hbm_bandwidth", _FULL): lambda: _at_nominal().spec.dram.peak_bytes_per_cycle * _at_nominal().clock_hz / 1e9,
    ("roof_bandwidth", _FULL): lambda: _at_nominal().spec.dram.peak_bytes_per_cycle * _at_nominal().clock_hz / 1e9,
    ("bandwidth", _EIGHTH): lambda: _at_nominal("spatten-1-8").spec.dram.peak_bytes_per_cycle,
    ("key_buffer_bits", "RTL default: 256 lines x 512 x 12 bit"): lambda: (
        _at_nominal().spec.buffer_lines * _at_nominal().spec.multipliers * _at_nominal().spec.element_bits / 8 / 1024
    ),
    ("roof_compute", "SpAtten: 1024 multipliers x 2 op x 1 GHz"): lambda: _tera(4 * _at_nominal().spec.multipliers),
    ("kept_tokens_of_1024", f"{_SMALL}, iterations>=1, layer 0"): lambda: _kept_tokens(0),
    ("kept_tokens_of_1024", f"{_SMALL}, iterations>=1, layer 1"): lambda: _kept_tokens(1),
    ("kept_tokens_of_1024", f"{_SMALL}, iterations>=1, layers 2-5"): lambda: _kept_tokens(3),
    ("kept_tokens_of_1024", f"{_SMALL}, iterations>=1, layers 6-11"): lambda: _kept_tokens(8),
    ("local_value_keep_ratio", _SMALL): lambda: published_schedule("gpt-2-small").value_keep,
    ("local_value_keep_ratio", _MEDIUM): lambda: published_schedule("gpt-2-medium").value_keep,
}
_PREDICTED: Figures = {
    ("dram_reduction_cascade_token_pruning", "8 GPT-2 models (token + local value pruning)"): _token_reduction,
    ("dram_reduction_cascade_head_pruning", "8 GPT-2 models"): _head_reduction,
    ("memory_access_reduction_progressive_quantization", "mean"): _bit_reduction,
    ("computation_reduction", "mean"): _products,
    ("ablation_step_pruning_without_parallel_topk", "GPT-2"): lambda: _step(_STEPS[1], _STEPS[0]),
    ("ablation_step_parallel_topk_engine", "GPT-2"): lambda: _step(_STEPS[2], _STEPS[1]),
    ("ablation_step_progressive_quantization", "GPT-2"): lambda: _step(_STEPS[3], _STEPS[2]),
    ("roofline_achieved", "GPT-2 on SpAtten"): lambda: (
        _mean(_tera(_last(model).operations_per_cycle) for model in MODELS)
    ),
    ("roofline_achieved", "BERT on SpAtten"): _bert_tflops,
    ("effective_throughput", _EIGHTH): _effective_gops,
    ("speedup_over_A3", "mean of 30 benchmarks"): lambda: _over(A3),
    ("speedup_over_MNNFast", "mean of 30 benchmarks"): lambda: _over(MNNFAST),
    ("speedup_over_TITAN_Xp", "mean of 30 benchmarks"): _over_titan_xp,
    ("power_dram", _FULL): _dram_w,
    ("ablation_specialised_datapath_speedup_over_TITAN_Xp", "GPT-2"): _datapath,
    ("end_to_end_speedup_spatten_e2e_8bit_fc_over_TITAN_Xp", "GPT-2"): _end_to_end,
    ("dram_access_reduction", "mean of 30 benchmarks"): lambda: (
        _token_reduction() * _head_reduction() * _bit_reduction()
    ),
}
_TWO = "two of eight GPT-2 benchmarks are public"
_WHY: Mapping[tuple[str, str], str] = {
    ("dram_reduction_cascade_token_pruning", "8 GPT-2 models (token + local value pruning)"): _TWO,
    ("dram_reduction_cascade_head_pruning", "8 GPT-2 models"): f"{_TWO}; GPT-2 small prunes no heads",
    ("memory_access_reduction_progressive_quantization", "mean"):
        f"{_TWO}; the paper does not say against what; 32 bits assumed; medium stays at 12 bits",
    ("computation_reduction", "mean"): f"{_TWO}; the paper's mean includes BERT, which prunes less",
    ("ablation_step_pruning_without_parallel_topk", "GPT-2"):
        f"{_TWO}; medium keeps 54 % of its keys, so that a serial top-k costs more than pruning gains",
    ("ablation_step_parallel_topk_engine", "GPT-2"): f"{_TWO}; a serial engine compares one score a cycle here",
    ("ablation_step_progressive_quantization", "GPT-2"):
        f"{_TWO}; medium runs 12-bit keys as 8 + 4 with and without quantization, which gains nothing",
    ("roofline_achieved", "GPT-2 on SpAtten"): f"{_TWO}; fixed latencies of about 180 cycles a head, as in the RTL",
    ("roofline_achieved", "BERT on SpAtten"):
        "top-k latencies of queries add up in the RTL's model, and bound the run; length and ratios are assumed",
    ("effective_throughput", _EIGHTH): "BERT-base only; length and ratios are assumed",
    ("speedup_over_A3", "mean of 30 benchmarks"): "three models for 30; A3 at its published 221 GOP/s or its fetch",
    ("speedup_over_MNNFast", "mean of 30 benchmarks"): "three models for 30; MNNFast at its 120 GOP/s or its fetch",
    ("speedup_over_TITAN_Xp", "mean of 30 benchmarks"):
        "three models for 30 benchmarks; the GPU at its published 0.02 and 0.01 TFLOPS, each printed to one digit",
    ("ablation_specialised_datapath_speedup_over_TITAN_Xp", "GPT-2"):
        f"{_TWO}; the GPU at its published 0.01 TFLOPS, which is 0.005 to 0.015 before rounding",
    ("end_to_end_speedup_spatten_e2e_8bit_fc_over_TITAN_Xp", "GPT-2"):
        "the paper does not say which GPT-2 took 370 ms: small and medium here; how it runs norms is assumed",
    ("power_dram", _FULL): "GPT-2 only, 3.9 pJ a bit; the paper's mean includes BERT",
    ("dram_access_reduction", "mean of 30 benchmarks"):
        "GPT-2 only, token x head x bit reductions, 32 bits assumed; 22 of the 30 are BERT, which prunes less",
}  # fmt: skip
