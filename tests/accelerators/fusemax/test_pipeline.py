"""What each task of a tile waits for, read off the text of the cascade, and the order that each policy gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.pipeline import Dependences, TilePipeline, drained, pipeline
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

Design = Callable[..., FuseMax]

BERT_TILE = {
    "QK": 64, "LM": 1, "SLN": 7, "SLD": 1, "SLNV": 64, "RM": 1, "PRM": 7, "SPD": 1, "RD": 1, "SPNV": 64, "RNV": 64,
    "AV": 64,
}  # fmt: skip

# X: X of this tile, X0: of the same queries at the key tile before, X!: after a drain, X~: element by element
EDGES = {
    "QK": "",
    "LM": "QK",
    "RM": "RM0 LM!",
    "SLN": "QK RM",
    "SLD": "SLN",
    "SLNV": "SLN",
    "PRM": "RM0 RM",
    "SPD": "PRM RD0",
    "RD": "SPD SLD!",
    "SPNV": "PRM RNV0~",
    "RNV": "SPNV~ SLNV!~",
    "AV": "RNV~ RD",
}


def test_einsums_wait_for_what_they_read_and_drains_lead_from_the_2d_to_the_1d_array(design: Design) -> None:
    """Dependences within a tile and across key tiles, FuseMax, section V."""
    placement = place(ATTENTION_1PASS, design().spec)
    depends = Dependences(placement, drained(256))
    found = {
        placed.name: {
            edge.task + "0" * edge.same_column + "!" * (edge.lag_cycles == 256) + "~" * edge.streaming
            for edge in depends.of(placed)
        }
        for placed in placement.einsums
    }
    assert found == {name: set(edges.split()) for name, edges in EDGES.items()}


def made(accelerator: FuseMax, lead: int = 0) -> TilePipeline:
    return pipeline(place(ATTENTION_1PASS, accelerator.spec), accelerator.spec, BERT_TILE, lead)


def order(chosen: TilePipeline, unit: str) -> list[tuple[str, int]]:
    return [(task.name, task.stage) for task in chosen.tasks if task.unit == unit]


def test_an_epoch_is_the_published_row_of_each_array(design: Design) -> None:
    chosen = made(design())
    assert order(chosen, "array_2d") == [("SLNV", 3), ("QK", 0), ("LM", 0), ("SLN", 2), ("SLD", 2)]
    assert order(chosen, "array_1d") == [
        ("SPNV", 4), ("RNV", 4), ("RM", 2), ("RD", 4), ("PRM", 2), ("SPD", 2), ("AV", 4),
    ]  # fmt: skip
    sharing = {task.name: task.group for task in chosen.tasks if task.group is not None}
    assert list(sharing) == ["SLNV", "QK", "SPNV", "RNV", "RM"]
    assert len(set(sharing.values())) == 2


def test_loads_run_ahead_of_the_arrays(design: Design) -> None:
    """A store comes before the loads of its epoch: it frees the slot that they may need."""
    now, ahead = (made(design(), lead) for lead in (0, 3))
    assert order(ahead, "dram") == [("store result", 3 + 4 + 1), ("load queries", 0), ("load keys and values", 0)]
    assert {later.stage - task.stage for task, later in zip(now.tasks, ahead.tasks, strict=True)} == {0, 3}


@pytest.mark.parametrize(
    ("preset", "settings", "spacing"),
    [
        ("fusemax", (), 2),  # RD of a tile is issued with age a = 4, SPD that reads it with age c = 2
        ("fusemax", ("binding.distances={a: 9, b: 5, c: 2}",), 7),
        ("fusemax-architecture", (), 1),  # RD runs beside the next tile, before its SPD
    ],
)
def test_two_tiles_of_a_column_are_so_far_apart_that_running_values_are_issued_before_they_are_read(
    preset: str, settings: tuple[str, ...], spacing: int, design: Design
) -> None:
    assert made(design(preset, *settings)).spacing == spacing


def test_a_window_has_no_order_but_that_of_the_cascade(design: Design) -> None:
    chosen = made(design("fusemax", "binding.policy=interleave", "binding.in_flight=5"))
    assert chosen.in_flight == 5
    assert {task.stage for task in chosen.tasks} == {0}
    assert {task.group for task in chosen.tasks} == {None}
