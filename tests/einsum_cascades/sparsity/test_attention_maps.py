"""Files of attention maps, and the example that turns them into traces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.sparsity.attention_maps import read_maps
from cascadesim.einsum_cascades.sparsity.pruning_schedules import ramp_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import read_rows

EXAMPLE = Path(__file__).parents[3] / "examples" / "maps_to_trace.py"
MAPS = np.full((3, 2, 8, 8), 1 / 8, dtype=np.float32)
SCHEDULE = ramp_schedule("mine", 3, 2, token_ratio=0.25)  # one layer whole, then 0 and 50 %


def test_an_encoder_is_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", MAPS)
    (iteration,) = read_maps(tmp_path / "maps.npy").pruned(SCHEDULE)
    assert [layer.tokens.tolist() for layer in iteration.layers] == [[*range(8)], [*range(8)], [*range(4)]]


def test_generated_tokens_are_an_array_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", maps_0=np.full((3, 2, 8), 1 / 8), maps_1=np.full((3, 2, 9), 1 / 9))
    found = read_maps(tmp_path / "maps.npz")
    assert (found.layers, found.heads, found.encoder) == (3, 2, False)
    assert [[layer.tokens.size for layer in each.layers] for each in found.pruned(SCHEDULE)] == [[8, 8, 8], [9, 9, 4]]


@pytest.mark.parametrize(("arrays", "message"), [
    ({"map": MAPS[0]}, "holds map; expected maps and outputs, or maps_0"),
    ({"maps_0": MAPS[:, :, 0], "outputs_0": MAPS[:, 0, 0]}, r"outputs_0: expected numbers in 3 dimensions"),
    ({"maps_1": MAPS[:, :, 0]}, "holds maps_1; expected"),
    ({"maps": np.array("text")}, "maps: expected numbers in 4 dimensions"),
    ({"maps_0": MAPS[:, :, 0], "maps_1": MAPS[:, :, 0], "outputs_0": MAPS[:, :, 0]}, "outputs are there for 1 of 2"),
])  # fmt: skip
def test_other_arrays_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=message):
        read_maps(tmp_path / "maps.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "maps.npz").write_bytes(content)
    with pytest.raises(SpecError, match=r"maps\.npz: cannot be read"):
        read_maps(tmp_path / "maps.npz")


def test_the_example_writes_a_trace(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", maps=MAPS)
    rows = tmp_path / "rows.csv"
    found = subprocess.run([sys.executable, EXAMPLE, tmp_path / "maps.npz", rows, "--token-ratio", "0.25"],
                           capture_output=True, text=True, check=True)
    assert [row.keys for row in read_rows(rows)] == [8, 8, 8, 8, 4, 4]
    assert found.stdout == "6 heads; 75.0% of all scores, 75.0% of them times values\n"  # (64 + 64 + 16) / (3 * 64)


def test_the_example_refuses_in_one_line(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, EXAMPLE, tmp_path / "none.npz", tmp_path / "rows.csv"],
                           capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
