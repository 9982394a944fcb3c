"""The workloads that come with cascadesim, found by name: one YAML file each in `workloads/`.

Adding a workload is adding a file. Names are the models' in lower case with hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from cascadesim.einsum_cascades.models.workload import Workload, workload_from
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.schema import parse_yaml, read_yaml

# Short names that people type.
ALIASES: Mapping[str, str] = {
    "llama": "llama-3.1-8b",
    "llama-3": "llama-3.1-8b",
    "llama-2": "llama-2-7b",
    "gpt2": "gpt-2-small",
    "gpt2-small": "gpt-2-small",
    "gpt2-medium": "gpt-2-medium",
    "mistral": "mistral-7b-v0.1",
    "mistral-7b": "mistral-7b-v0.1",
    "mixtral": "mixtral-8x7b-v0.1",
    "mixtral-8x7b": "mixtral-8x7b-v0.1",
    "llama-4-scout": "llama-4-scout-17b-16e",
    "llama-4-maverick": "llama-4-maverick-17b-128e",
    "deepseek": "deepseek-v3",
    "transformer-xl": "transformer-xl-wt103",
    "flux": "flux.1-dev-1k",
    "flux-1k": "flux.1-dev-1k",
    "flux-4k": "flux.1-dev-4k",
    "hunyuan": "hunyuanvideo",
    "hunyuan-video": "hunyuanvideo",
    "cosmos": "cosmos-1.0-diffusion-7b",
    "cosmos-7b": "cosmos-1.0-diffusion-7b",
    "wan": "wan2.1-t2v-14b-720p",
    "wan-1.3b": "wan2.1-t2v-1.3b-480p",
    "wan-14b": "wan2.1-t2v-14b-720p",
    "dit": "dit-xl-2-256",
    "dit-xl": "dit-xl-2-256",
    "vit": "vit-b-16",
    "hdit": "hdit-imagenet-256",
    "kimi": "kimi-k2",
}

_FOLDER = resources.files("cascadesim.einsum_cascades.models") / "workloads"


def workload_names() -> tuple[str, ...]:
    """Names of the workloads that come with cascadesim. Reads no file."""
    return tuple(sorted(Path(entry.name).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")))


def load_workload(name_or_path: str, settings: Sequence[str] = ()) -> Workload:
    """A workload by name, alias or path of a .yaml file, with `dotted.field=value` settings replacing its fields."""
    if name_or_path.lower().endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        return workload_from(read_yaml(path), path.name, settings)
    name = canonical_name(name_or_path)
    known = workload_names()
    if name not in known:
        raise UnknownNameError("workload", name_or_path, (*known, *ALIASES))
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return workload_from(parse_yaml(text, f"{name}.yaml"), f"{name}.yaml", settings)


def canonical_name(name: str) -> str:
    """The name of the file: lower case, hyphens for slashes, underscores and spaces, aliases resolved."""
    tidy = name.strip().lower().replace("/", "-").replace("_", "-").replace(" ", "-")
    return ALIASES.get(tidy, tidy)
