"""No setting is accepted that changes nothing: every field changes some figure, or is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.accelerator import DOCUMENTATION, Gpu
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.schema import read_yaml
from cascadesim.simulator.explore.models import changed
from cascadesim.simulator.explore.problem import problem
from cascadesim.simulator.explore.space import Space, space_from
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports

GPUS = tuple(name.split("/")[1] for name in catalogue.presets() if name.startswith("gpu/"))
TEXTS = {  # what has no double: names, choices and what is absent; other tests read them
    "gpu": ("architecture", "generation", "link.kind", "kernel", "dtype", "types"),
    "fusemax": ("architecture", "exp_by", "binding", "published.resident_capacity_bytes", "divide"),
    "flat": ("architecture", "exp_by", "fusion", "dataflow"),
    "spatten": ("architecture", "model", "topk_model", "softmax_model", "dram.mode", "pruning"),
}


def gpu(name: str, *settings: str) -> Gpu:
    found = catalogue.load(name, settings)
    assert isinstance(found, Gpu)
    return found


def fields(spec: BaseModel, above: str = "") -> Iterator[tuple[str, object]]:
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            yield from fields(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def figures(accelerator: Accelerator, request: dict[str, Any]) -> object:
    """All that a report says of a run, or why there is none."""
    asked = {**request, "workload": load_workload(request["workload"]), "accelerator": accelerator}
    try:
        found = [report.to_dict() for report in reports(Request(**asked))]
    except CascadeSimError as error:
        return str(error)
    return [{name: value for name, value in one.items() if name not in ("mapping", "uncertainty")} for one in found]


def changes(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (2 * value, max(value // 2, 1), value + 1)
    return (2 * value, value / 2 + 1e-3) if isinstance(value, float) else ()


def inert(preset: str, base: Sequence[str], requests: Sequence[dict[str, Any]]) -> set[str]:
    """Fields that may be set and change no figure of any request."""
    folder = catalogue.find_file(preset).parent.parent.name
    spec = cast(Any, catalogue.load(preset, base)).spec
    before = [figures(catalogue.load(preset, base), request) for request in requests]
    found = set()
    for field, value in fields(spec):
        if any(field == name or name in field.split(".") or field.startswith(f"{name}.") for name in TEXTS[folder]):
            continue
        for other in changes(value):
            try:
                accelerator = catalogue.load(preset, [*base, f"{field}={written(other)}"])
            except SpecError:
                continue
            if all(figures(accelerator, one) == known for one, known in zip(requests, before, strict=True)):
                found.add(field)
            else:
                found.discard(field)
                break
    return found


def written(value: object) -> str:
    """As YAML reads it back."""
    return f"{value:.17e}" if isinstance(value, float) else str(value).lower()


def asked(workload: str, scope: str, **more: Any) -> dict[str, Any]:
    return {"workload": workload, "scope": scope, "batch": 2, "sequence_length": 512, "fidelity": "analytical", **more}


SMALL = "llama-3.2-1b"


@pytest.mark.slow
@pytest.mark.parametrize("base", [(), ("parallel.tensor=2", "dtype=fp32"), ("dtype=fp8",)], ids=" ".join)
def test_every_field_of_a_gpu_changes_a_figure_or_is_refused(base: tuple[str, ...]) -> None:
    text = "attention-3pass" if "dtype=fp32" in base else "attention-1pass"  # no fused kernel multiplies fp32
    requests = [asked(SMALL, "attention", attention=text), asked(SMALL, "model", phase="decode", attention=text)]
    requests.append(asked(SMALL, "model", phase="prefill", sequence_length=4096, attention=text))
    assert inert("h100-sxm", base, requests) == set()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fusemax", "flat", "unfused"])
def test_every_field_of_an_array_changes_a_figure_or_is_refused(preset: str) -> None:
    requests = [asked("bert", "attention", accounting=kind) for kind in ("physical", "artifact")]
    requests += [asked("bert", "linear"), asked("bert", "model")]
    assert inert(preset, (), requests) <= {"leakage_w_per_um2"}  # 0: twice that is 0


@pytest.mark.nightly
def test_every_field_of_spatten_changes_a_figure_or_is_refused() -> None:
    """Formats are those of a model without a schedule of its own; keys fill the buffers where they are many."""
    requests = [asked("llama-2-7b", "attention", phase="decode", fidelity="cycle", batch=1)]
    requests.append(asked("gpt-2-small", "attention", fidelity="cycle", batch=1, sequence_length=8192))
    requests += [asked("gpt-2-small", scope, phase="decode", batch=1) for scope in ("attention", "linear")]
    assert inert("spatten", (), requests) == set()


SINGLE = [field for field in DOCUMENTATION if field != "datasheet.tensor_tflops"]


@pytest.mark.parametrize("field", [*SINGLE, "datasheet.tensor_tflops.bf16", "link.bytes_per_s"])
def test_what_only_describes_a_gpu_cannot_be_set(field: str) -> None:
    value = dict(fields(gpu("h100-sxm").spec)).get(field)
    shown = f"'{value}'" if isinstance(value, str) else 1.0e12 if value is None else written(value)
    with pytest.raises(SpecError, match=rf"^--set {field}: changes nothing: "):
        gpu("h100-sxm", f"{field}={shown}")


@pytest.mark.parametrize("field", ["source", "certainty", "kind", "not_modelled"])
def test_what_only_describes_a_workload_cannot_be_set(field: str) -> None:
    assert field in Workload.model_fields
    with pytest.raises(SpecError, match=f"--set {field}: changes nothing"):
        load_workload("bert", [f"{field}=decoder"])


def test_twice_the_datasheet_bandwidth_is_twice_what_is_reached() -> None:
    """H100: 3020 of 3350 GB/s reached; of 6700, 6040."""
    found = gpu("h100-sxm", "datasheet.dram_bytes_per_s=6.7e+12").spec
    assert found.dram_ceiling_bytes_per_s == 2 * 3.02e12
    assert gpu("a40", "datasheet.dram_bytes_per_s=1.0e+12").spec.dram_ceiling_bytes_per_s == 0.9e12  # nobody measured


def test_a_faster_dram_decodes_faster() -> None:
    model, slow, fast = load_workload("llama"), gpu("h100-sxm"), gpu("h100-sxm", "datasheet.dram_bytes_per_s=6.7e+12")
    times = [
        reports(Request(model, one, 8192, 16, "decode", "attention", "analytical"))[0].latency_s for one in (slow, fast)
    ]
    assert times[1] < 0.6 * times[0]


@pytest.mark.parametrize("name", GPUS)
def test_a_preset_reaches_exactly_what_was_measured_on_it_or_the_share_of_one_that_was(name: str) -> None:
    spec = gpu(name).spec
    reached, of, stated = (
        spec.measured.dram_bytes_per_s, spec.measured.of_dram_bytes_per_s, spec.datasheet.dram_bytes_per_s
    )  # fmt: skip
    if reached is None or of is None:
        assert (reached, of, spec.dram_ceiling_bytes_per_s) == (None, None, 0.9 * stated)
    elif of == stated:
        assert spec.dram_ceiling_bytes_per_s == reached
    else:
        specs = [gpu(each).spec for each in GPUS]
        assert (reached, of) in {(one.measured.dram_bytes_per_s, one.datasheet.dram_bytes_per_s) for one in specs}
        assert spec.dram_ceiling_bytes_per_s == pytest.approx(reached * stated / of)


def test_a_device_that_does_not_exist_needs_no_measured_values(tmp_path: Path) -> None:
    content = {name: value for name, value in read_yaml(catalogue.find_file("h100-sxm")).items() if name != "measured"}
    found = catalogue.build(changed(content, {"datasheet.dram_bytes_per_s": 1e13}), tmp_path / "dream.yaml")
    assert isinstance(found, Gpu)
    assert found.spec.dram_ceiling_bytes_per_s == 9e12


def test_a_measured_rate_of_unknown_share_makes_the_datasheet_a_description() -> None:
    with pytest.raises(SpecError, match=r"datasheet\.dram_bytes_per_s: changes nothing: measured\.dram_bytes_per_s"):
        gpu("h100-sxm", "measured.of_dram_bytes_per_s=null", "datasheet.dram_bytes_per_s=1.0e+12")


def space(**vary: object) -> Space:
    uses = [{"workload": "llama", "scope": "attention", "phase": "decode"}]
    about = {"question": "?", "architecture": "h100-sxm", "workloads": uses}
    return space_from({**about, "vary": vary, "objectives": ["latency"]}, "s.yaml")


def test_a_space_over_a_field_that_changes_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"s\.yaml: datasheet\.power_w: changes nothing: GPUs have no energy model"):
        problem(space(**{"datasheet.power_w": [300, 700]}), "s.yaml")


def test_a_space_over_the_datasheet_bandwidth_finds_the_faster_design_faster() -> None:
    found = problem(space(**{"datasheet.dram_bytes_per_s": [3.35e12, 6.7e12]}), "s.yaml")
    slow, fast = found.figures(found.digits_of(0, 2))["latency_s"]
    assert fast < slow


def test_exponentials_that_an_array_cannot_make_subtract_nothing() -> None:
    with pytest.raises(SpecError, match="exp_subtracts needs the operation exp"):
        catalogue.load("flat", ["pe_array.operations.exp_subtracts=true"])


def test_power_is_read_where_it_holds_down_the_clock() -> None:
    assert gpu("l40s", "datasheet.power_w=300").spec.datasheet.power_w == 300
    with pytest.raises(SpecError, match=r"datasheet\.power_w: changes nothing"):
        gpu("h100-sxm", "datasheet.power_w=300")
