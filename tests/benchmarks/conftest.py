"""The space that the benchmarks of exploration share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def ten_million() -> dict[str, Any]:
    """10,125,000 FuseMax designs, three objectives."""
    return {
        "question": "Which of ten million FuseMax designs?",
        "architecture": "fusemax",
        "vary": {
            "pe_array.rows": {"powers_of_two": [16, 512]},
            "pe_array.columns": {"powers_of_two": [16, 512]},
            "vector_array.lanes": {"powers_of_two": [16, 512]},
            "global_buffer.capacity_bytes": {"log_range": [262_144, 134_217_728, 25]},
            "dram.bandwidth_bytes_per_s": {"log_range": [5.0e10, 4.0e12, 75]},
            "clock_hz": {"log_range": [5.0e8, 2.0e9, 25]},
        },
        "derive": {"global_buffer.row_bytes": "2 * pe_array.columns"},
        "workloads": [{"workload": "bert", "scope": "attention", "sequence_length": "256K"}],
        "objectives": ["latency_s", "energy_j", "area_um2"],
    }
