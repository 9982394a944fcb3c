"""The ledger of numbers: none is missing, each says how it came about, leaving a group out shows what it is worth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascadesim.accelerators import gpu
from cascadesim.accelerators.gpu.kernel import kernels
from cascadesim.validation.gpu.ledger import GENERATIONS, KINDS, ROWS_OF, counts, errors_without, numbers
from cascadesim.validation.gpu.model import FRAMEWORK_S, REMOVABLE, predicted_s
from cascadesim.validation.gpu.selections import own_shapes

ROOT = Path(__file__).parents[3]


def test_every_number_of_a_kernel_that_no_source_gives_is_listed() -> None:
    """Emulated exponentials; loads that are waited for, where assumed."""
    found = {(one.file.removeprefix("kernels/").removesuffix(".yaml"), one.name.split()[0]): one.value
             for one in numbers() if one.file.startswith("kernels/")}  # fmt: skip
    assert found == {("flash-attention-2-chunked", "dependent_loads"): 2, ("trtllm-fmha", "dependent_loads"): 1,
                     ("flash-attention-4", "emulated_exponentials"): 0.25}  # fmt: skip
    for name, kernel in kernels().items():
        emulated = {tile.emulated_exponentials for tile in kernel.tiles} - {0.0}
        assert emulated <= {found.get((name, "emulated_exponentials"))}
        assert kernel.instructions_per_score is None  # calibrated, of its kind


def test_counts_are_within_what_was_asked_for() -> None:
    """What was chosen with rows in view: at most 70 in all, 25 that a device of one generation can read; 77 with what
    was assumed without any."""
    assert counts()["all"]["calibrated"] == 14 + 4 * (5 + 2) + 3
    assert sum(counts()["all"][kind] for kind in ("calibrated", "guess", "by hand")) <= 70
    assert sum(counts()["all"][kind] for kind in ("calibrated", "guess", "by hand", "assumed")) <= 77
    assert sum(one.file == "validation/gpu/model.py" for one in numbers()) == len(FRAMEWORK_S) == 8
    assert {one.kind for one in numbers()} <= set(KINDS)
    for generation in GENERATIONS:
        assert sum(counts()[generation][kind] for kind in ("calibrated", "guess", "by hand")) <= 25
        assert sum(counts()[generation].values()) < len(numbers())


def test_no_assumed_constant_of_a_module_is_missing() -> None:
    """Each line of the GPU model that gives a number a name and is assumed, here or in the comment above it."""
    listed = {one.name for one in numbers() if one.kind == "assumed"}
    assigned = re.compile(r"^([A-Z][A-Z0-9_]*) = [-0-9.e]+ *#.*assumed")
    paths = [path for path in Path(str(gpu.__file__)).parent.rglob("*.py")]
    found = {match.group(1) for path in paths for line in path.read_text(encoding="utf-8").splitlines()
             if (match := assigned.match(line))}  # fmt: skip
    assert {"LATE", "UNEVEN", "L2_SHARE", "BUFFERS"} <= found <= listed
    assert {"CIRCUIT_CYCLES", "SCATTERED_BYTES_PER_CLOCK"} <= listed


def test_numbers_of_engines_that_are_assumed_are_listed() -> None:
    """3.7 us: 4.5 ms over 38 kernels of 32 layers; two versions take 16K tokens of prompts at once."""
    found = {one.name: one.value for one in numbers() if one.file == "engines/engines.yaml"}
    assert found == {"pytorch host_launch_s": pytest.approx(4.5e-3 / 38 / 32, rel=1e-2),
                     "tensorrt-llm-0.9 tokens_per_pass": 16384, "tensorrt-llm-0.6 tokens_per_pass": 16384}  # fmt: skip
    (seen,) = (one for one in numbers() if one.name == "BETWEEN_SOCKETS_BYTES_PER_S")
    assert seen.kind == "by hand"  # scored runs were looked at


def test_the_readme_says_how_many_were_set_by_hand_or_assumed() -> None:
    of_all = counts()["all"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{of_all['by hand'] + of_all['assumed']} more numbers were set by hand or assumed" in text


@pytest.mark.parametrize("name", REMOVABLE)
def test_leaving_a_constant_out_changes_rows_of_some_suite(name: str) -> None:
    setting = f"constants.{name}={REMOVABLE[name][1]}"
    shapes = {suite: own_shapes(selection) for suite, selection in ROWS_OF.items()}
    changed = {suite for suite, each in shapes.items()
               if (predicted_s(each) != predicted_s(each, (setting,))).any()}  # fmt: skip
    assert changed
    assert ("products" in changed) == (name in ("narrow_share", "dram_ramp_s", "tensor_energy_pj"))


def test_with_nothing_left_out_errors_are_those_of_the_model() -> None:
    shapes = own_shapes(ROWS_OF["decode"])
    mean, median = errors_without((), shapes)
    assert 0 < median < mean
    assert errors_without(("conversion_instructions",), shapes)[0] > mean


def test_a_comment_of_the_next_number_is_not_that_of_the_one_before() -> None:
    """gemm.py: two numbers, a comment above each."""
    said = {one.name: one.said for one in numbers() if one.file == "gemm.py"}
    assert said["PAIRED_BYTES_PER_CLOCK"].startswith("mma.sync leaves pairs")
    assert said["ORDER"].startswith("1 would add what runs at once")
