"""How much of measured attention a pattern keeps: maps whose mass lies where a pattern looks, or does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.gna.recall import least_recall, read_maps

TOKENS = 512
OWN = np.eye(TOKENS)  # every query attends itself
FIRST = np.zeros((TOKENS, TOKENS))  # every query attends the first token
FIRST[:, 0] = 1.0


@pytest.mark.parametrize("pattern", ["sink-window:sinks=0,window=1", "pbs:share=0.25", "moba:block=64,kept=1",
                                     "power:block=64,window=0,sinks=0", "strided:length=8"])  # fmt: skip
def test_who_attends_itself_is_kept_by_all_that_see_the_own_token(pattern: str) -> None:
    assert least_recall(pattern, OWN[None]) == pytest.approx(1.0)


def test_a_window_loses_the_first_token_and_a_sink_keeps_it() -> None:
    """Of 512 queries, the first 64 have it in their window."""
    assert least_recall("sink-window:sinks=0,window=64", FIRST[None]) == pytest.approx(64 / 512)
    assert least_recall("sink-window:sinks=1,window=64", FIRST[None]) == pytest.approx(1.0)


def test_an_oracle_finds_the_first_block_where_it_may_keep_two() -> None:
    """Half of 1, 2, 3, 4 blocks of 128, the own one among them: 1, 1, 2 (of 1.5), 2; the second query block loses."""
    assert least_recall("pbs:share=0.5", FIRST[None]) == pytest.approx(3 / 4)
    assert least_recall("pbs:share=1", FIRST[None]) == pytest.approx(1.0)


def test_the_head_that_keeps_least_counts() -> None:
    both = np.stack([OWN, FIRST])
    assert least_recall("sink-window:sinks=0,window=64", both) == pytest.approx(64 / 512)


def test_power_keeps_its_distances_and_not_those_between() -> None:
    """Blocks of 64: mass 4 blocks before (a power of two) is kept, mass 3 blocks before is not, but early queries'."""
    queries = np.arange(TOKENS)
    for blocks, kept in ((4, 1.0), (3, 3 / 8)):
        weights = np.zeros((TOKENS, TOKENS))
        weights[queries, np.where(queries >= 64 * blocks, queries - 64 * blocks, queries)] = 1.0
        assert least_recall("power:block=64,window=0,sinks=0", weights[None]) == pytest.approx(kept)


def test_a_causal_pattern_keeps_nothing_of_what_comes_after() -> None:
    """Every query but the last, which attends itself, attends the next one, in its own block too."""
    weights = np.eye(TOKENS, k=1)
    weights[-1, -1] = 1.0
    assert least_recall("power:block=64,window=4,sinks=1", weights[None]) == pytest.approx(1 / TOKENS)


def test_rows_are_normalised(tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", np.tril(np.full((2, 8, 8), 3.0)))
    found = read_maps(tmp_path / "maps.npy")
    assert found.shape == (2, 8, 8)
    assert np.allclose(found.sum(axis=2), 1.0)


@pytest.mark.parametrize(("maps", "message"), [
    (np.zeros((4, 4)), "no row of a head all 0"), (-np.eye(4), "at least 0"), (np.ones((4, 5)), "as many keys"),
    (np.ones(4), "as many keys"), (np.ones((2, 0, 0)), "expected maps of 1 to"), (np.full((4, 4), np.nan), "finite"),
])  # fmt: skip
def test_maps_that_are_none_are_refused(maps: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", maps)
    with pytest.raises(CascadeSimError, match=message):
        read_maps(tmp_path / "maps.npy")


def test_a_comparison_shows_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "maps.npy", OWN)
    arguments = ["gna", "--layout", "4096", "--q-tile", "128", "--kv-tile", "128", "--density", "0.5", "--device",
                 "h100-sxm", "--maps", str(tmp_path / "maps.npy")]  # fmt: skip
    assert exit_code(cascadesim, "cascadesim", arguments) == 0
    assert "recall" in capsys.readouterr().out
    assert exit_code(cascadesim, "cascadesim", [*arguments, "--format", "json"]) == 0
    found = {each["pattern"].partition(":")[0]: each["recall"]
             for each in json.loads(capsys.readouterr().out)["patterns"]}  # fmt: skip
    assert found["pbs"] == found["sink-window"] == pytest.approx(1.0)


def test_maps_go_with_a_density(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--layout", "4096", "--q-tile", "128", "--kv-tile", "128", "--pattern", "pbs", "--maps", "x.npy"]
    assert exit_code(cascadesim, "cascadesim", ["gna", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
