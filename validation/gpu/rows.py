"""Rows of the public GPU files as rows of one kind: operation, device, kernel, shape, seconds, and what they count for.

What a row says that we cannot predict (a backward pass, a kernel without a descriptor, a shape that is not stated) is
counted with its reason. Knows no model.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened, suggestion
from cascadesim.validation.columns import Value
from cascadesim.validation.gna.published import CannotJudge
from cascadesim.validation.gpu.kernels import DEVICES, generation_of, kernel_of, problem
from cascadesim.validation.gpu.layouts import NAMES, RAW, SHAPE, recognised
from cascadesim.validation.gpu.split import SCORED, split_of
from cascadesim.validation.table import MOST_PROBLEMS, Row, Table, parse_table

Cells = dict[str, Value]
SHORT_S = 20e-6  # issue: rows below are reported apart
# wide enough that the order of a class's rows says more than the scatter of single runs
CLASSES = ((SHORT_S, "below 20 us"), (1e-3, "20 us to 1 ms"), (float("inf"), "1 ms and more"))
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "fp16/bf16": "fp16", "fp8": "fp8", "fp16": "fp16", "fp32": "fp32"}
_NEVER_0 = ("batch", "seqlen_q", "kv_len", "heads_q", "heads_kv", "head_dim", "m")  # n, k: 0 where there is none
DTYPE_BYTES = {"fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


def _aic_source(cells: Cells) -> str:
    return f"aiconfigurator {str(cells['impl']).partition(':')[0]}"


def _prefill(cells: Cells) -> Cells:
    length = cells["seqlen"]
    return {"source": _aic_source(cells), "operation": "prefill", "seqlen_q": length, "kv_len": length, "causal": 1}


def _decode(cells: Cells) -> Cells:
    return {"source": _aic_source(cells), "operation": "decode", "seqlen_q": 1, "causal": 0}


def _encoder(cells: Cells) -> Cells:
    length, heads = cells["seqlen"], cells["heads"]
    return {"source": _aic_source(cells), "operation": "encoder", "seqlen_q": length, "kv_len": length, "causal": 0,
            "heads_q": heads, "heads_kv": heads}


def _gemm(cells: Cells) -> Cells:
    return {"source": _aic_source(cells), "operation": "gemm", "kernel": "gemm"}


def _mla(cells: Cells) -> Cells:
    """DeepSeek: context 192/128 per head, causal; generation 576/512 over one latent head."""
    heads = cells["heads"]
    if cells["phase"] == "context":
        shape: Cells = {"head_dim": 192, "head_dim_v": 128, "heads_kv": heads, "causal": 1}
    else:
        shape = {"head_dim": 576, "head_dim_v": 512, "heads_kv": 1, "causal": 0}
    return {"source": _aic_source(cells), "operation": f"mla-{cells['phase']}", "heads_q": heads, **shape}


def _vidur_attention(cells: Cells) -> Cells:
    new, cached = int(cells["seqlen_q"] or 0), int(cells["kv_cache"] or 0)
    decode = cells["phase"] == "decode"
    return {"source": "vidur", "operation": cells["phase"], "kv_len": new + cached, "causal": 0 if decode else 1}


def _vidur_linear(cells: Cells) -> Cells:
    gemm = cells["kind"] == "gemm"
    operation = "gemm" if gemm else str(cells["op"]).replace("input_", "").replace("post_attention_", "")
    return {"source": "vidur", "operation": operation, "kernel": operation, "dtype": "fp16",
            "impl": f"{cells['op']} {cells['model']} tp{cells['tp']}"}


def _servingsim(cells: Cells) -> Cells:
    if cells["phase"] == "mixed":
        raise CannotJudge("prefill and decoding in one call")
    prefill = cells["phase"] == "prefill"
    new, cached = int(cells["prefill_q"] or 0), int(cells["prefill_kv_cache"] or 0)
    shape: Cells = ({"batch": 1, "seqlen_q": new, "kv_len": new + cached, "causal": 1} if prefill else
                    {"batch": cells["n_decode"], "seqlen_q": 1, "kv_len": cells["kv_decode"], "causal": 0})
    return {"source": "LLMServingSim", "operation": cells["phase"], **shape}


def _papers(cells: Cells) -> Cells:
    if cells["pass"] != "fwd":
        raise CannotJudge("it has a backward pass")
    heads, length = cells["heads"], cells["seqlen"]
    causal = int(cells.get("causal") or 0)
    return {"source": f"paper {cells['paper']}", "operation": "prefill" if causal else "encoder", "seqlen_q": length,
            "kv_len": length, "heads_q": heads, "heads_kv": heads, "causal": causal}


def _fa1(cells: Cells) -> Cells:
    if cells.get("dropout") or cells.get("padding_mask"):
        raise CannotJudge("dropout or a padding mask")
    return _papers(cells)


def _llmcompass(cells: Cells) -> Cells:
    name = str(cells["op"]).replace("gemm", "linear")
    return {"source": "LLMCompass", "operation": name, "kernel": name, "impl": f"pytorch {name}"}


def _neusight(cells: Cells) -> Cells:
    """A batch of products is b products; rows of a row-wise or elementwise operator are b of the stated width."""
    group, name = cells["group"], str(cells["op"])
    shape: Cells = ({"batch": cells["b"], "m": cells["m_or_width"]} if group in ("bmm", "linear")
                    else {"m": cells["b"], "n": cells["m_or_width"]})
    operation = {"ln": "layernorm"}.get(name, name)
    return {"source": "NeuSight", "operation": operation, "kernel": operation, "dtype": "fp32",
            "impl": f"pytorch {name}", **shape}


def _misc(cells: Cells) -> Cells:
    if cells["unit"] != "TFLOPS" or cells["kind"] == "headline" or not cells.get("batch" if cells["kind"] == "attention"
                                                                                else "m"):
        raise CannotJudge("its shape is not stated")
    if cells.get("pass") != "fwd":
        raise CannotJudge("it has a backward pass")
    flops_per_s = float(cells["value"] or 0) * 1e12
    if cells["kind"] == "gemm":
        raise CannotJudge("a product in a table of attention")
    causal = int(cells.get("causal") or 0)
    shape = [int(cells[name] or 0) for name in ("batch", "heads_q", "seqlen_q", "seqlen_k", "head_dim")]
    batch, heads, new, keys, dim = shape
    flops = 4 * batch * heads * new * keys * dim / (2 if causal else 1)  # the table's convention
    return {"source": "README", "operation": "prefill" if causal else "encoder", "kv_len": keys, "causal": causal,
            "latency_ms": flops / flops_per_s * 1e3}


READERS: Mapping[str, Callable[[Cells], Cells]] = {
    "prefill": _prefill, "decode": _decode, "encoder": _encoder, "gemm": _gemm, "mla": _mla,
    "vidur-attention": _vidur_attention, "vidur-linear": _vidur_linear, "servingsim": _servingsim, "papers": _papers,
    "fa1": _fa1, "llmcompass": _llmcompass, "neusight": _neusight, "misc": _misc,
}  # fmt: skip


def read_rows(text: str, source: str, layouts: Sequence[str], operations: Callable[[str], bool]) -> Table:
    """Rows of `text`, in one of `layouts`, whose operation is of the suite. Raises SpecError with every problem."""
    name = recognised(_header(text), layouts)
    raw = parse_table(text, RAW[name], source)
    left_out: Counter[str] = Counter()
    rows, problems = [], []
    for row in raw.rows:
        try:
            rows.append(_unified(row, READERS[name], operations))
        except CannotJudge as reason:
            left_out[str(reason)] += 1
        except ValueError as error:
            problems.append(f"{row.place}, {error}")
    if problems:
        raise SpecError("\n".join(problems[:MOST_PROBLEMS]), further=len(problems[MOST_PROBLEMS:]))
    return Table(tuple(rows), raw.comments, raw.unread_columns, tuple(left_out.items()))


def _header(text: str) -> Sequence[str]:
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    try:
        return next(csv.reader([next(lines, "")]))
    except csv.Error:
        return ()  # `parse_table` says what is wrong with it


def _unified(row: Row, read: Callable[[Cells], Cells], operations: Callable[[str], bool]) -> Row:
    stated: Cells = dict(row.cells)
    cells = {**stated, **read(stated)}
    if not operations(str(cells["operation"])):
        raise CannotJudge("an operation of another suite")
    cells |= {"device": _device(cells), "dtype": _dtype(cells, "dtype"), "kv_dtype": _kv_dtype(cells)}
    cells["kernel"] = cells.get("kernel") or _kernel(cells)
    cells |= {"latency_s": float(cells["latency_ms"] or 0) * 1e-3}
    cells["head_dim_v"] = cells.get("head_dim_v") or cells.get("head_dim")
    if empty := [name for name in _NEVER_0 if cells.get(name) == 0]:
        raise CannotJudge(f"{empty[0]} is 0")
    cells |= _groups(cells)
    return Row(tuple((name, cells.get(name)) for name in UNIFIED_NAMES), row.source, row.line)


UNIFIED_NAMES = (*NAMES, "architecture", "size_class", "stratum", "split", "scored", *SHAPE, "latency_s")


def _device(cells: Cells) -> str:
    device = DEVICES.get(str(cells["gpu"]))
    if device is None:
        raise CannotJudge(f"no device {cells['gpu']}")
    return device


def _dtype(cells: Cells, column: str) -> str:
    """Our name of a type. Raises ValueError for one that nobody has."""
    given = cells.get(column)
    if given is None:
        raise CannotJudge("its type is not stated")
    found = DTYPES.get(str(given))
    if found is None:
        raise ValueError(f"column '{column}': no type '{shortened(str(given))}'{suggestion(str(given), DTYPES)}")
    return found


def _kv_dtype(cells: Cells) -> str:
    return _dtype(cells, "dtype" if cells.get("kv_dtype") is None else "kv_dtype")


def _kernel(cells: Cells) -> str:
    heads = int(cells["heads_q"] or 1)
    group = heads // int(cells["heads_kv"] or heads)
    kernel = kernel_of(str(cells["impl"]), str(cells["operation"]), str(cells["device"]), group)
    if kernel is None:
        raise CannotJudge(f"no descriptor of {cells['impl']}")
    name, head_dim = str(cells["operation"]), int(cells["head_dim"] or 0)
    why = problem(kernel, name, str(cells["device"]), head_dim, str(cells["dtype"]))
    if why is not None:
        raise CannotJudge(why)
    return kernel


def _groups(cells: Cells) -> Cells:
    size = next(name for limit, name in CLASSES if float(cells["latency_s"] or 0) < limit)
    split = split_of(cells)
    stratum = " / ".join(str(cells[name]) for name in ("source", "device", "kernel"))
    short = float(cells["latency_s"] or 0) < SHORT_S
    return {"size_class": size, "stratum": f"{stratum} / {size}", "split": split,
            "architecture": generation_of(str(cells["device"])),
            "scored": split if split != SCORED else "short" if short else SCORED}  # fmt: skip


