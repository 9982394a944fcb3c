"""Real models as lists of operations: sizes come from one YAML file per model in `workloads/`, each with its source.

Knows layers, phases and scopes; knows no hardware. `load_workload("llama-3.1-8b").operations(...)` is the way in.
Adding a workload is adding a file; names are the models' in lower case with hyphens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from math import ceil, lcm
from os.path import isfile
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import model_validator

from cascadesim import einsum_cascades
from cascadesim.einsum_cascades.models import layers as parts
from cascadesim.einsum_cascades.models.layers import Layer, LayerSizes, Phase
from cascadesim.einsum_cascades.models.lowering import LayerRun, cached_words, final_norm, layer_operations, lm_head
from cascadesim.einsum_cascades.models.operation import Operation, attention_cascade
from cascadesim.einsum_cascades.models.sections import STATE_BYTES, Attention, Experts, FeedForward, Size, layout_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.notation.schema import NonNegative, Spec, parse_yaml, validate, with_settings

DESCRIPTION = ("kind", "source", "certainty", "not_modelled")  # fields that no operation depends on
Scope: TypeAlias = Literal["attention", "linear", "model"]

ALIASES: Mapping[str, str] = {  # short names that people type
    "llama": "llama-3.1-8b", "llama-3": "llama-3.1-8b", "llama-2": "llama-2-7b",
    "llama-4-scout": "llama-4-scout-17b-16e", "llama-4-maverick": "llama-4-maverick-17b-128e",
    "gpt2": "gpt-2-small", "gpt2-small": "gpt-2-small", "gpt2-medium": "gpt-2-medium",
    "mistral": "mistral-7b-v0.1", "mistral-7b": "mistral-7b-v0.1",
    "mixtral": "mixtral-8x7b-v0.1", "mixtral-8x7b": "mixtral-8x7b-v0.1",
    "deepseek": "deepseek-v3", "kimi": "kimi-k2", "transformer-xl": "transformer-xl-wt103",
    "flux": "flux.1-dev-1k", "flux-1k": "flux.1-dev-1k", "flux-4k": "flux.1-dev-4k",
    "hunyuan": "hunyuanvideo", "hunyuan-video": "hunyuanvideo",
    "cosmos": "cosmos-1.0-diffusion-7b", "cosmos-7b": "cosmos-1.0-diffusion-7b",
    "wan": "wan2.1-t2v-14b-720p", "wan-1.3b": "wan2.1-t2v-1.3b-480p", "wan-14b": "wan2.1-t2v-14b-720p",
    "dit": "dit-xl-2-256", "dit-xl": "dit-xl-2-256", "vit": "vit-b-16", "hdit": "hdit-imagenet-256",
}  # fmt: skip
_FOLDER = resources.files("cascadesim.einsum_cascades.models") / "workloads"
LONGEST_SEQUENCE = 2**30  # assumed: a thousand times the longest context in use; arrays over tiles stay small


class Workload(Spec):
    """A model: its layers by kind, the sizes they share, and the batch and length it runs with by default.

    `sequence_length` counts tokens of the main stream (image or video tokens in diffusion; of the encoder and of the
    decoder alike in an encoder-decoder). Text that is attended besides has `text_length`.
    """

    name: str
    kind: Literal["encoder", "decoder", "encoder-decoder", "vision", "diffusion"]
    source: str
    certainty: str
    batch: Size
    sequence_length: Size
    max_context: Size | None = None
    text_length: Size | None = None
    text_hidden: Size | None = None  # None: text is projected to hidden beforehand
    hidden: Size
    vocabulary: Size | None = None
    tied_embeddings: bool = False
    norm: parts.Norm
    norms_per_layer: Literal[1, 2, 4] = 2  # 1: layers are attention or feed-forward; 4: also after both
    final_norms: Literal[0, 1, 2] = 1
    layout: str | None = None  # of the tokens, such as 30x48x80 (time x height x width)
    attention: Attention | None = None
    ffn: FeedForward | None = None
    experts: Experts | None = None
    layers: Mapping[str, Layer]
    other_parameters: Mapping[str, NonNegative] = {}
    not_modelled: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Workload:
        problems = [problem for name, layer in self.layers.items() for problem in self._missing(name, layer)]
        if not self.layers:
            problems.append("layers: at least one kind of layer is needed")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _missing(self, name: str, layer: Layer) -> Iterator[str]:
        """What a layer uses and the file does not give."""
        attention = self._attention(layer)
        if attention is None and layer.attention != "none" and layer.recurrence is None:
            yield f"layers.{name}: needs an attention section, of its own or of the model"
        if layer.feed_forward == "dense" and (layer.ffn or self.ffn) is None:
            yield f"layers.{name}: needs an ffn section, of its own or of the model"
        if layer.feed_forward == "experts" and self.experts is None:
            yield f"layers.{name}: needs an experts section of the model"
        if (layer.joint or layer.cross == "text") and self.text_length is None:
            yield f"layers.{name}: attends text, so text_length is needed"
        if attention is not None and attention.latent is not None and layer.mask == "full":
            yield f"layers.{name}: latent attention needs mask: causal"

    @property
    def generates(self) -> bool:
        """Whether it produces one token at a time (some layer is causal), so that it has a decode phase."""
        return any(layer.mask == "causal" for layer in self.layers.values())

    def operations(
        self, *, sequence_length: int | None = None, batch: int | None = None, phase: Phase = "prefill",
        scope: Scope = "model", attention: str | None = None,
    ) -> tuple[Operation, ...]:  # fmt: skip
        """What runs. `attention`, `linear`: one layer of each kind that differs there; `model`: everything, counted.

        Decode runs the layers that generate, one query per sequence, `sequence_length` keys in the cache.
        `attention` names a cascade; without it attention is written in its 3-pass form, and an accelerator re-binds it.
        """
        if scope not in get_args(Scope):
            raise UnknownNameError("scope", scope, get_args(Scope))
        run = self._run(sequence_length, batch, phase, attention)
        per_layer = {
            name: tuple(replace(own, layer=name, count=own.count * (layer.count if scope == "model" else 1))
                        for own in layer_operations(self.sizes(layer), _on_layer(layer, run)))
            for name, layer in self.layers.items() if phase == "prefill" or layer.mask == "causal"
        }  # fmt: skip
        if scope != "model":
            return _one_of_each(per_layer, scope)
        return (*(operation for operations in per_layer.values() for operation in operations), *self._head(run))

    def parameters(self) -> int:
        """Numbers the model stores: everything in its file, `other_parameters` included."""
        layers = sum(layer.count * parts.layer_parameters(self.sizes(layer), self.norm, self.norms_per_layer)
                     for layer in self.layers.values())
        last = parts.norm_parameters(self.norm, list(self.layers.values())[-1].hidden or self.hidden)
        return layers + self.vocabulary_parameters() + self.final_norms * last + sum(self.other_parameters.values())

    def vocabulary_parameters(self) -> int:
        """Numbers of the embeddings and of the matrix before the scores of the vocabulary, among `parameters`."""
        return (1 + (self.generates and not self.tied_embeddings)) * (self.vocabulary or 0) * self.hidden

    def expert_parameters(self) -> int:
        """Numbers of experts that tokens choose, among `parameters`; shared ones count among the other weights."""
        return sum(layer.count * matrix.parameters for layer in self.layers.values()
                   for matrix in parts.matrices(self.sizes(layer)) if matrix.operand == "experts")

    def kv_cache_bytes(self, sequence_length: int, batch: int, word_bytes: float = 2) -> int:
        """Bytes the KV cache holds when every sequence has `sequence_length` keys; 0 for a model that keeps none.

        `word_bytes` of a number, its share of the scales of a group included.
        """
        words = sum(layer.count * cached_words(self.sizes(layer), self._length(sequence_length), self.text_length or 0)
                    for layer in self.layers.values())
        return ceil(words * _positive("batch", batch) * word_bytes)

    def state_bytes(self, batch: int, word_bytes: float = 2) -> tuple[int, int]:
        """Bytes of the states of all recurrences, in fp32, and of the inputs that their convolutions keep.

        As many after a million tokens as after one. `word_bytes` of an input of a convolution.
        """
        kept = [(layer.count, layer.recurrence) for layer in self.layers.values() if layer.recurrence is not None]
        words = _positive("batch", batch) * sum(count * each.column_words for count, each in kept)
        return batch * STATE_BYTES * sum(count * each.state_words for count, each in kept), ceil(words * word_bytes)

    def notes(self, *, sequence_length: int | None = None) -> tuple[str, ...]:
        """What a reader of a result should know: a length beyond the model's context, doubts, what is not modelled."""
        length, notes = self._length(sequence_length), []
        if self.max_context is not None and length > self.max_context:
            notes.append(f"{self.name}: {length:,} tokens exceed the model's context of {self.max_context:,}")
        if self.certainty.startswith("uncertain"):
            notes.append(f"{self.name}: its sizes are uncertain; source: {self.source}")
        joined = ", ".join(name for name, layer in self.layers.items() if layer.neighborhood and layer.joint)
        if joined:
            notes.append(f"{self.name}: {joined}: tokens attend their neighborhood and all text, "
                         f"text attends everything")
        return (*notes, *(f"{self.name}: not modelled: {gap}" for gap in self.not_modelled))

    def sizes(self, layer: Layer) -> LayerSizes:
        """The sections that hold for a layer: its own, otherwise the model's."""
        hidden = layer.hidden or self.hidden
        ffn = (layer.ffn or self.ffn) if layer.feed_forward == "dense" else None
        experts = self.experts if layer.feed_forward == "experts" else None
        return LayerSizes(layer, hidden, self.text_hidden or hidden, self._attention(layer), ffn, experts)

    def _attention(self, layer: Layer) -> Attention | None:
        if layer.recurrence is not None or layer.attention == "none":
            return None
        return layer.attention or self.attention

    def _run(self, sequence_length: int | None, batch: int | None, phase: Phase, attention: str | None) -> LayerRun:
        if phase not in get_args(Phase):
            raise UnknownNameError("phase", phase, get_args(Phase))
        if phase == "decode" and not self.generates:
            raise CascadeSimError(f"{self.name}: phase decode needs a model that generates; no layer of it is causal")
        size = _positive("batch", self.batch if batch is None else batch)
        length, merged = self._length(sequence_length), lcm(*(layer.merge for layer in self.layers.values()))
        if length % merged:
            raise CascadeSimError(f"{self.name}: sequence length: must be a multiple of {merged}, the tokens that its "
                                  f"layers merge into one, got {length}")
        layout = None if self.layout is None else layout_sizes(self.layout)
        return LayerRun(size, length, self.text_length or 0, phase, attention_cascade(attention), self.norm,
                        self.norms_per_layer, layout)

    def _length(self, given: int | None) -> int:
        length = self.sequence_length if given is None else given
        if not 1 <= length <= LONGEST_SEQUENCE:
            raise CascadeSimError(f"sequence length: must be 1 to {LONGEST_SEQUENCE:,}, got {length}")
        return length

    def _head(self, run: LayerRun) -> Iterator[Operation]:
        """What follows the last layer: scores of the vocabulary where the model generates, otherwise its last norm."""
        if self.generates and self.vocabulary is not None:
            yield from lm_head(self.hidden, self.vocabulary, run)
        elif self.final_norms:
            last = list(self.layers.values())[-1]
            yield final_norm(run, _on_layer(last, run).rows, last.hidden or self.hidden)


def _one_of_each(per_layer: Mapping[str, Sequence[Operation]], kind: Scope) -> tuple[Operation, ...]:
    """One layer of each kind that differs in operations of `kind`; kinds that do not are named together."""
    kinds: dict[tuple[Operation, ...], list[str]] = {}
    for name, operations in per_layer.items():
        chosen = tuple(replace(operation, layer="") for operation in operations if operation.of_scope(kind))
        kinds.setdefault(chosen, []).append(name)
    return tuple(replace(operation, layer="+".join(names)) for chosen, names in kinds.items() for operation in chosen)


def _on_layer(layer: Layer, run: LayerRun) -> LayerRun:
    """The run as a layer sees it that merges several tokens of the input into one."""
    return replace(run, sequence_length=run.sequence_length // layer.merge)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise CascadeSimError(f"{name}: must be at least 1, got {value}")
    return value


def workload_from(content: Mapping[str, object], source: str, settings: Sequence[str] = ()) -> Workload:
    """A workload from the fields of a file, `settings` replacing some. Raises SpecError with every problem."""
    described = [name for name in (setting.partition("=")[0].strip() for setting in settings) if name in DESCRIPTION]
    if described:
        raise SpecError("\n".join(f"--set {name}: changes nothing: it describes the workload" for name in described))
    return validate(Workload, with_settings(content, settings), source)


def workload_names() -> tuple[str, ...]:
    """Names of the workloads that come with cascadesim. Reads no file."""
    return tuple(sorted(Path(entry.name).stem for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")))


def load_workload(name_or_path: str, settings: Sequence[str] = ()) -> Workload:
    """A workload by name, alias, id, .yaml file or a model's config.json; `dotted.field=value` replaces its fields."""
    path, known = Path(name_or_path), workload_names()
    if path.suffix.lower() in (".yaml", ".yml", ".json") or isfile(path / "config.json"):
        return workload_from(einsum_cascades.workload_fields(path), path.name, settings)
    for name in map(canonical_name, (name_or_path, name_or_path.rpartition("/")[2])):  # Qwen/Qwen3-32B
        if name in known:
            file = _FOLDER / f"{name}.yaml"
            return workload_from(parse_yaml(file.read_text(encoding="utf-8"), file.name), file.name, settings)
    raise UnknownNameError("workload", name_or_path.rpartition("/")[2], (*known, *ALIASES))


def canonical_name(name: str) -> str:
    """The name of the file: lower case, hyphens for slashes, underscores and spaces, aliases resolved."""
    tidy = name.strip().lower().replace("/", "-").replace("_", "-").replace(" ", "-")
    return ALIASES.get(tidy, tidy)


def is_trace(name_or_path: str) -> bool:
    """Whether a workload's name is the path of a trace."""
    return name_or_path.lower().endswith(".csv")
