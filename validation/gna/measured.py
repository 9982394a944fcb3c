"""Published kernel times of neighborhood attention against the time model of `simulator.gna.neighborhood`.

A speedup needs a dense time: measured in the same file, else in ours, else from the model of the device; each row says
which. Tiles that a row leaves open are the fastest legal ones. What the model's constants came from is marked from the
`# calibration:` lines of our table, in a user's file too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial

from cascadesim.accelerators.gpu.natten import DEVICES
from cascadesim.accelerators.neighborhood_kernels import TileShapes, legal_tiles
from cascadesim.simulator.gna.neighborhood import Prediction as Times
from cascadesim.simulator.gna.neighborhood import Question, predict
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.gna import paper
from cascadesim.validation.gna.paper import cell
from cascadesim.validation.suites import CalibratedCells, declared
from cascadesim.validation.table import CannotJudge, Layout, Row, Table, Value, columns_of, positive, published

FILE = "gna-measured.csv"
GPUS = {"h100": "h100-sxm", "h100-sxm": "h100-sxm", "b200": "b200"}  # spelling in the table -> device with constants
KERNEL, TOTAL, PERMUTE, END_TO_END = "kernel", "kernel and permutation", "permutation", "end to end"
KINDS = {
    "attention kernel runtime": KERNEL, "forward kernel runtime": KERNEL, "attention speedup, measured": KERNEL,
    "total runtime": TOTAL, "token permute/unpermute runtime": PERMUTE, "end-to-end speedup, measured": END_TO_END,
}  # fmt: skip
HEADS = {"Cosmos-7B": (1, 32, 128), "HunyuanVideo": (1, 24, 128), "FLUX.1-dev 4K": (1, 24, 128)}  # b, h, d: workloads/
_OPERATION = re.compile(r"\bb=(\d+) h=(\d+) d=(\d+)")
_BACKEND = re.compile(r"\b(cutlass|flex|hopper|blackwell)-fna")
FIGURES = ("kernel_speedup", "kernel_speedup_own_dense", "total_s", "permute_s", "end_to_end_speedup")
LAYOUT = Layout(
    (*paper.TEXT,
     *columns_of(str, "kind device kernel dimensions dense_time tiles calibration", required=False),
     *columns_of(positive, f"{' '.join(FIGURES)} baseline_s", required=False)),
    key=paper.RAW.key,
)  # fmt: skip
Operation = tuple[int, int, int]  # batch, heads, head dimension
Dense = Mapping[tuple[str, str, Operation], float]  # (device, layout, operation) -> measured seconds


def parse_measured(text: str, layout: Layout, source: str) -> Table:
    dense = _dense_times(paper.raw_table(text, source))
    return paper.parse_published(text, source, partial(_read, dense=dense))


@cache
def _packaged() -> tuple[Dense, tuple[CalibratedCells, ...]]:
    """Measured dense times of our own table, and what the model's constants came from."""
    table = published(FILE, paper.RAW)
    return _dense_times(table), declared(table, LAYOUT, FILE)


def _read(row: Row, dense: Dense) -> Mapping[str, Value]:
    metric = cell(row, "metric")
    kind = next((kind for begin, kind in KINDS.items() if metric.startswith(begin)), None)
    if kind is None:
        raise CannotJudge("its metric is not a time or speedup of the forward pass")
    device = _device(row)
    if _is_dense(row):
        raise CannotJudge("it is the dense baseline")
    operation = _operation(row)
    asked, tiles = _question(row, device, operation)
    baseline_s, dense_time = _baseline(row, device, operation, dense, asked)
    cells: dict[str, Value] = {
        "kind": kind, "device": device, "kernel": "block-sparse" if asked.block_sparse else "masked", "tiles": tiles,
        "dimensions": f"{len(asked.pattern.layout)}-D", "dense_time": dense_time, "baseline_s": baseline_s,
        "q_tile": "x".join(map(str, asked.tiles.query)), "kv_tile": "x".join(map(str, asked.tiles.key)),
        **_measured(row, kind, baseline_s),
    }  # fmt: skip
    full = Row(tuple({**dict(row.cells), **cells}.items()), row.source, row.line)
    fitted = any(each.covers(full, name) for each in _packaged()[1] for name in FIGURES if name in cells)
    if fitted and kind == TOTAL:
        raise CannotJudge("the model's constants came from its kernel")
    return {**cells, "calibration": "yes" if fitted else "no"}


def _device(row: Row) -> str:
    gpu = cell(row, "gpu")
    if gpu.lower() not in GPUS:
        raise CannotJudge(f"no time constants for {gpu or 'an unnamed GPU'}")
    device = GPUS[gpu.lower()]
    named = _BACKEND.search(cell(row, "use_case"))
    if named is not None and named.group() != DEVICES[device].backend:
        raise CannotJudge(f"no time constants for {named.group()} on {gpu}")
    return device


def _is_dense(row: Row) -> bool:
    """Every query sees everything: what the speedups are over."""
    return bool(cell(row, "window")) and cell(row, "window") == cell(row, "token_layout")


def _operation(row: Row) -> Operation:
    use_case = cell(row, "use_case")
    if found := _OPERATION.search(use_case):
        batch, heads, head_dim = map(int, found.groups())
        return batch, heads, head_dim
    for name, operation in HEADS.items():
        if use_case.startswith(name):
            return operation
    raise CannotJudge("it does not state batch, heads and head dimension")


def _question(row: Row, device: str, operation: Operation) -> tuple[Question, str]:
    """The pattern on the stated tiles; where several or none are stated, on those that the model finds fastest."""
    found = paper.pattern(row)
    queries, keys = (_tile_shapes(cell(row, name)) for name in ("q_tile", "kv_tile"))
    stated = [TileShapes(query, key) for query, key in zip(queries, keys, strict=False)]
    shapes = stated or list(legal_tiles(DEVICES[device].backend, len(found.layout), operation[2]))
    asked = min((Question(found, shape) for shape in shapes),
                key=lambda each: _times_of(each, device, operation).kernel_s)  # fmt: skip
    return asked, "stated" if len(stated) == 1 else "chosen"


def _tile_shapes(text: str) -> list[tuple[int, ...]]:
    """`4x4x8 or 2x8x8`."""
    parts = [part for part in re.split(r"\s+or\s+|\||/", text.strip()) if part]
    if not all(re.fullmatch(r"\d+(x\d+)*", part) for part in parts):
        raise ValueError(f"expected tile shapes such as 4x8x8, got '{text}'")
    return [tuple(map(int, part.split("x"))) for part in parts]


def _times_of(asked: Question, device: str, operation: Operation) -> Times:
    batch, heads, head_dim = operation
    times: Times = predict(asked, DEVICES[device], heads, head_dim, batch)
    return times


def _baseline(row: Row, device: str, operation: Operation, dense: Dense, asked: Question) -> tuple[float, str]:
    """Seconds of dense attention and where they are from."""
    key = device, cell(row, "token_layout"), operation
    for times, where in ((dense, "same file"), (_packaged()[0], "packaged data")):
        if key in times:
            return times[key], where
    return _times_of(asked, device, operation).dense_s, "dense model"


def _dense_times(table: Table) -> Dense:
    """Rows of dense kernels that state what they ran; cuDNN's, the published baseline, before others."""
    found = {}
    for row in sorted(table.rows, key=lambda row: "cuDNN" in cell(row, "use_case")):
        gpu = GPUS.get(cell(row, "gpu").lower())
        known = cell(row, "certainty").startswith("certain") and cell(row, "metric") == "attention kernel runtime"
        if gpu is not None and known and _is_dense(row) and _OPERATION.search(cell(row, "use_case")):
            found[gpu, cell(row, "token_layout"), _operation(row)] = paper.seconds(row)
    return found


def _measured(row: Row, kind: str, baseline_s: float) -> dict[str, Value]:
    if kind == END_TO_END:
        paper.attention_share(row), paper.sparse_steps(row)
        return {"end_to_end_speedup": paper.figure(row)}
    if kind == KERNEL:
        timed = "runtime" in cell(row, "metric")
        speedup = baseline_s / paper.seconds(row) if timed else paper.figure(row)
        return {"kernel_speedup": speedup, "kernel_speedup_own_dense": speedup}
    return {"total_s" if kind == TOTAL else "permute_s": paper.seconds(row)}


def speedups(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Kernel speedup over the measured dense time and over our own, times, and end to end by Amdahl's law."""
    device, operation = row.text("device"), _operation(row)
    asked, _ = _question(row, device, operation)
    times = _times_of(asked, device, operation)
    baseline_s = row.number("baseline_s") or times.dense_s
    whole_run = row.text("kind") == END_TO_END
    return {
        "kernel_speedup": baseline_s / times.kernel_s,
        "kernel_speedup_own_dense": times.kernel_speedup,
        "total_s": times.total_s,
        "permute_s": times.permute_s,
        "end_to_end_speedup": paper.end_to_end_speedup(row, baseline_s / times.total_s) if whole_run else None,
    }


def why(row: Row) -> str:
    """What the model leaves out in such a row: where its error comes from, as far as that is known. Empty: untold."""
    kind, dimensions = row.text("kind"), row.text("dimensions")
    if row.text("calibration") == "yes":
        return "calibration"
    if kind == END_TO_END:
        return ""  # two dozen rows that the law of Amdahl flattens alike
    if kind != KERNEL:
        reason = "one copy rate for all sizes; measured ones differ by a quarter"
    elif dimensions == "1-D":
        reason = "one head: few query tiles per SM, so start and end weigh most"
    elif dimensions == "2-D":
        reason = "priced on the same kernel at other strides"
    else:
        masks = "a mask compares a third coordinate per element, and " if row.text("kernel") == "masked" else ""
        reason = f"priced on a 2-D kernel: {masks}boxes of keys break into shorter runs (assumed)"
    return f"{reason}; dense time from the device's median rate" if row.text("dense_time") == "dense model" else reason
