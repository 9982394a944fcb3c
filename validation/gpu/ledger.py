"""Every number of the GPU model that no document gives, in one list: how it came about, who can read it, what it does.

Found in the files themselves, so that none can be missing: constants that a script fits to calibration rows; numbers
that were set by hand with rows in view (software inside measurements); assumptions; ceilings that somebody measured.
What a constant is worth is shown by leaving it out, nothing fitted again. Facts with a source (tiles, splits, peaks)
are not listed: they stand with their source in their files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.accelerators.catalogue import presets
from cascadesim.accelerators.gpu import gemm, kernel, memory, programs, timing
from cascadesim.accelerators.gpu.attention import compiled, tile
from cascadesim.accelerators.gpu.calibration import estimates, step_overheads
from cascadesim.accelerators.gpu.engines import collectives
from cascadesim.accelerators.gpu.engines.engine import FILE as ENGINES
from cascadesim.accelerators.gpu.generic import blocks
from cascadesim.accelerators.gpu.generic import timing as generic_timing
from cascadesim.accelerators.gpu.kernel import FOLDER, kernels
from cascadesim.validation.gpu import model
from cascadesim.validation.gpu.layouts import Floats, Shapes
from cascadesim.validation.gpu.model import REMOVABLE
from cascadesim.validation.gpu.selections import RowSelection, own_shapes

Kind: TypeAlias = Literal["calibrated", "guess", "by hand", "assumed", "measured"]
KINDS: Mapping[Kind, str] = {
    "calibrated": "fitted by `python -m cascadesim.validation.gpu.calibrate` to calibration rows",
    "guess": "in the same file, where no calibration row speaks of it",
    "by hand": "set with published rows in view",
    "assumed": "assumed, some of them the best of a few values on calibration rows",
    "measured": "a ceiling or latency that somebody measured",
}
READ_ON: Mapping[str, tuple[str, ...]] = {"tensor_energy_pj": ("ampere", "ada")}  # shared, but not read on others
GENERATIONS = ("ampere", "ada", "hopper", "blackwell")  # those with published rows
_FIELDS = ("emulated_exponentials", "dependent_loads")
_FIELD = re.compile(rf"\b({'|'.join(_FIELDS)}): ([0-9.]+)")
_OF_GENERATIONS = re.compile(r"generations: \[([^\]]+)\]")
_NAME = r"[A-Z][A-Z0-9_]*"
_CONSTANT = re.compile(rf"(?m)^((?:#[^\n]*\n)*)({_NAME}(?:, {_NAME})*)(?:: \w+)? = ([-0-9._e, ]+?)(?:[ ]+#\s*(.*))?$")
_OF_ENGINE = re.compile(r"(host_launch_s|tokens_per_pass): ([0-9.e-]+)")
_SEEN = ("BETWEEN_SOCKETS_BYTES_PER_S",)  # of two figures of its source, the one that scored runs are nearer to
_MODULES = (tile, compiled, timing, memory, gemm, kernel, model, programs, blocks, generic_timing,
            collectives)  # fmt: skip
ROWS_OF: Mapping[str, RowSelection] = {
    "encoder": RowSelection(("encoder",), ("encoder",)), "prefill": RowSelection(("prefill",), ("prefill",)),
    "decode": RowSelection(("decode",), ("decode",)), "products": RowSelection(("gemm",), ("gemm",)),
    "MLA": RowSelection(("mla",), ("mla-context", "mla-generation")),
}  # fmt: skip
SHORT_S = 20e-6  # issue: calls below are reported, not scored


@dataclass(frozen=True, slots=True)
class Number:
    """One number: what it is called, the file it stands in, its value, and what is said of it there.

    `generations`: those whose devices can read it; `interval`: of 95 % confidence, where a fit gives one.
    """

    name: str
    file: str
    value: float
    kind: Kind
    generations: tuple[str, ...]
    said: str
    interval: tuple[float, float] | None = None


@cache
def numbers() -> tuple[Number, ...]:
    """All of them, file by file."""
    return (*_calibrated(), *_of_kernels(), *_of_modules(), *_of_engines(), *_software(), *_ceilings())


def _calibrated() -> Iterator[Number]:
    for section, found in estimates().items():
        for name, one in found.items():
            kind: Kind = "calibrated" if one.rows else "guess"
            read_on = GENERATIONS if section == "shared" else (section,)
            yield Number(f"{section}.{name}", "calibration.yaml", one.value, kind, read_on,
                         f"{one.rows} rows" if one.rows else "", (one.low, one.high))  # fmt: skip
    for kind_of_step, one in step_overheads().items():
        yield Number(f"overhead_s, {kind_of_step}", "step_overheads.yaml", one.value, "calibrated", GENERATIONS,
                     f"{one.rows} runs of whole models", (one.low, one.high))  # fmt: skip


def _of_kernels() -> Iterator[Number]:
    for name, own_kernel in kernels().items():
        for line in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
            content, _, said = line.partition("#")
            own = _OF_GENERATIONS.search(content)
            read_by = own.group(1).replace(" ", "").split(",") if own else own_kernel.generations
            head = re.search(r"head_dim: (\d+)", content)
            for field, value in _FIELD.findall(content):
                if field == "dependent_loads" and "assumed" not in said:
                    continue  # as its source has it
                where = f" d {head.group(1)}" if head else ""
                yield Number(f"{field}{where}", f"kernels/{name}.yaml", float(value), "assumed", tuple(read_by),
                             said.strip().removeprefix("assumed: "))  # fmt: skip


def _of_modules() -> Iterator[Number]:
    """Constants of modules whose line, or the comment above it, says `assumed`."""
    for module in _MODULES:
        path = Path(str(module.__file__))
        for above, names, values, beside in _CONSTANT.findall(path.read_text(encoding="utf-8")):
            said = beside or " ".join(line.strip("# ") for line in above.splitlines())
            if "assumed" not in said:
                continue
            for name, value in zip(names.split(", "), values.split(", "), strict=True):
                folder = "" if path.parent.name == "gpu" else f"{path.parent.name}/"
                kind: Kind = "by hand" if name in _SEEN else "assumed"
                yield Number(name, f"{folder}{path.name}", float(value), kind, GENERATIONS,
                             said.replace("assumed: ", "", 1))  # fmt: skip


def _of_engines() -> Iterator[Number]:
    """Numbers of engines that say `assumed`, beside them or in the lines above."""
    above, engine = "", ""
    for line in ENGINES.read_text(encoding="utf-8").splitlines():
        content, _, said = line.partition("#")
        engine = content.strip().rstrip(":") if content.strip() and not content.startswith(" ") else engine
        above = f"{above} {said}" if not content.strip() else above
        found = _OF_ENGINE.search(content)
        if found and "assumed" in (said := said or above):
            yield Number(f"{engine} {found.group(1)}", "engines/engines.yaml", float(found.group(2)), "assumed",
                         GENERATIONS, " ".join(said.replace("assumed: ", "", 1).split()))  # fmt: skip
        above = above if not content.strip() else ""


def _software() -> Iterator[Number]:
    for (device, operation), value in model.FRAMEWORK_S.items():
        generation = str(model.device(device).generation)
        yield Number(f"{device} {operation} s", "validation/gpu/model.py", value, "measured", (generation,),
                     "software inside LLMCompass's timings; no prediction of a user reads it")  # fmt: skip


def _ceilings() -> Iterator[Number]:
    for name, path in presets().items():
        content = path.read_text(encoding="utf-8")
        if not name.startswith("gpu/") or "\nmeasured:\n" not in content:
            continue
        generation = str(model.device(name.removeprefix("gpu/")).generation)
        for line in content.split("\nmeasured:\n")[1].splitlines():
            if not line.startswith("  "):
                break
            field, _, rest = line.strip().partition(": ")
            value, _, said = rest.partition("#")
            if not field.startswith("of_"):
                yield Number(f"{name.removeprefix('gpu/')} {field}", "presets", float(value.replace("_", "")),
                             "measured", (generation,), said.strip())  # fmt: skip


def counts() -> Mapping[str, Counter[str]]:
    """Generation, or `all`, -> how many numbers of each kind its devices can read."""
    return {each: Counter(str(one.kind) for one in numbers() if each in (*one.generations, "all"))
            for each in (*GENERATIONS, "all")}  # fmt: skip


def errors_without(removed: Sequence[str], shapes: Shapes) -> tuple[float, float]:
    """Mean and median of |predicted / measured - 1| of scored calls of 20 us and more, without keys of `REMOVABLE`."""
    settings = [f"{model.CONSTANT}{name}={REMOVABLE[name][1]}" for name in removed]
    found: Floats = model.predicted_s(shapes, settings) / shapes.latency_s - 1
    scored = (shapes.split == "scored") & (shapes.latency_s >= SHORT_S) & np.isfinite(found)
    return float(np.mean(np.abs(found[scored]))), float(np.median(np.abs(found[scored])))


def page() -> str:
    """The tables of `docs/constants.md`: counts, what leaving out a group does, and every number."""
    return "\n\n".join((_counted(), _ablation(), _listed()))


def _counted() -> str:
    rows = ["| kind | what it is | " + " | ".join((*GENERATIONS, "all")) + " |",
            "| --- | --- |" + " ---: |" * (len(GENERATIONS) + 1)]
    found = counts()
    for kind, said in KINDS.items():
        rows.append(f"| {kind} | {said} | " + " | ".join(str(found[each][kind]) for each in found) + " |")
    return "\n".join(rows)


def _ablation() -> str:
    rows = ["| without | " + " | ".join(f"{name}: mean / median" for name in ROWS_OF) + " |",
            "| --- |" + " ---: |" * len(ROWS_OF)]
    shapes = {name: own_shapes(selection) for name, selection in ROWS_OF.items()}
    for name, said in {"": "nothing", **{name: said for name, (said, _) in REMOVABLE.items()}}.items():
        found = (errors_without((name,) if name else (), each) for each in shapes.values())
        rows.append(f"| {said} | " + " | ".join(f"{mean:.1%} / {median:.1%}" for mean, median in found) + " |")
    return "\n".join(rows)


def _listed() -> str:
    rows = ["| number | value | 95 % | kind | read on | file | why |", "| --- | ---: | --- | --- | --- | --- | --- |"]
    for one in numbers():
        interval = "" if one.interval is None else f"{one.interval[0]:.4g} to {one.interval[1]:.4g}"
        everywhere = set(one.generations) >= set(GENERATIONS)
        where = "all" if everywhere else ", ".join(one.generations)
        said = one.said.replace("|", "/")
        rows.append(f"| `{one.name}` | {one.value:.6g} | {interval} | {one.kind} | {where} | {one.file} | {said} |")
    return "\n".join(rows)
