"""Which device, driver and libraries a measurement belongs to. Reads, never sets; a serial number is hashed.

`kind` is what a record must share to belong to the same file: the card itself may be another one of its kind.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SAMPLED = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")  # while a case is timed
KIND = ("name", "compute_capability", "driver_version", "torch", "triton", "cuda")


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


def kind_of(about: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of a record's `device` and `env`; None where one says nothing of it."""
    known = {**about["env"], **about["device"]}
    return {name: known.get(name) for name in KIND}


def file_stem(kind: Mapping[str, Any]) -> str:
    """One file a kind: `nvidia-h100-80gb-hbm3-1a2b3c4d`."""
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:8]
    return f"{slug(str(kind['name']))}-{digest}"


def query(*fields: str) -> dict[str, str | None]:
    """Values of nvidia-smi, None where it has none; a field that its version does not know costs no other."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    except subprocess.CalledProcessError:
        return dict.fromkeys(fields) if len(fields) == 1 else {k: v for each in fields for k, v in query(each).items()}
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(fields)
    values = [value.strip() for value in text.partition("\n")[0].split(",")]
    return {**dict.fromkeys(fields), **dict(zip(fields, values, strict=False))}


@contextmanager
def sampled(*fields: str, every_ms: int = 100) -> Iterator[list[dict[str, str]]]:
    """The list is filled when the block ends: what nvidia-smi reported meanwhile; empty where there is none."""
    found: list[dict[str, str]] = []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0",
               f"--loop-ms={every_ms}"]  # fmt: skip
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield found
        return
    try:
        yield found
    finally:
        process.terminate()
        try:
            text, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # it need not answer; what it said until then is lost
            process.kill()
            text, _ = process.communicate()
        found += [dict(zip(fields, values, strict=True)) for line in text.splitlines()
                  if len(values := [value.strip() for value in line.split(",")]) == len(fields)]  # fmt: skip


def slug(name: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> `nvidia-h100-80gb-hbm3`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
