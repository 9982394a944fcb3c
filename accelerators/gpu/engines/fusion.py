"""The list of a model's operations as an engine launches it: a pure rewrite, before anything is planned.

What reads the same input is one product (queries, keys and values; both halves of a gated feed-forward part). A sum
with the stream and the norm after it are one kernel, over the border of two layers, too: the first layer's norm stays
alone, the last layer's sum goes with the norm before the head. So is the sum over devices before them, where an engine
has such a kernel. The rotation of queries and keys and the copy of values into the cache are one kernel. Every
operation of the cascades is still done, as often as before.

An eager engine launches a kernel for each operator instead, whose operands pass by memory. Norms over the mean square
are made in fp32, to which they convert and back (transformers, modeling_llama.py, LlamaRMSNorm; torch.nn.RMSNorm has
the same steps); rotations turn, join, multiply and add (apply_rotary_pos_emb). Rows that are normalised, softmax and
GELU are kernels of PyTorch's own, one each; what else there is goes Einsum by Einsum.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from cascadesim.accelerators.gpu.engines.engine import Engine
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import transformer

PRODUCTS: Mapping[str, Mapping[tuple[str, ...], str]] = {  # fusion -> products of one input -> the name of their union
    "qkv": {("q_proj", "k_proj", "v_proj"): "qkv_proj"},
    "expert-gate": {("expert_up", "expert_gate"): "expert_up_gate"},
    "gate": {(f"{prefix}up", f"{prefix}gate"): f"{prefix}up_gate" for prefix in ("ffn_", "shared_", "expert_")},
}
SUMS = (transformer.RESIDUAL_ADD, transformer.PARALLEL_RESIDUAL)
NORMS = (transformer.RMS_NORM, transformer.LAYER_NORM)
ROTARY_CACHE_NAME = "rotary_cache"
ROTARY_CACHE = cascade("rotary-cache", f"""{transformer.ROTARY.text}
    VC[s,f] = V[s,f]                                 # the new values, into the cache; its keys are among the rows
""")
WHOLE = (transformer.LAYER_NORM, transformer.SOFTMAX_ROUTER, transformer.GELU)


@dataclass(frozen=True)
class Step:
    """One kernel; `fp32`: those of its tensors that are, beside activations."""

    text: Cascade
    fp32: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.text.einsums[0].name


def _step(text: str, *fp32: str) -> Step:
    return Step(cascade("eager-step", text), fp32)


STEPS: Mapping[Cascade, tuple[Step, ...]] = {
    transformer.RMS_NORM: (
        _step("F[r,d] = X[r,d]", "F"),
        _step("S[r,d] = F[r,d] * F[r,d]", "F", "S"),
        _step("SX[r] = S[r,d]", "S", "SX"),
        _step("E[r] = SX[r] / D + 0.00001", "SX", "E"),
        _step("RMS[r] = sqrt(E[r])", "E", "RMS"),
        _step("N[r,d] = F[r,d] / RMS[r]", "F", "RMS", "N"),
        _step("H[r,d] = N[r,d]", "N"),
        _step("Y[r,d] = H[r,d] * G[d]"),
    ),
    transformer.ROTARY: (  # all heads of a token share its cosines and sines, which L2 keeps
        _step("A1[r,d] = X1[r,d] * COS[d]\nA2[r,d] = X2[r,d] * COS[d]"),
        _step("N2[r,d] = X2[r,d]"),  # its sign turned
        _step("H1[r,d] = N2[r,d]\nH2[r,d] = X1[r,d]"),
        _step("B1[r,d] = H1[r,d] * SIN[d]\nB2[r,d] = H2[r,d] * SIN[d]"),
        _step("Y1[r,d] = A1[r,d] - B1[r,d]\nY2[r,d] = A2[r,d] + B2[r,d]"),
    ),
}


def fused(operations: Sequence[Operation], engine: Engine) -> tuple[Operation, ...]:
    """The operations as `engine` launches them."""
    found = tuple(_apart(operations)) if engine.eager else tuple(operations)
    for kind in (kind for kind in PRODUCTS if kind in engine.fuses):
        found = tuple(_joined_products(found, PRODUCTS[kind]))
    if "rotary-cache" in engine.fuses:
        found = tuple(_rotated(found))
    if "residual-norm" in engine.fuses:
        found = tuple(_normed(_across_layers(found)))
    return tuple(_reduced(found)) if "all-reduce-norm" in engine.fuses else found


def _apart(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Operations kernel by kernel; what keeps a running value stays whole."""
    for one in operations:
        steps = () if one.kind != "elementwise" or one.cascade.iterative_ranks else _steps(one.cascade)
        if len(steps) < 2:
            yield one
            continue
        for step in steps:
            ranks = {name.lower() for each in step.text.einsums for name in each.ranks}
            extents = tuple((rank, size) for rank, size in one.extents
                            if rank in ranks or rank.upper() in step.text.text)  # fmt: skip
            yield replace(one, name=f"{one.name}_{step.name}", cascade=step.text, extents=extents, fp32=step.fp32)


@cache
def _steps(text: Cascade) -> tuple[Step, ...]:
    if text in WHOLE:
        return ()
    if text in STEPS:
        return STEPS[text]
    return tuple(Step(Cascade(f"{text.name}-{each.name}", (each,), each.text)) for each in text.einsums)


def _joined_products(operations: Sequence[Operation], known: Mapping[tuple[str, ...], str]) -> Iterator[Operation]:
    place = 0
    while place < len(operations):
        names = next((names for names in known
                      if tuple(each.name for each in operations[place:place + len(names)]) == names), ())  # fmt: skip
        together = operations[place:place + max(len(names), 1)]
        place += len(together)
        if not names:
            yield from together
            continue
        first, outputs = together[0], sum(each.extent("n") for each in together)
        yield replace(first, name=known[names], extents=tuple({**dict(first.extents), "n": outputs}.items()))


def _rotated(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Rotations of queries and keys, which follow each other, before the attention that reads them."""
    waiting: list[Operation] = []
    between: list[Operation] = []  # what a pattern adds before its attention
    for one in operations:
        if one.cascade == transformer.ROTARY:
            waiting.append(one)
            continue
        if waiting and one.name.startswith(PATTERN):
            between.append(one)
            continue
        if waiting and one.cascade in NORMS:  # of keys, before both are rotated
            yield one
            continue
        if waiting:
            yield from (*_rotation(waiting, one), *between)
            waiting, between = [], []
        yield one


def _rotation(parts: Sequence[Operation], attention: Operation) -> Iterator[Operation]:
    if len(parts) < 2 or attention.kind != "attention":
        yield from parts
        return
    size, rows = dict(attention.extents), sum(part.extent("r") for part in parts)
    values = size["b"] * size["m" if attention.operand != "kv" else "p"] * size["h"] // size["g"]
    extents = (("r", rows), ("d", parts[0].extent("d")), ("s", values), ("f", size["f"]))
    yield replace(parts[0], name=ROTARY_CACHE_NAME, cascade=ROTARY_CACHE, extents=extents)


def _across_layers(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Move the sums that end a layer before the norm that begins the next one, where all layers can.

    The first layer of all begins with a norm alone, the norm before the head follows the last layer's sums.
    """
    layers = tuple(dict.fromkeys(one.layer for one in operations if one.layer))
    ends = [_end([one for one in operations if one.layer == layer]) for layer in layers]
    heads = [next(one for one in operations if one.layer == layer) for layer in layers]
    last = next((one for one in operations if not one.layer and one.cascade in NORMS), None)
    alike = {(end[-1].extents, head.extents) for end, head in zip(ends, heads, strict=True) if end}
    if last is None or not all(ends) or len(alike) != 1 or any(head.cascade not in NORMS for head in heads):
        return tuple(operations)
    moved, begins = {id(one) for end in ends for one in end}, dict(zip(map(id, heads), ends, strict=True))
    found: list[Operation] = []
    for one in (one for one in operations if id(one) not in moved):
        alone = int(one is heads[0])
        found += [replace(one, count=1)] * alone
        if id(one) in begins and one.count > alone:
            found += [replace(each, count=one.count - alone) for each in (*begins[id(one)], one)]
        elif one is last:
            found += [*(replace(each, count=1) for each in ends[-1]), one]
        elif id(one) not in begins:
            found.append(one)
    return tuple(found)


def _end(layer: Sequence[Operation]) -> tuple[Operation, ...]:
    """The sum with the stream that ends a layer, with the one over devices before it; nothing for other ends."""
    if len(layer) < 2 or layer[-1].cascade not in SUMS:
        return ()
    return tuple(layer[-2:]) if layer[-2].kind == "collective" else (layer[-1],)


def _reduced(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Sums over devices that a sum with the stream and a norm follow."""
    waiting: Operation | None = None
    for one in operations:
        if waiting is not None:
            if (one.count, one.extents) == (waiting.count, waiting.extents) and one.cascade in _ADDED:
                yield replace(waiting, name=f"{waiting.name}_norm", cascade=_reduced_text(one.cascade))
            else:
                yield from (waiting, one)
            waiting = None
        elif one.kind == "collective":
            waiting = one
        else:
            yield one


def _normed(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Sums that a norm of the same rows follows."""
    waiting: Operation | None = None
    for one in operations:
        if waiting is not None and one.cascade in NORMS and (one.extents, one.count) == (
            waiting.extents, waiting.count
        ):
            yield replace(one, name=f"{waiting.name}_norm", cascade=_sum_and_norm(waiting.cascade, one.cascade))
            waiting = None
            continue
        if waiting is not None:
            yield waiting
        waiting = one if one.cascade in SUMS else None
        if waiting is None:
            yield one
    if waiting is not None:
        yield waiting


@cache
def _sum_and_norm(total: Cascade, norm: Cascade) -> Cascade:
    """Both texts as one: the sum T is written as the stream Z, and the norm reads it."""
    added = re.sub(r"\bY\[", "T[", total.text)
    after = re.sub(r"\bX\[", "T[", norm.text)
    return cascade(f"{total.name}-{norm.name}", "\n".join((added, after, "Z[r,d] = T[r,d]")))


_ADDED = tuple(_sum_and_norm(transformer.RESIDUAL_ADD, norm) for norm in NORMS)


@cache
def _reduced_text(added: Cascade) -> Cascade:
    """The sum over devices x ahead of a sum with the stream and a norm: A is made, not read."""
    return cascade(f"all-reduce-{added.name}", f"A[r,d] = P[x,r,d]\n{added.text}")


def after_all_reduce(text: Cascade) -> Cascade | None:
    """What such a kernel does with the sum over devices; None where that is all."""
    return next((added for added in _ADDED if text == _reduced_text(added)), None)
