"""`cascadesim generate`: tokens per second of requests at once, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import exists, isfile
from typing import TYPE_CHECKING, TextIO, cast

import click

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.simulator import cli
from cascadesim.simulator.cli.options import (
    LARGEST_BATCH,
    completing,
    lengths,
    loaded_or_named,
    one_of,
    output_format,
    setting,
    share,
    whole,
)
from cascadesim.simulator.result import Result, delivered
from cascadesim.simulator.views.output import console, figures_table, print_styled

if TYPE_CHECKING:
    from cascadesim.accelerators.protocol import Accelerator
    from cascadesim.simulator.generate import Generation
    from cascadesim.simulator.request import AnyWorkload, Request

MOST_DEVICES, MOST_REQUESTS = 2**10, 100_000


@click.command("generate", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--arch", "architecture", type=loaded_or_named, required=True, metavar="NAME",
              shell_complete=completing("architectures"), help="The device: a preset or a YAML file.")
@click.option("--workload", type=loaded_or_named, required=True, metavar="NAME",
              shell_complete=completing("workloads"), help="The model: a name, a YAML file, or its config.json.")
@click.option("--devices", type=whole(1, MOST_DEVICES, " devices"), default="1", show_default=True, metavar="N",
              help="Devices that divide the model (tensor parallelism).")
@click.option("--input", "input_length", type=lengths, default="1K", show_default=True, metavar="N",
              help="Tokens of a prompt.")
@click.option("--output", "output_length", type=lengths, default="1K", show_default=True, metavar="N",
              help="Tokens that follow it, the first included.")
@click.option("--concurrency", type=whole(1, LARGEST_BATCH, " requests"), default="1", show_default=True,
              metavar="N", help="Requests at once.")
@click.option("--engine", metavar="NAME", help="Whose fused kernels run: tensorrt-llm, vllm, sglang, pytorch or none.  "
                                               "[none]")
@click.option("--batching", type=one_of("static", "continuous"), default="static", show_default=True,
              metavar="[static|continuous]",
              help="All requests start together, or clients send one whenever their last one has ended.")
@click.option("--requests", type=whole(1, MOST_REQUESTS, " requests"), metavar="N",
              help="Of all clients, for continuous batching.  [10 a client]")
@click.option("--spread", type=share, default="0", show_default=True, metavar="SHARE",
              help="Lengths are drawn evenly within this share of --input and --output, for continuous batching.")
@click.option("--set", "settings", type=setting, multiple=True, metavar="FIELD=VALUE",
              help="Another value for a field of the device or of the model; repeatable.")
@output_format("table", "json")
def generate(
    architecture: str | Accelerator, workload: str | AnyWorkload, devices: int, input_length: tuple[int, ...],
    output_length: tuple[int, ...], concurrency: int, engine: str | None, batching: str, requests: int | None,
    spread: float, settings: tuple[str, ...], format_: str,
) -> Result[Generation]:  # fmt: skip
    """Time to the first token, time per token, tokens/s and memory of requests at once.

    \b
    cascadesim generate --arch h100-sxm --devices 4 --workload llama-3.1-70b --concurrency 16 --engine vllm
    cascadesim generate --arch h100-sxm --devices 4 --workload gpt-oss-120b --engine vllm --input 8K \\
        --concurrency 64 --batching continuous --spread 0.1
    """
    if batching == "static" and (requests or spread):
        raise click.UsageError("--requests and --spread go with --batching continuous")
    for name, given in (("--input", input_length), ("--output", output_length)):
        if len(given) > 1:
            raise click.UsageError(f"generate takes one {name}")

    def found() -> Result[Generation]:
        from cascadesim.simulator import generate as generation
        from cascadesim.simulator import serving

        asked = _request(architecture, workload, input_length, concurrency, devices, engine, settings)
        if batching == "static":
            result = generation.generate(asked, input_length[0], output_length[0])
        else:
            result = serving.serve(asked, input_length[0], output_length[0], serving.Arrivals(requests, spread))

        def ask(others: tuple[str, ...]) -> tuple[Request, Request]:
            again = _request(architecture, workload, input_length, concurrency, devices, engine, others)
            return generation.phases(again, input_length[0], output_length[0])

        files = (name for name in (architecture, workload) if isinstance(name, str) and exists(name))
        again = settings and all(map(isfile, files))  # what has been read from a pipe cannot be read again
        unused = cli.settings.unused(ask, settings, ask(settings)) if again else ()
        return Result(result, result.to_dict, lambda: [result.to_row()],
                      lambda stream: _print(result, stream), remarks=unused)  # fmt: skip

    return cast("Result[Generation]", delivered(found, format_))


def _request(
    architecture: str | Accelerator, workload: str | AnyWorkload, input_length: tuple[int, ...], concurrency: int,
    devices: int, engine: str | None, settings: tuple[str, ...],
) -> Request:  # fmt: skip
    """What is asked, devices and engine as settings of the architecture. Errors name the options."""
    own = {"parallel.tensor": ("--devices", f"{devices}", devices > 1),
           "engine": ("--engine", f"{engine}", engine not in (None, "none"))}  # fmt: skip
    made = tuple(f"{field}={value}" for field, (_, value, given) in own.items() if given)
    for each in settings:
        option, value, given = own.get(each.partition("=")[0].strip(), ("", "", False))
        if given:
            raise click.UsageError(f"{option} {value} and --set {shortened(each)} say the same of the device; give one")
    try:
        (asked,) = cli.run.requests_of((*made, *settings), (architecture,), (workload,), None, input_length,
                                       (concurrency,), ("prefill",), "model", "analytical", "physical")  # fmt: skip
    except SpecError as error:
        text = "\n".join(error.problems)
        for field, (option, value, given) in own.items():
            text = text.replace(f"--set {field}:", f"{option} {value}:") if given else text
        raise SpecError(text) from None
    return asked


def _print(found: Generation, stream: TextIO) -> None:
    from rich.console import Group
    from rich.text import Text

    many, how = f"{found.devices} x " * (found.devices > 1), ", come and go" * (found.batching == "continuous")
    requests = f"{found.concurrency:,} request{'s' * (found.concurrency > 1)}"
    title = (f"{found.workload} on {many}{found.architecture}, engine {found.engine}: {requests} of "
             f"{found.input_length:,} tokens at once, {found.output_length:,} new ones each{how}")
    remarks = [Text(f"note: {note}", style="yellow") for note in found.notes]
    if (error := found.uncertainty) is not None:
        remarks = [Text(f"error of published runs like it: {error.latency:.0%} ({error.basis})", style="dim"), *remarks]
    shown = Group(Text(title, style="bold"), Text(), figures_table(_rows(found)), Text(), *remarks)
    print_styled(shown, console(stream))


def _rows(found: Generation) -> Sequence[tuple[str, str, str]]:
    """Name each figure of a generation, with a remark on it."""
    per_s = f"{found.requests_per_s:,.3f} requests/s"
    rows = [
        ("first token", f"{found.ttft_s * 1e3:,.2f} ms", f"bound by {found.bound_by['prefill']}"),
        ("each later token", "" if found.tpot_s is None else f"{found.tpot_s * 1e3:,.3f} ms",
         f"bound by {found.bound_by['decode']}" if found.tpot_s is not None else "none"),
        ("whole request", f"{found.latency_s:,.3f} s", per_s),
        ("throughput", f"{found.tokens_per_s:,.1f} tokens/s",
         f"{found.tokens_per_s / found.devices:,.1f} tokens/s a device"),
    ]  # fmt: skip
    if found.first_tokens is not None and found.latencies is not None:
        rows[0] = (*rows[0][:2], f"{rows[0][2]}; half within {found.first_tokens['p50'] * 1e3:,.0f} ms, 99% within "
                                 f"{found.first_tokens['p99'] * 1e3:,.0f} ms")
        rows[2] = (*rows[2][:2], f"{per_s}; 99% within {found.latencies['p99']:,.3f} s")
    if found.memory is not None:
        held = ", ".join(f"{name} {size / 1e9:,.2f}" for name, size in found.memory.parts.items() if size)
        rows.append(("memory of a device", f"{found.memory.total / 1e9:,.2f} GB", held))
        rows.append(("largest concurrency", f"{found.largest_concurrency:,}", "that fits"))
    return rows
