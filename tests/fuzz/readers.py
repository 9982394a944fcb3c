"""Every reader of what a user gives, with a corpus of good inputs and its share of a campaign.

A reader takes bytes and returns, or raises what the command line would print: `Refused` with that message. Shares are
by cost: what takes a millisecond gets fewer inputs than what takes ten microseconds.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.mapping.plan import given
from cascadesim.accelerators.mapping.text import parse_mapping, shipped_mappings
from cascadesim.accelerators.neighborhood_kernels import TileShapes
from cascadesim.einsum_cascades.analysis.footprint import analyse
from cascadesim.einsum_cascades.models import sections as token_layout
from cascadesim.einsum_cascades.models import workload as zoo
from cascadesim.einsum_cascades.models.workload import workload_from
from cascadesim.einsum_cascades.notation import notation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.foreign import foreign
from cascadesim.einsum_cascades.notation.notation import to_text
from cascadesim.einsum_cascades.notation.schema import parse_yaml, with_settings
from cascadesim.einsum_cascades.notation.units import number_of
from cascadesim.einsum_cascades.sparsity.block_selection import read_block_mask
from cascadesim.einsum_cascades.sparsity.masks import mask_from, neighborhood
from cascadesim.einsum_cascades.sparsity.pruning import read_maps
from cascadesim.einsum_cascades.sparsity.pruning_schedules import ramp_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead, format_rows, parse_rows
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.cli import gna as cli_gna
from cascadesim.simulator.cli import options as cli_options
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.explore import problem as explore_problem
from cascadesim.simulator.explore import space as explore_space
from cascadesim.simulator.explore.expressions import Kind, parse_expression
from cascadesim.simulator.explore.workers import Checkpoint
from cascadesim.simulator.gna.neighborhood import Question
from cascadesim.simulator.gna.pattern_report import pattern_answer
from cascadesim.validation import suites
from cascadesim.validation.kernels import records as record_lines
from cascadesim.validation.kernels.record_claims import JUDGED, judged
from cascadesim.validation.measure.cases import cases
from cascadesim.validation.table import read_table


class Refused(Exception):
    """What a user would read."""


@dataclass(frozen=True)
class Reader:
    name: str
    read: Callable[[bytes], object]
    corpus: tuple[bytes, ...]
    weight: float


def readers(folder: Path) -> Iterator[Reader]:
    """`folder`: for readers of files."""
    for name, read, corpus, weight in _all(folder):
        yield Reader(name, _refusing(read), tuple(corpus), weight)


def _refusing(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Errors of ours, and those of the command line's options, as they would be printed."""

    def refusing(content: bytes) -> object:
        try:
            return read(content)
        except (CascadeSimError, click.ClickException) as error:
            from cascadesim.simulator.cli.commands import message

            raise Refused(message(error)) from None

    return refusing


def _all(folder: Path) -> Iterator[tuple[str, Callable[[bytes], object], list[bytes], float]]:
    cascades = [to_text(find(name)).encode() for name in cascade_names()]
    short = sorted(cascades, key=len)[:12]
    yield "cascade", lambda content: _round_trip(_text(content)), [*short, *FORMS], 12
    longer = [*sorted(cascades, key=len)[:25], *FORMS]
    yield "passes", lambda content: analyse(notation.parse("fuzz", _text(content))), longer, 1.5
    yield "import", lambda content: foreign(_text(content), "f.yaml"), FOREIGN, 3
    models = [path.read_bytes() for path in sorted(Path(str(zoo._FOLDER)).glob("*.yaml"))[::4]]
    yield "workload", lambda content: workload_from(parse_yaml(_text(content), "w.yaml"), "w.yaml"), models, 6
    yield "operations", lambda content: _operations(_text(content)), models, 1
    presets = [path.read_bytes() for path in catalogue.presets().values()]
    yield "preset", lambda content: catalogue.build(parse_yaml(_text(content), "p.yaml"), Path("p.yaml")), presets, 6
    texts = [str(mapping).encode() for mapping in shipped_mappings().values()]
    yield "mapping", lambda content: _mapping(_text(content)), texts, 2
    yield "setting", lambda content: _set(_text(content)), SETTINGS, 8
    spaces = [path.read_bytes() for path in sorted(Path(str(explore_space._FOLDER)).glob("*.yaml"))]
    yield "space", lambda content: _space(_text(content)), spaces, 3
    yield "expression", lambda content: _expression(_text(content)), EXPRESSIONS, 16
    yield "pattern", lambda content: _pattern(_text(content)), PATTERNS, 5
    yield "neighborhood", lambda content: _neighborhood(_text(content)), NEIGHBORHOODS, 4
    yield "layout", lambda content: token_layout.layout_sizes(_text(content)), [b"30x48x80", b"256x256", b"32768"], 8
    yield "mask", lambda content: mask_from(_text(content)), [b"causal", b"full", b"window:4096", b"chunk:8192"], 6
    for name, option in OPTIONS.items():
        yield f"option {name}", lambda content, option=option: option(_text(content)), VALUES, 1.5
    yield "command line", lambda content: _command_line(_text(content), folder), COMMANDS, 0.6
    yield "trace", lambda content: parse_rows(_text(content), "rows.csv"), list(_traces()), 10
    yield "attention maps", lambda content: _maps(_file(content, folder / "maps.npz")), list(_arrays(folder)), 4
    yield "block mask", lambda content: read_block_mask(_file(content, folder / "b.npy"), 64, 64), [*_arrays(folder)], 4
    yield "partial result", lambda content: _partial(content, folder), [_chunk(folder)], 3
    yield "records", lambda content: _records(_file(content, folder / "records.jsonl")), list(_measured()), 1
    for suite in suites.suites():
        table = Path(str(suites.import_module("cascadesim.validation").__path__[0])) / "published" / suite.data
        yield f"data of {suite.name}", lambda content, suite=suite: read_table(
            _file(content, folder / suite.data.rpartition("/")[2]), suite.layout, suite.parse), [_head(table)], 0.4


def _mapping(text: str) -> object:
    """Read, written, read again, and bound to a small case of what it is for."""
    found = parse_mapping(text)
    assert parse_mapping(str(found)) == parse_mapping(str(parse_mapping(str(found))))
    spec = catalogue.load("fusemax").spec  # type: ignore[attr-defined]
    return given(found, find(found.cascade), MAPPED, spec) if found.cascade in cascade_names() else found


MAPPED = (("b", 1), ("h", 2), ("g", 1), ("m", 600), ("p", 600), ("e", 64), ("f", 64), ("r", 600), ("n", 300), ("k", 64))
FORMS = [  # of the notation that few cascades have
    b"Y[b,IDX[e]] += V[b,e]\nZ[n] = Y[0,n] * X[2,n]", b"Y[O[I[j]],f] max= V[j,f]", b"DEG[DST[e]] += 1",
    b"R[h,0,p] = S[h]\nR[h,i+1,p] = max(R[h,i,p], X[h,i,p])\nY[h,p] = R[h,I,p]", b"S[i+1] = S[i] until S[i] > 3",
    b"Y[p] = take(K[b, P: p], W[p], 0)",
]  # fmt: skip
FOREIGN = [  # Einsums as TeAAL and AccelForge write them
    b"einsum:\n  declaration:\n    A: [K, M]\n  expressions:\n    - T[m, n] = sum(K).(A[k, m] * B[k, n])\n"
    b"    - Z[m, n] = a * T[m, n] + C[m, n]\n    - Y[q] <<= I[g * q + s] * F[s]\n",
    b"einsum:\n  expressions: ['T[k, m] = take(A[k, m], B[k], 0)', 'Z[m] = T[k, m]']\n",
    b"workload:\n  {% set N = N | default(8) %}\n  rank_sizes: {B: {{N}}}\n  einsums:\n"
    b"  - einsum: \"I(output)[b, m] = copy(X[b, m])\"\n    is_copy_operation: True\n"
    b"  - \"QK[b, m, p] = Q[b, m, e] * K[b, M: p, e]\"\n",
    b"workload:\n  einsums:\n  - name: C\n    tensor_accesses:\n    - {name: X, projection: {N: n, H: p+r}}\n"
    b"    - {name: F, projection: [nA, r]}\n    - {name: O, projection: [n, nA, p], output: True}\n"
    b"    map_op: add\n    reduce_op: max\n",
]  # fmt: skip
SETTINGS = [
    b"clock_hz=1.0e+9", b"pe_array.rows=128", b"binding.policy=serial", b"dram.bandwidth_bytes_per_s=4.0e+11",
    b"vector_array.lanes=12", b"global_buffer.capacity_bytes=1_048_576", b"pe_array.columns=64",
    b"clock_hz=940000000.0", b"vector_array={lanes: 12}", b"energy=[1, 2]", b"batch=3",
]  # fmt: skip
EXPRESSIONS = [
    b"4 * max(1, pe_array.rows // depth)", b"pe_array.rows >= 2 * depth and not depth == 16", b"16 <= depth < 256",
    b"policy == 'serial' or depth > 64", b"1 if pe_array.rows > 100 else 2", b"-log2(depth) + sqrt(depth) % 3",
    b"ceil(pe_array.rows / 100) % 2", b"(depth > 1) + (pe_array.rows > 16)", b"2 ** 40 * pe_array.rows",
    b"'small' if depth < 64 else policy", b"abs(depth - 1e3) < round(floor(2.5), 1)", b"min(1, 2, 3, depth)",
]  # fmt: skip
PATTERNS = [
    b"sink-window:sinks=64,window=512", b"global-window:window=256,globals=16", b"strided:length=64", b"frame-decay",
    b"fixed:length=64,columns=8", b"halo:block=128,halo=32", b"block-causal:block=128", b"moba:block=256,kept=2",
    b"nsa", b"documents:lengths=256+768,causal=0", b"sliding-tile:tile=8x64,window=1x1", b"vsa:kept=3",
    b"pbs:share=0.2", b"sale", b"xattention:share=0.25,head_dim=64", b"vertical-slash:vertical=100,slash=200",
    b"flash-moba:kept=1.5",
    b"vmoba",
]  # fmt: skip
NEIGHBORHOODS = [  # layout, window, stride, dilation, causal, query tile, key tile, extra keys
    b"30x48x80 18x24x24 16x8x8 1x1x1 0,0,0 4x8x8 2x8x8 256", b"256x256 80x80 1x1 1x2 1,0 16x16 16x8 0",
    b"32768 2048 256 1 1 128 128 512", b"7x11 3x5 1x2 2x1 0,1 2x2 2x2 5",
]  # fmt: skip
VALUES = [
    b"4096", b"64K,1M", b"12/28", b"0.25", b"8", b"M0=256", b"M=64K", b"a.b=c", b"fusemax,flat", b"table", b"out.png",
    b"1.83GHz", b"8MiB", b"prefill,decode", b"1,8,64", b"6.7e12",
    b"x.parquet", b"18x24x24", b"1,0,0", b"causal", b"results.csv", b"12:window=3x3,stride=1x1", b"window:512",
]  # fmt: skip
OPTIONS: dict[str, Callable[[str], object]] = {
    "--seq-len": cli_options.lengths, "--batch": cli_options.several(cli_options.whole(1, cli_options.LARGEST_BATCH)),
    "--arch": cli_options.names, "--phase": cli_options.several(cli_options.one_of("prefill", "decode")),
    "a quantity": lambda text: number_of(text, "clock_hz"), "a size": lambda text: number_of(text, "capacity_bytes"),
    "--set": cli_options.setting, "--set of passes": cli_options.extent, "--mask": cli_options.mask,
    "--format": cli_options.one_of("table", "json", "csv"), "--plot": cli_options.new_file(".png", ".svg"),
    "--workers": cli_options.whole(1, 1024), "--window": cli_gna.sizes, "--causal": cli_gna.flags,
    "--steps": cli_gna.steps, "--attention-share": cli_gna.share, "--heads": cli_gna.whole(1, 2**20),
}  # fmt: skip
COMMANDS = [
    b"gna --layout 16x16 --window 4x4 --q-tile 4x4 --kv-tile 4x4 --extra-kv 5 --format json",
    b"gna --layout 256 --pattern pbs:share=0.25 --q-tile 64 --kv-tile 64", b"passes attention-1pass --rank m",
    b"passes attention-3pass --set M=64K --mask causal --format json", b"list workloads",
    b"explore nothing --workers 1", b"simulate --arch fusmax --workload bert", b"simulate --arch flat --bath 3",
    b"validate flat-dataflo --format json",
]  # fmt: skip


def _text(content: bytes) -> str:
    """As files and command lines give it."""
    return content.decode("utf-8", errors="surrogateescape")


def _file(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def _round_trip(text: str) -> None:
    """What is read is written and read again as the same."""
    found = notation.parse("fuzz", text)
    first, again = (
        [(einsum.output, einsum.reduction, einsum.expression) for einsum in each.einsums]
        for each in (found, notation.parse("fuzz", to_text(found)))
    )
    if first != again:
        raise AssertionError("written and read again, it is another cascade")


def _operations(text: str) -> None:
    workload = workload_from(parse_yaml(text, "w.yaml"), "w.yaml")
    workload.operations(sequence_length=256, batch=1)
    workload.parameters()


def _set(text: str) -> None:
    content = parse_yaml((catalogue.ROOT / "fusemax" / "presets" / "fusemax.yaml").read_text(), "fusemax.yaml")
    catalogue.build(with_settings(content, (text,)), Path("fusemax.yaml"))


def _space(text: str) -> None:
    made = explore_problem.problem(explore_space.space_from(parse_yaml(text, "space.yaml"), "space.yaml"), "space.yaml")
    made.first_allowed()


_COLUMNS = {"pe_array.rows": np.array([16, 256]), "depth": np.array([64, 0]), "policy": np.array(["serial", "epochs"])}
_KINDS: dict[str, Kind] = {"pe_array.rows": "number", "depth": "number", "policy": "text"}


def _expression(text: str) -> None:
    found = parse_expression(text, _KINDS, "space.yaml: derive.x").evaluate(_COLUMNS)
    if found.shape not in ((), (2,)):
        raise AssertionError(f"values of shape {found.shape}")


def _pattern(text: str) -> None:
    found = pattern_answer((16, 64), text, None, (64,), (64,))
    found.to_dict()


def _neighborhood(text: str) -> None:
    parts = text.split(" ")
    sides = [cli_gna.sizes(parts[place % len(parts)]) for place in (0, 1, 2, 3, 5, 6)]
    layout, window, stride, dilation, query, key = sides
    cli_gna._refuse({"--layout": layout, "--q-tile": query, "--kv-tile": key}, (window, None, None))
    pattern = neighborhood(layout, window, stride, dilation, cli_gna.flags(parts[4 % len(parts)]))
    asked = Question(pattern, TileShapes(query, key), cli_gna.whole(0, 2**20)(parts[-1]))
    if max(layout) <= 4096:  # larger ones are counted as well, and take their time
        assert asked.bound("multidim_static").mean > 0


def _command_line(text: str, folder: Path) -> None:
    """Through the shell's own function: an exit code, and what was printed as the error."""
    arguments = [part for part in text.replace("--output", "--outptu").split(" ") if "\0" not in part][:40]
    printed = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed):
        code = exit_code(cascadesim, "cascadesim", arguments)
    if code not in (0, 2):
        raise AssertionError(f"exit code {code}")
    if code == 2:
        lines = printed.getvalue().split("\n")
        raise Refused("\n".join(line if line.startswith(" ") else line.partition(": ")[2] for line in lines).rstrip())


def _traces() -> Iterator[bytes]:
    rows = [TracedHead(0, layer, head, 100, 90, 80, 8, 8, head_dim=64) for layer in range(2) for head in range(3)]
    yield format_rows(rows).encode()
    yield format_rows([TracedHead(0, 0, 0, 64, 64, 32, 6, 8, 16, 64, 0.1, True, 4, kept=32, queries=64,
                                  low_bit_queries=3)]).encode()  # fmt: skip


def _arrays(folder: Path) -> Iterator[bytes]:
    maps, path = np.full((3, 2, 4, 4), 0.25, dtype=np.float32), folder / "good.npz"
    np.savez(path, maps=maps, outputs=maps)
    yield path.read_bytes()
    np.savez_compressed(path, maps_0=maps[:, :, 0], maps_1=np.full((3, 2, 5), 0.2))
    yield path.read_bytes()
    for array in (maps, np.eye(4), np.eye(3, dtype=bool)):
        np.save(folder / "good.npy", array)
        yield (folder / "good.npy").read_bytes()


def _maps(path: Path) -> None:
    read_maps(path).pruned(_SCHEDULE)


_SCHEDULE = ramp_schedule("fuzz", 3, 2, token_ratio=0.25)
_NAME = "chunk-000000-0-3"


def _chunk(folder: Path) -> bytes:
    partial = Checkpoint(folder, "stamp")
    partial.save(_NAME, {"digits": np.arange(6, dtype=np.int32).reshape(3, 2), "costs": np.ones((3, 1))})
    return (folder / f"{_NAME}.npz").read_bytes()


def _partial(content: bytes, folder: Path) -> None:
    """A chunk that is believed is the one that was written; all others are said to be damaged and computed again."""
    _file(content, folder / f"{_NAME}.npz")
    with contextlib.redirect_stderr(io.StringIO()):
        found = Checkpoint(folder, "stamp").load(_NAME)
    if found is not None and (found["digits"].tolist() != [[0, 1], [2, 3], [4, 5]] or found["costs"].sum() != 3.0):
        raise AssertionError("a damaged chunk is believed")


def _measured() -> Iterator[bytes]:
    """A record of each suite, as measuring writes it."""
    for case in {case.suite: case for case in cases()}.values():
        about = {"suite": case.suite, "case": case.name, "device": {"name": "NVIDIA H100 80GB HBM3"},
                 "shape": dict(case.shape), "work": dict(case.work)}  # fmt: skip
        samples = {name: {"cold": [10.0], "hot": [9.0]} for name in case.variants[:3]}
        kernels = {name: [{"kernel": "k", "values": {"dram__bytes_read.sum": 1e6}}] for name in case.variants[:3]}
        yield json.dumps({"schema": record_lines.TIMES, **about, "timing": samples,
                          "check": dict.fromkeys(samples, 1e-4)}).encode()  # fmt: skip
        yield json.dumps({"schema": record_lines.COUNTERS, **about, "counters": kernels}).encode()


def _records(path: Path) -> None:
    """Damaged lines are said to be; what is left is compared."""
    lines = record_lines.read(path)
    if any(len(complaint) > 300 or not complaint.isprintable() for complaint in lines.complaints):
        raise AssertionError("a complaint of more than 300 characters, or of several lines")
    for name in JUDGED:
        judged(name, lines.records)


def _head(path: Path) -> bytes:
    """The comments, the header and a few rows of a table; a whole small document in JSON."""
    if path.suffix == ".json":
        found = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({**found, "cases": sorted(found["cases"], key=lambda case: len(str(case)))[:2]}).encode()
    lines = path.read_bytes().splitlines(keepends=True)
    comments = [line for line in lines if line.startswith(b"#")][:3]
    return b"".join([*comments, *[line for line in lines if not line.startswith(b"#")][:5]])
