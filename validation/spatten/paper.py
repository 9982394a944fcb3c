"""SpAtten's published figures (HPCA'21) beside ours: sizes, reductions, steps of the ladder, throughput.

The paper averages 30 benchmarks, of which two are public as workload files (GPT-2 small and medium on WikiText-2); what
stands here is those two, and BERT-base under the schedule that the paper's rule gives (its ratios are assumed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from math import prod
from operator import attrgetter

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
from cascadesim.validation.table import Layout, Row, Table, columns_of, not_negative, parse_table, with_cells

GIVEN, COUNTED, PREDICTED, OTHER = "given", "counted", "predicted", "not modelled"
BERT_BENCHMARKS, GPT2_BENCHMARKS = 22, 8  # HPCA 2021: 11 tasks and 4 data sets, two models each
TITAN_XP_TOKEN_S = 0.370 / 30  # HPCA 2021: 370 ms for 30 tokens of GPT-2
BERT_LENGTH = 128  # assumed: the paper takes each task's mean length and prints none
DENSE_BITS = 32  # assumed: what a GPU keeps; the paper does not say against what its 5.1x is
NOMINAL = ("dram.mode=nominal",)  # the paper's bandwidth; the public RTL's memory delivers half of it

LAYOUT = Layout(
    (*columns_of(str, "metric benchmark"), *columns_of(str, "value unit", required=False),
     *columns_of(str, "source certainty"), *columns_of(not_negative, "figure", required=False),
     *columns_of(str, "kind", required=False)),
    ("metric", "benchmark", "source"),
)  # fmt: skip


def parse_paper(text: str, layout: Layout, source: str) -> Table:
    """Each row with its figure, where it is one, and how we come to ours."""
    table = parse_table(text, layout, source)
    rows = []
    for row in table.rows:
        kind = next((kind for kind, figures in _FIGURES.items() if _key(row) in figures), OTHER)
        try:
            figure = float(row.text("value")) if row.get("value") is not None else None
        except ValueError:
            figure = None  # lists such as 4+4;6+4
        rows.append(with_cells(row, figure=figure, kind=kind))
    return replace(table, rows=tuple(rows))


def paper(row: Row, settings: Settings = ()) -> PredictedFigures:
    return {"figure": next(figures[_key(row)] for figures in _FIGURES.values() if _key(row) in figures)()}


def explain(row: Row) -> str:
    """Why a predicted figure is not the published one."""
    return _PREDICTED[_key(row)][1] if _key(row) in _PREDICTED else ""


def _key(row: Row) -> tuple[str, str]:
    return row.text("metric"), row.text("benchmark")


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


def _bert_tflops(architecture: str, dense: bool = False) -> float:
    """Operations done, or those of the dense model, by the time that it takes; BERT-base."""
    cycles, done, unpruned = _bert(architecture)
    return _tera((unpruned if dense else done) / cycles)


def _over(architecture: str, bert_s: float, gpt2_s: Callable[[str], float]) -> float:
    """Times of a baseline, of a layer, by those of SpAtten: BERT-base and GPT-2, by how many benchmarks there are of
    each."""
    bert = _speedup("bert-base", bert_s, _bert(architecture)[0])
    gpt2 = _mean(_speedup(model, gpt2_s(model), _last(model, architecture).cycles) for model in MODELS)
    return float((bert**BERT_BENCHMARKS * gpt2**GPT2_BENCHMARKS) ** (1 / (BERT_BENCHMARKS + GPT2_BENCHMARKS)))


def _over_accelerator(baseline: Accelerated) -> float:
    return _over("spatten-1-8", baseline.seconds(_dense_bert()),
                 lambda model: baseline.seconds(_dense_layer(model), published_schedule(model).value_keep))  # fmt: skip


def _titan_xp_s(model: str) -> float:
    """Dense attention of one layer of GPT-2 on the GPU at its published throughput."""
    return TITAN_XP.seconds(_dense_layer(model), "decode")


def _speedup(model: str, layer_s: float, cycles: int) -> float:
    """The speedup of all layers in so many cycles over a machine that takes `layer_s` for a layer of the model."""
    return published_schedule(model).layers * layer_s / (cycles / machine().clock_hz)


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


def _dram_w(model: str) -> float:
    """Power of the DRAM: energy of a token's bytes by its time."""
    pj_per_byte, last = 8 * machine().spec.dram.energy_pj_per_bit, _last(model)
    return last.dram_bytes * pj_per_byte * 1e-12 / (last.cycles / machine().clock_hz)


def _at_nominal(name: str = "spatten") -> Spatten:
    return machine(name, NOMINAL)


def _of_spec(field: str) -> float:
    found: float = attrgetter(field)(_at_nominal().spec)
    return found


def _area_mm2(name: str) -> float:
    return sum((_at_nominal(name).area_um2() or {}).values()) / 1e6


def _bandwidth_gb_s() -> float:
    return _of_spec("dram.peak_bytes_per_cycle") * _at_nominal().clock_hz / 1e9


Figures = Mapping[tuple[str, str], Callable[[], float]]
_FULL, _EIGHTH, _ALL = "SpAtten", "SpAtten-1/8", "mean of 30 benchmarks"
_SMALL, _MEDIUM = "GPT-2-Small WikiText-2 workload", "GPT-2-Medium WikiText-2 workload"
_STEPS = ("dense", "+ local value pruning, serial top-k", "+ parallel top-k engine", "+ progressive quantization")
_FIELDS = {  # metric -> field of the preset
    "multipliers_qk": "multipliers", "multipliers_pv": "multipliers", "hbm_channels": "dram.channels",
    "crossbar_masters": "fetch_channels", "crossbar_slaves": "dram.channels", "softmax_parallelism": "softmax_lanes",
    "topk_comparators": "topk_parallelism",
}  # fmt: skip
_LAYERS = {"layer 0": 0, "layer 1": 1, "layers 2-5": 3, "layers 6-11": 8}  # as printed -> one of them


_GIVEN: Figures = {
    **{(metric, _FULL): partial(_of_spec, field) for metric, field in _FIELDS.items()},
    ("clock", _FULL): lambda: _at_nominal().clock_hz / 1e9,
    ("multipliers", _EIGHTH): lambda: 2 * _at_nominal("spatten-1-8").spec.multipliers,
    ("area", _FULL): lambda: _area_mm2("spatten"),
    ("area", _EIGHTH): lambda: _area_mm2("spatten-1-8"),
}
_COUNTED: Figures = {
    ("hbm_channel_bandwidth", _FULL): lambda: _of_spec("dram.peak_bytes_per_cycle") / _of_spec("dram.channels"),
    ("hbm_bandwidth", _FULL): _bandwidth_gb_s,
    ("roof_bandwidth", _FULL): _bandwidth_gb_s,
    ("bandwidth", _EIGHTH): lambda: _at_nominal("spatten-1-8").spec.dram.peak_bytes_per_cycle,
    ("key_buffer_bits", "RTL default: 256 lines x 512 x 12 bit"): lambda: (
        _of_spec("buffer_lines") * _of_spec("multipliers") * _of_spec("element_bits") / 8 / 1024),
    ("roof_compute", "SpAtten: 1024 multipliers x 2 op x 1 GHz"): lambda: _tera(4 * _of_spec("multipliers")),
    **{("kept_tokens_of_1024", f"{_SMALL}, iterations>=1, {name}"): partial(_kept_tokens, layer)
       for name, layer in _LAYERS.items()},
    ("local_value_keep_ratio", _SMALL): lambda: published_schedule("gpt-2-small").value_keep,
    ("local_value_keep_ratio", _MEDIUM): lambda: published_schedule("gpt-2-medium").value_keep,
}  # fmt: skip
_TWO = "two of eight GPT-2 benchmarks are public"
_PREDICTED: Mapping[tuple[str, str], tuple[Callable[[], float], str]] = {  # figure, and why it is not the published one
    ("dram_reduction_cascade_token_pruning", "8 GPT-2 models (token + local value pruning)"): (_token_reduction, _TWO),
    ("dram_reduction_cascade_head_pruning", "8 GPT-2 models"): (
        _head_reduction, f"{_TWO}; GPT-2 small prunes no heads"),
    ("memory_access_reduction_progressive_quantization", "mean"): (
        _bit_reduction, f"{_TWO}; the paper does not say against what; 32 bits assumed; medium stays at 12 bits"),
    ("computation_reduction", "mean"): (_products, f"{_TWO}; the paper's mean includes BERT, which prunes less"),
    ("ablation_step_pruning_without_parallel_topk", "GPT-2"): (
        lambda: _step(_STEPS[1], _STEPS[0]),
        f"{_TWO}; medium keeps 54 % of its keys, so that a serial top-k costs more than pruning gains"),
    ("ablation_step_parallel_topk_engine", "GPT-2"): (
        lambda: _step(_STEPS[2], _STEPS[1]), f"{_TWO}; a serial engine compares one score a cycle here"),
    ("ablation_step_progressive_quantization", "GPT-2"): (
        lambda: _step(_STEPS[3], _STEPS[2]),
        f"{_TWO}; medium runs 12-bit keys as 8 + 4 with and without quantization, which gains nothing"),
    ("roofline_achieved", "GPT-2 on SpAtten"): (
        lambda: _mean(_tera(_last(model).operations_per_cycle) for model in MODELS),
        f"{_TWO}; fixed latencies of about 180 cycles a head, as in the RTL"),
    ("roofline_achieved", "BERT on SpAtten"): (
        lambda: _bert_tflops("spatten"),
        "top-k latencies of queries add up in the RTL's model, and bound the run; length and ratios are assumed"),
    ("effective_throughput", _EIGHTH): (
        lambda: 1e3 * _bert_tflops("spatten-1-8", dense=True), "BERT-base only; length and ratios are assumed"),
    ("speedup_over_A3", _ALL): (
        lambda: _over_accelerator(A3), "three models for 30; A3 at its published 221 GOP/s or its fetch"),
    ("speedup_over_MNNFast", _ALL): (
        lambda: _over_accelerator(MNNFAST), "three models for 30; MNNFast at its 120 GOP/s or its fetch"),
    ("speedup_over_TITAN_Xp", _ALL): (
        lambda: _over("spatten", TITAN_XP.seconds(_dense_bert(), "prefill"), _titan_xp_s),
        "three models for 30 benchmarks; the GPU at its published 0.02 and 0.01 TFLOPS, each printed to one digit"),
    ("power_dram", _FULL): (
        lambda: _mean(map(_dram_w, MODELS)), "GPT-2 only, 3.9 pJ a bit; the paper's mean includes BERT"),
    ("ablation_specialised_datapath_speedup_over_TITAN_Xp", "GPT-2"): (
        lambda: _mean(_speedup(model, _titan_xp_s(model), ladder(model, "spatten", NOMINAL)[0].cycles)
                      for model in MODELS),
        f"{_TWO}; the GPU at its published 0.01 TFLOPS, which is 0.005 to 0.015 before rounding"),
    ("end_to_end_speedup_spatten_e2e_8bit_fc_over_TITAN_Xp", "GPT-2"): (
        _end_to_end,
        "the paper does not say which GPT-2 took 370 ms: small and medium here; how it runs norms is assumed"),
    ("dram_access_reduction", _ALL): (
        lambda: _token_reduction() * _head_reduction() * _bit_reduction(),
        "GPT-2 only, token x head x bit reductions, 32 bits assumed; 22 of the 30 are BERT, which prunes less"),
}  # fmt: skip
_FIGURES: Mapping[str, Figures] = {
    GIVEN: _GIVEN, COUNTED: _COUNTED, PREDICTED: {key: figure for key, (figure, _) in _PREDICTED.items()},
}  # fmt: skip
