"""Which device, driver and libraries a measurement belongs to. Reads, never sets; a serial number is hashed."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from typing import Any


def device() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    reported = query("uuid", "driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")
    uuid = reported.pop("uuid", "") or ""
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "uuid_hash": hashlib.sha256(uuid.encode()).hexdigest()[:16],
        **reported,
    }


def environment() -> dict[str, Any]:
    import torch
    import triton

    return {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__,
            "cuda": torch.version.cuda}  # fmt: skip


def query(*fields: str) -> dict[str, str | None]:
    """Values of nvidia-smi, None where it has none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(fields)
    values = [value.strip() for value in text.splitlines()[0].split(",")]
    return dict(zip(fields, values, strict=False))


def slug(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
