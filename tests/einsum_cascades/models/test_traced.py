"""The workload of a pruning trace: one operation of all its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascadesim.einsum_cascades.models.traced import TracedWorkload, workload_from_rows
from cascadesim.einsum_cascades.models.workload import is_trace
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning_schedules import published_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead, token_rows, write_rows

ROWS = token_rows(published_schedule("gpt-2-small"), 994)
TRACED_WORKLOAD = TracedWorkload("mine", PruningTrace("mine.csv", ROWS))


def test_a_file_is_one_operation_of_all_its_rows(tmp_path: Path) -> None:
    write_rows(ROWS, tmp_path / "mine.csv")
    workload = workload_from_rows(tmp_path / "mine.csv")
    (operation,) = workload.operations()
    assert workload.name == "mine.csv"
    assert operation.trace == PruningTrace("mine.csv", ROWS)
    assert dict(operation.extents) == {"b": 1, "h": 12, "g": 1, "m": 921, "p": 1, "e": 64, "f": 64}
    assert workload.layers[operation.layer].count == 1


def test_it_says_what_it_is() -> None:
    workload = TRACED_WORKLOAD
    assert (workload.sequence_length, workload.batch, workload.phase) == (994, 1, "decode")
    assert workload.notes() == ("mine: the attention of 144 traced heads over 1 iterations; nothing else of the model",)
    assert workload.parameters() is None
    assert TracedWorkload("two", PruningTrace("two", (TracedHead(0, 0, 0, 8, 8, 8, queries=8),))).phase == "prefill"


def test_sizes_are_those_of_the_rows() -> None:
    workload = TRACED_WORKLOAD
    with pytest.raises(CascadeSimError, match="leave --seq-len and --batch out"):
        workload.operations(sequence_length=1024)
    with pytest.raises(CascadeSimError, match="leave --seq-len and --batch out"):
        workload.operations(batch=2)
    with pytest.raises(CascadeSimError, match="scope linear needs a model"):
        workload.operations(scope="linear")


def test_a_trace_is_known_by_its_suffix() -> None:
    assert is_trace("rows.CSV")
    assert not is_trace("gpt-2-small")
    with pytest.raises(SpecError, match=r"nowhere\.csv: cannot be read"):
        workload_from_rows("nowhere.csv")
