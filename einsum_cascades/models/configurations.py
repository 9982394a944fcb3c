"""A model's own `config.json` (Hugging Face transformers) as the fields of a workload.

`model_types.yaml` says of each `model_type` what the class of that name in transformers assumes where the file is
silent, which fields it reads, and what of it is not modelled. A field that is neither read nor known to leave the
arithmetic alone, and is not off, is refused, so that no model is priced as another one. Types of weights are the
architecture's business: `quantization_config` is noted, and set with `--set types.weights=…`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from os.path import isdir
from pathlib import Path
from typing import Any

import yaml

from cascadesim.einsum_cascades.models.model_types import ModelType, model_types, readable_types
from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, shown
from cascadesim.einsum_cascades.notation.schema import read_text, read_yaml

_MOST_LAYERS = 10_000  # assumed: a hundred times the deepest model
_DEFAULT_LENGTH = 4096  # tokens, as in the workloads that come along
_COMMON = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings", "hidden_act", "attention_bias",
    "quantization_config", "torch_dtype", "dtype",
)  # fmt: skip
_OUTSIDE = ("tie_word_embeddings", "quantization_config", "torch_dtype", "dtype")  # of a text part, beside it
_TYPES = {"float32": "fp32", "float": "fp32", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "int8": "int8"}  # of torch
_HARMLESS = (  # names and patterns: numerics, training, generation and descriptions; no operation depends on them
    "architectures", "auto_map", "*_token_id", "*_dropout", "*_dropout_prob", "*_pdrop", "initializer_range", "*_eps",
    "*_epsilon", "rope_*", "*_rope_*",
    "transformers_version", "use_cache", "pretraining_tp", "_name_or_path", "*router_logits",
    "*aux_loss*", "seq_aux", "attn_implementation", "_attn_implementation*", "cache_implementation", "bad_words_ids",
    "output_attentions", "output_hidden_states", "return_dict*", "torchscript", "unsloth_*", "ep_size", "id2label",
    "label2id", "original_max_position_embeddings", "initial_context_length", "query_pre_attn_scalar",
    "routed_scaling_factor", "router_jitter_noise", "norm_topk_prob", "gradient_checkpointing", "initializer_factor",
    "summary_*", "task_specific_params", "n_ctx", "scale_attn_weights", "chunk_size*", "time_step_*", "expand",
    "use_mamba_kernels", "residual_in_fp32", "rescale_prenorm_residual", "num_logits_to_keep", "prefix", "pooler_*",
    "directionality", "tokenizer_class", "layer_norm_elementwise_affine", "num_return_sequences", "*_beams",
)  # fmt: skip
_ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh", "relu": "relu", "relu2": "relu2", "gated-gelu": "gelu-tanh",
    "gated-silu": "silu",
}  # fmt: skip
_GATED = ("gated-gelu", "gated-silu")  # of T5
_CAPPING = {"attn_logit_softcapping": "soft-capping of the scores (a tanh per score)",
            "final_logit_softcapping": "soft-capping of the last scores"}  # fmt: skip
_KINDS = {"full_attention": "full", "sliding_attention": "sliding", "chunked_attention": "chunked",
          "linear_attention": "linear"}  # fmt: skip
_WORDS = {"full": "global", "sliding": "local", "chunked": "local", "none": ""}  # names of kinds of layers


def workload_fields(path: Path) -> dict[str, Any]:
    """Read the fields of a workload: from a YAML file, a model's `config.json`, or the one in a folder.

    Raises SpecError for one that cannot be read, or is not understood.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_yaml(path)
    path = path / "config.json" if isdir(path) else path
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid JSON: {shortened(str(error), 120)}") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise SpecError(f"{path.name}: no configuration of a model: it has no model_type")
    kind = content["model_type"]
    found = model_types().get(kind) if isinstance(kind, str) and not kind.startswith("_") else None
    inner = content.get("text_config") if found is not None and found.text is not None else None
    beside = isinstance(inner, dict)
    if found is not None and found.text is not None and isinstance(inner, dict):
        outer = {name: content[name] for name in _OUTSIDE if name in content}
        kind, content, found = found.text, {**outer, **inner, "model_type": found.text}, model_types()[found.text]
    if found is None or found.text is not None:
        raise SpecError(f"{path.name}: model_type: {shown(kind)} is not understood; give one of "
                        f"{listed(readable_types())}, or a YAML of your own")
    if found.missing is not None:
        raise SpecError(f"{path.name}: model_type {kind} is not modelled: it needs {found.missing}")
    model = path.resolve().parent.name if path.name == "config.json" else path.stem
    return _configuration(content, found, path.name).workload(model or kind, beside)


def _configuration(content: Mapping[str, Any], found: ModelType, source: str) -> _Configuration:
    """Name the fields as most models do, add what the file leaves out. Raises SpecError for what is not understood."""
    for name, other in found.when.items():
        if content.get(name):
            found = model_types()[other]
    given = {found.names.get(name, name): value for name, value in content.items()}
    unknown = [name for name, value in given.items() if name not in (*_COMMON, *found.fields)
               and not any(fnmatchcase(name, known) for known in _HARMLESS) and value not in (None, False, [], {}, 0)]
    if unknown:
        raise SpecError(f"{source}: {listed(map(shortened, unknown))}: not understood for model_type "
                        f"{given['model_type']}; it may change the arithmetic, and a YAML of your own can say how")
    config = {name: value for name, value in {**found.absent, **given}.items() if value is not None}
    for name, allowed in found.only.items():
        if name in config and config[name] not in (*allowed, *(config.get(each) for each in map(str, allowed))):
            raise SpecError(f"{source}: {name}: {shown(config[name])} is not understood; only "
                            f"{', '.join(map(shown, allowed))}")
    made = _Configuration(config, found, source)
    more = {name: factor * made.whole(field) for name, (factor, field) in found.times.items() if name not in config}
    return _Configuration({**config, **more, **(made.image() if found.patches else {})}, found, source)


@dataclass(frozen=True)
class _Configuration:
    """The values of one file by their usual names, those of its type where it has none."""

    config: Mapping[str, Any]
    type: ModelType
    source: str

    def whole(self, name: str, otherwise: int | None = None) -> int:
        value = self.config.get(name, otherwise)
        if type(value) is not int or not 0 <= value < 2**40:
            given = "missing" if value is None else f"expected a whole number, got {shown(value)}"
            raise SpecError(f"{self.source}: {name}: {given}")
        return value

    def workload(self, name: str, beside: bool) -> dict[str, Any]:
        """All fields; `beside`: the file has encoders of other things, too."""
        config, found = self.config, self.type
        longest = self.whole("max_position_embeddings", _DEFAULT_LENGTH) - found.unused_positions
        layers = self.layers()
        dense = any(layer.get("feed_forward") not in ("experts", "none") for layer in layers.values())
        mixture = any(layer.get("feed_forward") == "experts" for layer in layers.values())
        shared = [layer["attention"] for layer in layers.values() if isinstance(layer.get("attention"), dict)][:1]
        for layer in layers.values():
            if layer.get("attention") in shared:
                del layer["attention"]
        missing = [*found.not_modelled, *(why for name, why in _CAPPING.items() if name in config)]
        missing += ["encoders of images and other things"] * beside
        missing += self.types()
        others = {name: sum(prod(part if isinstance(part, int) else self.whole(part) for part in product)
                            for product in products) for name, products in found.other_parameters.items()}  # fmt: skip
        others |= {"attention_sinks": self.sinks()} if found.sinks else {}
        return {
            "name": name, "kind": "decoder", "source": f"{self.source} of {name}", "certainty": "as the file says",
            "batch": 1, "sequence_length": min(longest, _DEFAULT_LENGTH), "max_context": longest,
            "hidden": self.whole("hidden_size"),
            **({} if found.patches else {"vocabulary": self.whole("vocab_size")}),
            "tied_embeddings": config.get("tie_word_embeddings", False), "norm": "rms", **found.workload,
            **({"attention": shared[0]} if shared else {}), **({"ffn": self.feed_forward()} if dense else {}),
            **({"experts": self.experts()} if mixture else {}), "layers": layers,
            **({"other_parameters": kept} if (kept := {each: size for each, size in others.items() if size}) else {}),
            **({"not_modelled": missing} if missing else {}),
        }  # fmt: skip

    def types(self) -> Iterator[str]:
        """What the file says of the types of numbers where that is not 16 bits, which the architectures begin with."""
        for name in ("torch_dtype", "dtype"):
            stated = str(self.config.get(name, "bfloat16")).removeprefix("torch.")
            if stated not in ("bfloat16", "float16", "half", "auto"):
                yield (f"{name} {shortened(stated)}: types of numbers are the architecture's; on GPUs they are set "
                       f"with --set dtype={_TYPES.get(stated, 'TYPE')}")
        if "quantization_config" in self.config:
            yield "quantization_config: the types of numbers are set with --set types.weights and others"

    def sinks(self) -> int:
        """Attention sinks: one number per head of each layer of a kind that has them."""
        kinds = (mixing for mixing, _ in self.kinds(self.whole("num_hidden_layers")))
        return sum(self.attention(kind)["heads"] for kind in kinds if self.config.get(self.type.sinks.get(kind, "")))

    def activation(self) -> dict[str, Any]:
        given = self.config.get("hidden_act", "silu")
        if not isinstance(given, str) or given not in _ACTIVATIONS:
            raise SpecError(f"{self.source}: hidden_act: {shown(given)}; known: {', '.join(_ACTIVATIONS)}")
        return {"activation": _ACTIVATIONS[given], "gated": self.type.ffn.get("gated", True) or given in _GATED}

    def feed_forward(self) -> dict[str, Any]:
        bias = self.type.ffn.get("bias", self.config.get("mlp_bias", False))
        return {"width": self.whole("intermediate_size"), **self.activation(), "bias": bias}

    def experts(self) -> dict[str, Any]:
        found = self.type.experts
        assert found is not None
        width, shared = self.whole(found.width), self.whole("n_shared_experts", 0)
        if found.beside is not None and found.beside in self.config:
            shared, rest = divmod(self.whole(found.beside), max(width, 1))
            if rest:
                raise SpecError(f"{self.source}: {found.beside}: expected a multiple of the experts' width {width:,}")
        return {"experts": self.whole(found.number), "chosen": self.config.get("num_experts_per_tok"), "shared": shared,
                "width": width, **self.activation(), **found.always}  # fmt: skip

    def attention(self, kind: str) -> dict[str, Any]:
        """The section of layers of one kind."""
        own = self.type.kinds.get(kind, {})
        fields = {name: field for name, field in own.items() if name != "rotary" and field in self.config}
        section = {**self.type.attention, **{name: value for name, value in own.items() if name == "rotary"}}
        config = _Configuration({**self.config, **{name: self.config[field] for name, field in fields.items()}},
                                self.type, self.source)  # fmt: skip
        return config.latent() if self.type.latent else config.plain(kind, section)

    def plain(self, kind: str, section: Mapping[str, Any]) -> dict[str, Any]:
        heads = self.whole("num_attention_heads")
        depth = self.whole("head_dim", self.whole("hidden_size") // max(heads, 1))
        bias = section.get("bias_of", "all") if self.config.get("attention_bias") else "none"
        norm = section.get("qk_norm", False)
        norm = bool(self.config.get("use_qk_norm")) if norm == "use_qk_norm" else norm
        return {
            "heads": heads, "kv_heads": self.whole("num_key_value_heads", heads), "head_dim": depth,
            **({"value_dim": self.whole("v_head_dim")} if "v_head_dim" in self.config else {}),
            "bias": section.get("bias", bias), "rotary": section.get("rotary", True) and self.rotated(kind, depth),
            **({"output_gate": True} if section.get("output_gate") else {}),
            **({"qk_norm": norm} if norm else {}),
        }  # fmt: skip

    def latent(self) -> dict[str, Any]:
        if "q_lora_rank" not in self.config:
            raise SpecError(f"{self.source}: q_lora_rank: null (queries without a latent vector) is not modelled")
        rotated = self.whole("qk_rope_head_dim")
        return {"heads": self.whole("num_attention_heads"), "head_dim": self.whole("qk_nope_head_dim") + rotated,
                "bias": "all" if self.config.get("attention_bias") else "none",
                "value_dim": self.whole("v_head_dim"), "rotary": True,
                "latent": {"q_rank": self.whole("q_lora_rank"), "kv_rank": self.whole("kv_lora_rank"),
                           "rope_dim": rotated}}  # fmt: skip

    def rotated(self, kind: str, depth: int) -> bool | int:
        """Elements of a head that rotate; True: all of them."""
        given = self.config.get("rope_parameters")
        rope = given.get(f"{kind}_attention", given) if isinstance(given, dict) else {}
        part = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
        part = self.config.get("partial_rotary_factor", 1) if part is None else part
        if type(part) not in (int, float) or not 0 < part <= 1:
            raise SpecError(f"{self.source}: partial_rotary_factor: expected a share up to 1, got {shown(part)}")
        turned = self.whole("rotary_dim", int(depth * part))
        return True if turned == depth else turned

    def layers(self) -> dict[str, dict[str, Any]]:
        """Kinds of layers with their counts, in the order in which they come first."""
        if self.type.layers:
            attention = self.attention("full")
            return {name: {"attention": attention, **layer, "count": self.whole(layer["count"])}
                    for name, layer in self.type.layers.items()}  # fmt: skip
        count = self.whole("num_hidden_layers")
        if not 1 <= count <= _MOST_LAYERS:
            raise SpecError(f"{self.source}: num_hidden_layers: {count:,}; give 1 to {_MOST_LAYERS:,}")
        kinds = Counter(self.kinds(count))
        several = [len({kind[part] for kind in kinds}) > 1 for part in (0, 1)]
        mask = {"mask": "causal"} if self.type.workload.get("kind", "decoder") == "decoder" else {}
        found = {}
        for (mixing, feed), times in kinds.items():
            words = [_WORDS.get(word, word) for word, varies in zip((mixing, feed), several, strict=True) if varies]
            found["-".join(filter(None, words)) or self.type.workload.get("kind", "decoder")] = {
                "count": times, **mask, **self.mixing(mixing), **({} if feed == "dense" else {"feed_forward": feed}),
                **({"parallel": True} if self.type.parallel else {}),
            }  # fmt: skip
        return found

    def mixing(self, kind: str) -> dict[str, Any]:
        """How a layer of one kind mixes tokens."""
        if kind == "none":
            return {"attention": "none"}
        if kind in ("linear", "state-space"):
            return {"recurrence": {name: field if name == "form" else self.whole(field)
                                   for name, field in self.type.recurrence.items()}}  # fmt: skip
        seen = {"sliding": {"window": "sliding_window"}, "chunked": {"chunk": "attention_chunk_size"}}.get(kind, {})
        return {**{name: self.whole(field) for name, field in seen.items()}, "attention": self.attention(kind)}

    def kinds(self, count: int) -> list[tuple[str, str]]:
        """What each layer mixes tokens with, and its feed-forward part."""
        pattern = self.type.pattern
        if pattern is None:
            return list(zip(self.mixings(count), self.feeds(count), strict=True))
        given = self.config.get(pattern.field)
        letters = list(map(str, given)) if isinstance(given, str | list) else []
        if len(letters) != count or not set(letters) <= set(pattern.kinds):
            raise SpecError(f"{self.source}: {pattern.field}: expected {' or '.join(pattern.kinds)} for each of "
                            f"{count} layers")
        found = [pattern.kinds[letter] for letter in letters]
        feeds = [kind[-1] for kind in found] if len(found[0]) > 1 else self.feeds(count)
        return [(kind[0], feed) for kind, feed in zip(found, feeds, strict=True)]

    def mixings(self, count: int) -> list[str]:
        rule, given = self.type.slides, self.config.get("layer_types")
        rule = self.config.get("sliding_window_pattern", self.config.get("_sliding_window_pattern", rule))
        local = "chunked" if "attention_chunk_size" in self.config else "sliding"
        known = {"full_attention": "full"}
        if rule is not None and (local == "chunked" or "sliding_window" in self.config):
            known |= {name: kind for name, kind in _KINDS.items() if kind == local}
        elif self.type.linear is not None:
            rule, local, known = self.type.linear, "linear", {**known, "linear_attention": "linear"}
        if len(known) == 1 or (rule == "late" and not self.config.get("use_sliding_window")):
            return ["full"] * count
        if given is not None:
            if not isinstance(given, list) or len(given) != count or not set(map(str, given)) <= set(known):
                raise SpecError(f"{self.source}: layer_types: expected {' or '.join(known)} for each of {count} layers")
            return [known[kind] for kind in given]
        first = self.whole("max_window_layers") if rule == "late" else 0
        every = self.whole(rule) if isinstance(rule, str) and rule in self.config else rule
        rope = self.config.get("no_rope_layers")  # of Llama 4: 1 where a layer rotates, and sees its chunk
        if isinstance(rope, list) and len(rope) == count:
            return [local if turns else "full" for turns in rope]
        return [local if number >= first and (not isinstance(every, int) or (number + 1) % max(every, 1)) else "full"
                for number in range(count)]  # fmt: skip

    def feeds(self, count: int) -> list[str]:
        """Whether each layer has experts."""
        found = self.type.experts
        off = found is None or (found.when is not None and not self.config.get(found.when))
        if found is None or off or not self.whole(found.number, 0):
            return ["dense"] * count
        every, first = self.whole("decoder_sparse_step", 1) or 1, self.whole("first_k_dense_replace", 0)
        dense = self.config.get("mlp_only_layers", ())
        sparse = self.config.get("expert_layers", self.config.get("moe_layers"))  # a flag for each, or their numbers
        if not all(isinstance(each, list | tuple) for each in (dense, sparse or ())):
            raise SpecError(f"{self.source}: mlp_only_layers: expected numbers of layers, got {shown(dense)}")
        if sparse and "expert_layers" in self.config:
            sparse = [number for number, flag in enumerate(sparse) if flag]
        return ["experts" if number >= first and number not in dense and (number + 1) % every == 0
                and (not sparse or number in sparse) else "dense" for number in range(count)]  # fmt: skip

    def image(self) -> dict[str, int]:
        """Tokens of an image cut into patches, with one for its class."""
        patch, side = self.whole("patch_size"), self.whole("image_size")
        if not patch or side % patch:
            raise SpecError(f"{self.source}: image_size: expected a multiple of patch_size, got {side} and {patch}")
        labels = self.config.get("id2label")
        return {"labels": len(labels) if isinstance(labels, dict) else 0,
                "max_position_embeddings": (side // patch) ** 2 + 1,
                "patch_values": patch * patch * self.whole("num_channels")}  # fmt: skip


def workload_yaml(path: Path) -> str:
    """Write a `config.json` as the YAML file of a workload, to be changed by hand. Raises SpecError."""
    text: str = yaml.safe_dump(workload_fields(path), sort_keys=False, default_flow_style=None, width=120)
    return text
