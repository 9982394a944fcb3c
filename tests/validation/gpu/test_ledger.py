"""The ledger of numbers: none is missing, each says how it came about, leaving a group out shows what it is worth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascadesim.accelerators import gpu
from cascadesim.accelerators.gpu.batch import LAUNCHES
from cascadesim.accelerators.gpu.kernel import kernels
from cascadesim.einsum_cascades.notation.schema import read_yaml
from cascadesim.validation.gpu.ledger import GENERATIONS, KINDS, ROWS_OF, counts, errors_without, numbers
from cascadesim.validation.gpu.model import FRAMEWORK_S, REMOVABLE, predicted_s
from cascadesim.validation.gpu.selections import own_shapes

ROOT = Path(__file__).parents[3]


def test_every_number_of_a_kernel_that_its_descriptor_has_is_listed() -> None:
    """Whatever differs from what a descriptor has by itself, tile by tile, is one line of the ledger."""
    for name, kernel in kernels().items():
        listed = [one for one in numbers() if one.file == f"kernels/{name}.yaml"]
        by_field = {field: sorted(one.value for one in listed if one.name.split()[0] == field)
                    for field in ("tensor_rate", "window_instructions", "instructions_per_score")}  # fmt: skip
        assert by_field["tensor_rate"] == sorted(tile.tensor_rate for tile in kernel.tiles if tile.tensor_rate != 1)
        assert by_field["window_instructions"] == sorted(
            tile.window_instructions for tile in kernel.tiles if tile.window_instructions)
        assert by_field["instructions_per_score"] == [kernel.instructions_per_score]


def test_counts_add_up_to_what_the_files_hold() -> None:
    """Four architectures of 12 constants; every launch that is counted; eight times of software."""
    launches = sum(count > 0 for operations in read_yaml(LAUNCHES).values() for of in operations.values()
                   for each in of.values() for count in each.values())  # fmt: skip
    assert counts()["all"]["calibrated"] + counts()["all"]["guess"] == 4 * 12
    assert sum(one.file == "kernels/launches.yaml" for one in numbers()) == launches
    assert sum(one.file == "validation/gpu/model.py" for one in numbers()) == len(FRAMEWORK_S) == 8
    assert {one.kind for one in numbers()} == set(KINDS)
    for generation in GENERATIONS:
        assert sum(counts()[generation].values()) < len(numbers())


def test_no_assumed_constant_of_a_module_is_missing() -> None:
    """Each line of the GPU model that gives a number a name and is assumed, here or in the comment above it."""
    listed = {one.name for one in numbers() if one.kind == "assumed"}
    assigned = re.compile(r"^([A-Z_]+) = [-0-9.e]+ *#.*assumed")
    paths = [path for path in Path(str(gpu.__file__)).parent.rglob("*.py")]
    found = {match.group(1) for path in paths for line in path.read_text(encoding="utf-8").splitlines()
             if (match := assigned.match(line))}  # fmt: skip
    assert {"STREAMED", "TURNAROUND", "DRAM_LATENCY_S"} <= found <= listed
    assert {"ALL_KEPT", "NONE_KEPT", "CIRCUIT_CYCLES", "SCATTERED_BYTES_PER_CLOCK"} <= listed


def test_numbers_of_engines_that_are_assumed_are_listed() -> None:
    """5.9 us: 4.5 ms over 24 kernels of 32 layers; two versions take 16K tokens of prompts at once."""
    found = {one.name: one.value for one in numbers() if one.file == "engines/engines.yaml"}
    assert found == {"pytorch host_launch_s": pytest.approx(4.5e-3 / 24 / 32, rel=1e-2),
                     "tensorrt-llm-0.9 tokens_per_pass": 16384, "tensorrt-llm-0.6 tokens_per_pass": 16384}  # fmt: skip
    (seen,) = (one for one in numbers() if one.name == "BETWEEN_SOCKETS_BYTES_PER_S")
    assert seen.kind == "by hand"  # scored runs were looked at


def test_the_readme_says_how_many_were_set_by_hand_or_assumed() -> None:
    of_all = counts()["all"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{of_all['by hand'] + of_all['assumed']} more numbers were set by hand or assumed" in text


@pytest.mark.parametrize("name", REMOVABLE)
def test_leaving_a_group_out_changes_rows_of_some_suite_and_of_no_product(name: str) -> None:
    shapes = {suite: own_shapes(selection) for suite, selection in ROWS_OF.items()}
    changed = {suite for suite, each in shapes.items()
               if (predicted_s(each) != predicted_s(each, without=(name,))).any()}  # fmt: skip
    assert changed
    assert "products" not in changed


def test_with_nothing_left_out_errors_are_those_of_the_model() -> None:
    shapes = own_shapes(ROWS_OF["decode"])
    mean, median = errors_without((), shapes)
    assert 0 < median < mean
    assert errors_without(("launches",), shapes)[1] > median  # they were set to make it smaller
