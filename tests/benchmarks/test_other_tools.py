"""What a user would take otherwise, in designs per second: a plain Python loop over the same formula, and other tools
for spatial accelerators where they are installed (`pip install 'cascadesim[compare]'`).

`python -m cascadesim.validation.readme --speed RUN.json` keeps one run for docs/speed.md. Not asked: whose figures are
right.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import ceil, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascadesim.accelerators import catalogue, energy
from cascadesim.accelerators.access_counts import LinearForm
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.bound import tile_forms
from cascadesim.accelerators.fusemax.closed_form import WordForms, word_forms
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.explore.problem import SearchProblem, problem
from cascadesim.simulator.explore.space import space_from

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LOOPED = range(0, 10_125_000, 1013)  # designs of the space that the loop is asked for: about ten thousand
LENGTH, HEADS, DEPTH, WORD = 2**18, 64 * 12, 64, 2  # BERT at 256K tokens, batch 64
Figures = tuple[float, float, float]


class PlainLoop:
    """Latency, energy and area of one design: the same counts and prices, no arrays. Powers of two only, no waiting."""

    def __init__(self) -> None:
        accelerator = catalogue.load("fusemax")
        assert isinstance(accelerator, FuseMax)
        self.spec = accelerator.spec
        self.placement = place(ATTENTION_1PASS, self.spec)
        self.tile = tile_forms(self.placement)
        self.forms: dict[tuple[int, ...], WordForms] = {}
        one, taller = (self._arrays(rows, 1) for rows in (1, 2))
        self.element = taller["array_2d"] - one["array_2d"]
        self.column = 2 * one["array_2d"] - taller["array_2d"]
        self.lane = self._arrays(1, 2)["array_1d"] - one["array_1d"]
        self.rest = one["array_1d"] - self.lane

    def _arrays(self, rows: int, lanes: int) -> dict[str, float]:
        array = self.spec.pe_array.model_copy(update={"rows": rows, "columns": 1})
        vector = self.spec.vector_array.model_copy(update={"lanes": lanes})
        return dict(energy.area_um2(self.spec.model_copy(update={"pe_array": array, "vector_array": vector})))

    def __call__(
        self, rows: int, columns: int, lanes: int, buffer_bytes: int, bandwidth: float, clock_hz: float
    ) -> Figures:
        row_bytes = WORD * columns
        fits = (buffer_bytes - 2 * DEPTH * rows * WORD) // ((2 * DEPTH + 2) * columns * WORD)
        if fits < 1:
            return float("nan"), float("nan"), float("nan")
        query_tiles, key_tiles = LENGTH // columns, LENGTH // rows
        resident = min(query_tiles, 1 << (fits.bit_length() - 1))
        groups = query_tiles // resident
        tiles = HEADS * query_tiles * key_tiles
        on_2d = tiles * (2 * DEPTH + 9)
        on_1d = (tiles * (2 * DEPTH + 10) + HEADS * query_tiles * DEPTH) * -(-columns // lanes)
        dram = self._dram(rows, columns, key_tiles, query_tiles, groups, bandwidth / clock_hz)
        ports = self._ports(rows, columns, row_bytes, key_tiles, query_tiles, groups)
        latency_s = max(on_2d, on_1d, dram, ports) / clock_hz
        joules = self._energy_j(rows, columns, buffer_bytes, row_bytes, (key_tiles, resident, groups))
        area = rows * columns * self.element + columns * self.column + lanes * self.lane + self.rest
        return latency_s, joules, area + energy.sram_area_um2(buffer_bytes, row_bytes)

    def _dram(
        self, rows: int, columns: int, key_tiles: int, query_tiles: int, groups: int, per_cycle: float
    ) -> int:
        load, move = ceil(2 * DEPTH * rows * WORD / per_cycle), ceil(DEPTH * columns * WORD / per_cycle)
        return HEADS * (groups * key_tiles * load + 2 * query_tiles * move)

    def _ports(
        self, rows: int, columns: int, row_bytes: int, key_tiles: int, query_tiles: int, groups: int
    ) -> int:
        always, queries, keys, finished = (
            words_of(form, {"m0": rows, "p0": columns, "e": DEPTH, "f": DEPTH})
            for form in (self.tile.always, self.tile.queries_fetched, self.tile.keys_fetched, self.tile.finished)
        )

        def cycles(words: int) -> int:
            return ceil(words * WORD / row_bytes / self.spec.global_buffer.ports)

        total = 0
        for extra, count in ((keys, groups), (0, query_tiles - groups)):  # the first tile of a row, the others
            total += count * cycles(always + extra + queries)
            total += count * (key_tiles - 2) * cycles(always + extra)
            total += count * cycles(always + extra + finished)
        return HEADS * total

    def _energy_j(
        self, rows: int, columns: int, buffer_bytes: int, row_bytes: int, loops: tuple[int, int, int]
    ) -> float:
        pattern = tuple(min(bound, 2) for bound in loops)
        if pattern not in self.forms:
            self.forms[pattern] = word_forms(self.placement, *pattern)
        forms, (key_tiles, resident, groups) = self.forms[pattern], loops
        sizes = {"instance": HEADS, "m1": key_tiles, "p1": resident, "p2": groups, "m0": rows, "p0": columns,
                 "e": DEPTH, "f": DEPTH}  # fmt: skip
        read, write = energy.sram_row_energy_pj(buffer_bytes, row_bytes)
        priced = (
            (forms.dram_read, WORD * energy.DRAM_PJ_PER_BYTE), (forms.dram_write, WORD * energy.DRAM_PJ_PER_BYTE),
            (forms.buffer_read, read * WORD / row_bytes), (forms.buffer_write, write * WORD / row_bytes),
            *zip((forms.registers_2d_read, forms.registers_2d_write),
                 energy.register_energy_pj(self.spec.pe_array.register_words_per_pe), strict=True),
            *zip((forms.registers_1d_read, forms.registers_1d_write),
                 energy.register_energy_pj(self.spec.vector_array.register_words_per_lane), strict=True),
        )  # fmt: skip
        moved = sum(words_of(form, sizes) * price for form, price in priced)
        return (moved + self._computed_pj(key_tiles)) * 1e-12

    def _computed_pj(self, key_tiles: int) -> float:
        """Operations of all Einsums; an exponential is its multiply-accumulates."""
        price = {**energy.OPERATION_PJ, "exp": 6 * energy.OPERATION_PJ["mac"]}
        total = 0.0
        for placed in self.placement.einsums:
            points = HEADS * LENGTH * DEPTH ** len(placed.ranks & {"e", "f"})
            points *= LENGTH if "m0" in placed.ranks else key_tiles if "m1" in placed.ranks else 1
            total += points * sum(count * price[name] for name, count in placed.operations.items())
        return total


def words_of(form: LinearForm, sizes: dict[str, int]) -> int:
    total = 0
    for loops, times in form.terms.items():
        size = 1
        for loop in loops:
            size *= sizes.get(loop, 1)
        total += times * size
    return total


def looped(made: SearchProblem) -> Iterator[tuple[Any, ...]]:
    """The designs of LOOPED as plain numbers."""
    names = ("pe_array.rows", "pe_array.columns", "vector_array.lanes", "global_buffer.capacity_bytes",
             "dram.bandwidth_bytes_per_s", "clock_hz")  # fmt: skip
    for place_of in LOOPED:
        columns = made.columns(made.digits_of(place_of, place_of + 1))
        yield tuple(columns[name].item() for name in names)


def test_beside_a_plain_python_loop(benchmark: BenchmarkFixture, ten_million: dict[str, Any]) -> None:
    """The same area to the last bits; where nothing waits and the whole array is the best tile, latency and energy."""
    made = problem(space_from(ten_million, "space"), "space")
    loop, designs = PlainLoop(), list(looped(made))
    found: list[Figures] = benchmark.pedantic(lambda: [loop(*design) for design in designs], rounds=1)
    record(benchmark, "plain Python loop", "", len(designs),
           "the same figures of the same designs, one after another, without front and without what pipelines wait")
    equal = 0
    for place_of, (latency_s, energy_j, area) in list(zip(LOOPED, found, strict=True))[::20]:
        if isnan(latency_s):  # no tile of the whole array fits; ours takes a smaller one
            continue
        ours = made.figures(made.digits_of(place_of, place_of + 1))
        assert area == pytest.approx(ours["area_um2"][0], rel=1e-9)
        both = [latency_s, energy_j] == pytest.approx([ours["latency_s"][0], ours["energy_j"][0]], rel=1e-9)
        equal += both
    assert equal > len(found) / 20 / 5


def test_beside_zigzag(benchmark: BenchmarkFixture, ten_million: dict[str, Any], tmp_path: Path) -> None:
    """ZigZag (pip install zigzag-dse six): its own example hardware and mapping; not the same question, but the same
    use."""
    zigzag = pytest.importorskip("zigzag")
    api = pytest.importorskip("zigzag.api")
    inputs = Path(zigzag.__file__ or next(iter(zigzag.__path__))).parent / "inputs"
    workload = tmp_path / "product.yaml"
    workload.write_text(PRODUCT, encoding="utf-8")

    def one_design() -> None:
        api.get_hardware_performance_zigzag(
            workload=str(workload), accelerator=str(inputs / "hardware" / "gemm_l1.yaml"),
            mapping=str(inputs / "mapping" / "default.yaml"), opt="latency", dump_folder=str(tmp_path / "dump"),
            pickle_filename=str(tmp_path / "layers.pickle"),
        )  # fmt: skip

    once(benchmark, ten_million, one_design)
    record(benchmark, "ZigZag", version("zigzag-dse"), 1,
           "one product, 256 x 256 x 64, on its example gemm_l1, mapping search included")


def test_beside_accelforge(
    benchmark: BenchmarkFixture, ten_million: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AccelForge (pip install accelforge, Python 3.12, and Graphviz's dot): its own example architecture of a TPU v4i
    and its example of a product; not the same question, but the same use."""
    accelforge = pytest.importorskip("accelforge")
    if shutil.which("dot") is None:
        pytest.skip("accelforge draws with Graphviz's dot, which is not installed")
    monkeypatch.chdir(tmp_path)  # where it leaves its drawing
    examples = accelforge.examples
    spec = accelforge.Spec.from_yaml(examples.arches.tpu_v4i, examples.workloads.matmuls,
                                     jinja_parse_data={"N_EINSUMS": 1, "M": 256, "KN": 64})  # fmt: skip
    once(benchmark, ten_million, lambda: spec.map_workload_to_arch(print_progress=False))
    record(benchmark, "AccelForge", version("accelforge"), 1,
           "one product, 256 x 64 x 64, on its example tpu_v4i, mapping search included")


def once(benchmark: BenchmarkFixture, space: dict[str, Any], one_design: Callable[[], object]) -> None:
    """Compiled and loaded before it counts."""
    benchmark.pedantic(one_design, rounds=3, warmup_rounds=1)
    assert ours_per_s(space) * least_s(benchmark) > 1000


def ours_per_s(space: dict[str, Any]) -> float:
    """Designs per second of one core."""
    made, designs = problem(space_from(space, "space"), "space"), 2**17
    made.judge(made.digits_of(0, designs))
    start = time.perf_counter()
    made.judge(made.digits_of(5_000_000, 5_000_000 + designs))
    return designs / (time.perf_counter() - start)


def record(benchmark: BenchmarkFixture, tool: str, tool_version: str, designs: int, one_design: str) -> None:
    """What `cascadesim.validation.readme` reads."""
    benchmark.extra_info.update(tool=tool, version=tool_version, one_design=one_design,
                                designs_per_s=designs / least_s(benchmark))


def least_s(benchmark: BenchmarkFixture) -> float:
    assert benchmark.stats is not None  # it has run
    return float(benchmark.stats.stats.min)


PRODUCT = """
- id: 0
  operator_type: Gemm
  equation: O[b][k]+=W[k][c]*I[b][c]
  dimension_relations: []
  loop_dims: [B, K, C]
  loop_sizes: [256, 256, 64]
  operand_precision: {O: 32, O_final: 16, W: 16, I: 16}
  operand_source: {I: 0, W: 0}
"""
