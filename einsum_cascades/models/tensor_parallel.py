"""A model divided among devices that each hold a part of every matrix, and the sums that this takes.

Heads, widths of feed-forward parts and the vocabulary are divided (Megatron-LM, arXiv 1909.08053); a product over a
divided depth leaves a part of its sum on every device, which an all-reduce adds up. Norms and latent vectors are
computed everywhere. Knows no hardware. Not modelled: the sum of embeddings, and bringing scores of the vocabulary
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cascadesim.einsum_cascades.models.layers import Layer
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import transformer

ALL_REDUCE = cascade("all-reduce", """
    Y[r,d] = X[x,r,d]                                # the sum over the devices x, on every one of them
""")


def divided(workload: Workload, devices: int) -> Workload:
    """What each of `devices` computes and stores. Raises CascadeSimError where heads or widths do not divide.

    Key heads are repeated on several devices where there are fewer than devices. The vocabulary is padded.
    """
    if devices == 1:
        return workload
    problems = tuple(dict.fromkeys(_problems(workload, devices)))
    if problems:
        raise CascadeSimError(f"{workload.name}: no tensor parallelism over {devices} devices: {'; '.join(problems)}")
    experts = workload.experts and workload.experts.model_copy(update={"width": workload.experts.width // devices})
    vocabulary = workload.vocabulary and -(-workload.vocabulary // devices)
    layers = {name: layer.model_copy(update=_sections(layer, devices)) for name, layer in workload.layers.items()}
    return workload.model_copy(update={
        **_sections(workload, devices), "experts": experts, "vocabulary": vocabulary, "layers": layers})


def divided_operations(
    workload: Workload, whole: Sequence[Operation], parts: Sequence[Operation]
) -> Iterator[Operation]:
    """`parts` are `whole` on one device of several; with an all-reduce after what leaves parts of sums.

    The parts of experts are weighted and added first, with those of shared ones, so that one all-reduce serves all.
    """
    waiting: list[Operation] = []
    for one, part in zip(whole, parts, strict=True):
        if part.cascade == transformer.SCALED_ADD and workload.experts is not None:
            waiting = [_all_reduce(part, part.extent("r") // workload.experts.chosen, part.extent("d"))]
        elif part.kind == "linear" and part.extent("k") < one.extent("k") and part.extent("x") == 1:
            waiting.append(_all_reduce(part, part.extent("r"), part.extent("n")))
        elif part.kind != "linear":
            yield from waiting
            waiting = []
        yield part
    yield from waiting


def _all_reduce(after: Operation, rows: int, width: int) -> Operation:
    return replace(after, name=f"{after.name}_all_reduce", kind="collective", cascade=ALL_REDUCE,
                   extents=(("r", rows), ("d", width)))  # fmt: skip


def _sections(part: Workload | Layer, devices: int) -> dict[str, Any]:
    attention = part.attention and part.attention.model_copy(update={
        "heads": part.attention.heads // devices,
        "kv_heads": part.attention.kv_heads and max(part.attention.kv_heads // devices, 1)})
    ffn = part.ffn and part.ffn.model_copy(update={"width": part.ffn.width // devices})
    return {"attention": attention, "ffn": ffn}


def _problems(workload: Workload, devices: int) -> Iterator[str]:
    """What does not divide in the sections of the model, and in those that a kind of layer has of its own."""
    sections: tuple[Workload | Layer, ...] = (workload, *workload.layers.values())
    for part in sections:
        if (attention := part.attention) is not None and attention.heads % devices:
            allowed = [count for count in range(2, attention.heads + 1) if not attention.heads % count]
            yield f"{attention.heads} heads divide over {', '.join(map(str, allowed)) or 'none'}"
        elif attention is not None and attention.key_heads % devices and devices % attention.key_heads:
            yield f"{attention.key_heads} key heads neither divide nor repeat evenly"
        if part.ffn is not None and part.ffn.width % devices:
            yield f"a feed-forward width of {part.ffn.width} does not divide"
    if workload.experts is not None and workload.experts.width % devices:
        yield f"experts of width {workload.experts.width} do not divide"
