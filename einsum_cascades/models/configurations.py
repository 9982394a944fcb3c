"""A model's own `config.json` (Hugging Face transformers) as the fields of a workload.

A table says of each `model_type` what the class of that name in transformers assumes where the file is silent, which
fields it reads, and what of it is not modelled. A field that is neither read nor known to leave the arithmetic alone,
and is not off, is refused, so that no model is priced as another one. Types of weights are the architecture's business:
`quantization_config` is noted, and set with `--set types.weights=…`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os.path import isdir
from pathlib import Path
from typing import Any

import yaml

from cascadesim.einsum_cascades.notation.errors import SpecError, listed, shortened, shown
from cascadesim.einsum_cascades.notation.schema import read_text, read_yaml

_MOST_LAYERS = 10_000  # assumed: a hundred times the deepest model
_DEFAULT_LENGTH = 4096  # tokens, as in the workloads that come along
_COMMON = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings", "hidden_act", "attention_bias",
    "quantization_config",
)  # fmt: skip
_HARMLESS = (  # names and patterns: numerics, training, generation and descriptions; no operation depends on them
    "architectures", "auto_map", "*_token_id", "*_dropout", "*_pdrop", "initializer_range", "*_eps", "rope_*",
    "*_rope_*",
    "torch_dtype", "dtype", "transformers_version", "use_cache", "pretraining_tp", "_name_or_path", "*router_logits",
    "*aux_loss*", "seq_aux", "attn_implementation", "_attn_implementation*", "cache_implementation", "bad_words_ids",
    "output_attentions", "output_hidden_states", "return_dict*", "torchscript", "unsloth_*", "ep_size", "id2label",
    "label2id", "original_max_position_embeddings", "initial_context_length", "query_pre_attn_scalar",
    "routed_scaling_factor", "router_jitter_noise", "norm_topk_prob", "gradient_checkpointing",
)  # fmt: skip
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu-tanh", "relu": "relu"}
_CAPPING = {"attn_logit_softcapping": "soft-capping of the scores (a tanh per score)",
            "final_logit_softcapping": "soft-capping of the last scores"}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One `model_type`: values of fields that a file may leave out, further fields, and what is always so.

    `slides`: which layers see a window: all, every one but each n-th (n), those from `max_window_layers` on, or none.
    `experts`, `width`: the fields of their number and width; `always`: fields of the workload that no file states.
    """

    absent: Mapping[str, object] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    slides: int | str | None = None
    experts: str | None = None
    width: str = "intermediate_size"
    latent: bool = False
    bias: str | None = None
    attention: Mapping[str, object] = field(default_factory=dict)
    mixture: Mapping[str, object] = field(default_factory=dict)
    always: Mapping[str, object] = field(default_factory=dict)
    not_modelled: tuple[str, ...] = ()


_WINDOW = ("sliding_window", "layer_types")
_QWEN = ("use_sliding_window", "max_window_layers", *_WINDOW)
_GEMMA = {"tie_word_embeddings": True, "head_dim": 256, "sliding_window": 4096, "hidden_act": "gelu_pytorch_tanh"}
_LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts",
           "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size", "first_k_dense_replace",
           "moe_layer_freq", "n_group", "topk_group", "topk_method", "scoring_func",
           "num_nextn_predict_layers")  # fmt: skip
_DEEPSEEK = Family({"n_shared_experts": 0, "first_k_dense_replace": 0, "moe_layer_freq": 1}, _LATENT, None,
                   "n_routed_experts", "moe_intermediate_size", latent=True,
                   not_modelled=("the groups that the router picks within; counted as a softmax over the experts",
                                 "multi-token prediction"))  # fmt: skip
_DEEPSEEK_3 = Family(_DEEPSEEK.absent, _LATENT, None, "n_routed_experts", "moe_intermediate_size", latent=True,
                     mixture={"balance_bias": True}, not_modelled=_DEEPSEEK.not_modelled)  # fmt: skip
_QWEN3_MOE = Family({"max_window_layers": 0}, (*_QWEN, "num_experts", "num_experts_per_tok", "moe_intermediate_size",
                                               "decoder_sparse_step", "mlp_only_layers"), "late", "num_experts",
                    "moe_intermediate_size", attention={"qk_norm": True})  # fmt: skip
_GEMMA_3 = Family({**_GEMMA, "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4},
                  ("hidden_activation", "sliding_window_pattern", "_sliding_window_pattern", *_WINDOW, *_CAPPING), 6,
                  attention={"qk_norm": True}, always={"norms_per_layer": 4})  # fmt: skip
FAMILIES: Mapping[str, Family] = {  # what is absent: the defaults of transformers 4.57, models/*/configuration_*.py
    "llama": Family(fields=("mlp_bias",)),
    "mistral": Family({"sliding_window": 4096, "num_key_value_heads": 8}, _WINDOW, "all"),
    "mixtral": Family({"num_key_value_heads": 8}, (*_WINDOW, "num_local_experts", "num_experts_per_tok"), "all",
                      "num_local_experts"),
    "qwen2": Family({"max_window_layers": 28}, _QWEN, "late", bias="qkv"),
    "qwen3": Family({"max_window_layers": 28, "head_dim": 128}, _QWEN, "late", attention={"qk_norm": True}),
    "qwen3_moe": _QWEN3_MOE, "qwen3_vl_moe_text": _QWEN3_MOE,
    "gemma2": Family({**_GEMMA, "num_key_value_heads": 4}, ("hidden_activation", *_WINDOW, *_CAPPING), 2,
                     always={"norms_per_layer": 4}),
    "gemma3_text": _GEMMA_3,
    "gpt_oss": Family({"head_dim": 64, "num_key_value_heads": 8, "sliding_window": 128, "attention_bias": True},
                      (*_WINDOW, "num_local_experts", "num_experts_per_tok", "experts_per_token", "swiglu_limit"), 2,
                      "num_local_experts", mixture={"bias": True},
                      not_modelled=("attention sinks (one more term in each denominator)",
                                    "the clamp and the slope of the gate's activation")),
    "phi3": Family(fields=(*_WINDOW, "partial_rotary_factor"), slides="all"),
    "deepseek_v2": _DEEPSEEK, "deepseek_v3": _DEEPSEEK_3, "kimi_k2": _DEEPSEEK_3,
}  # fmt: skip
_TEXT_PARTS = ("gemma3", "qwen3_vl_moe")  # files that hold a `text_config` beside a vision encoder


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
    vision = content["model_type"] in _TEXT_PARTS
    if vision and isinstance(content.get("text_config"), dict):
        content = {"model_type": f"{content['model_type']}_text", **content["text_config"]}
    kind = content["model_type"]
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise SpecError(f"{path.name}: model_type: {shown(kind)} is not understood; give one of {', '.join(FAMILIES)}, "
                        "or a YAML of your own")
    family = FAMILIES[kind]
    _refuse_unknown(content, family, path.name)
    config = {name: value for name, value in {**family.absent, **content}.items() if value is not None}
    model = path.resolve().parent.name if path.name == "config.json" else path.stem
    return _Configuration(config, family, path.name).workload(model or kind, vision)


def _refuse_unknown(content: Mapping[str, Any], family: Family, source: str) -> None:
    unknown = [name for name, value in content.items() if name not in (*_COMMON, *family.fields)
               and not any(fnmatchcase(name, known) for known in _HARMLESS) and value not in (None, False, [], {})]
    if unknown:
        raise SpecError(f"{source}: {listed(map(shortened, unknown))}: not understood for model_type "
                        f"{content['model_type']}; it may change the arithmetic, and a YAML of your own can say how")


@dataclass(frozen=True)
class _Configuration:
    """The values of one file, those of its family where it has none."""

    config: Mapping[str, Any]
    family: Family
    source: str

    def whole(self, name: str, otherwise: int | None = None) -> int:
        value = self.config.get(name, otherwise)
        if type(value) is not int or not 0 <= value < 2**40:
            given = "missing" if value is None else f"expected a whole number, got {shown(value)}"
            raise SpecError(f"{self.source}: {name}: {given}")
        return value

    def workload(self, name: str, vision: bool) -> dict[str, Any]:
        config, family = self.config, self.family
        activation = config.get("hidden_activation", config.get("hidden_act", "silu"))
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            raise SpecError(f"{self.source}: hidden_act: {shown(activation)}; known: {', '.join(_ACTIVATIONS)}")
        longest = self.whole("max_position_embeddings", _DEFAULT_LENGTH)
        layers, dense = self.layers(), {"activation": _ACTIVATIONS[activation], "gated": True}
        missing = [*family.not_modelled, *(why for name, why in _CAPPING.items() if name in config)]
        missing += ["the vision encoder"] * vision
        if "quantization_config" in config:
            missing.append("quantization_config: the types of numbers are set with --set types.weights and others")
        return {
            "name": name, "kind": "decoder", "source": f"{self.source} of {name}", "certainty": "as the file says",
            "batch": 1, "sequence_length": min(longest, _DEFAULT_LENGTH), "max_context": longest,
            "hidden": self.whole("hidden_size"), "vocabulary": self.whole("vocab_size"),
            "tied_embeddings": config.get("tie_word_embeddings", False), "norm": "rms", **family.always,
            "attention": self.attention(),
            **({"ffn": {"width": self.whole("intermediate_size"), **dense, "bias": config.get("mlp_bias", False)}}
               if any("feed_forward" not in layer for layer in layers.values()) else {}),
            **({"experts": self.experts(dense)} if any("feed_forward" in layer for layer in layers.values()) else {}),
            "layers": layers, **({"other_parameters": self.sinks()} if config["model_type"] == "gpt_oss" else {}),
            **({"not_modelled": missing} if missing else {}),
        }  # fmt: skip

    def attention(self) -> dict[str, Any]:
        heads = self.whole("num_attention_heads")
        bias = self.family.bias or ("all" if self.config.get("attention_bias") else "none")
        if self.family.latent:
            if "q_lora_rank" not in self.config:
                raise SpecError(f"{self.source}: q_lora_rank: null (queries without a latent vector) is not modelled")
            rotated = self.whole("qk_rope_head_dim")
            latent = {"q_rank": self.whole("q_lora_rank"), "kv_rank": self.whole("kv_lora_rank"), "rope_dim": rotated}
            return {"heads": heads, "head_dim": self.whole("qk_nope_head_dim") + rotated, "bias": bias,
                    "value_dim": self.whole("v_head_dim"), "rotary": True, "latent": latent}  # fmt: skip
        if self.config.get("partial_rotary_factor", 1) != 1:
            raise SpecError(f"{self.source}: partial_rotary_factor: heads that are rotated in part are not modelled")
        depth = self.whole("head_dim", self.whole("hidden_size") // max(heads, 1))
        return {"heads": heads, "kv_heads": self.whole("num_key_value_heads", heads), "head_dim": depth, "bias": bias,
                "rotary": True, **self.family.attention}  # fmt: skip

    def experts(self, dense: Mapping[str, object]) -> dict[str, Any]:
        chosen = self.config.get("experts_per_token", self.config.get("num_experts_per_tok"))
        shared, width = self.whole("n_shared_experts", 0), self.whole(self.family.width)
        return {"experts": self.whole(self.family.experts or ""), "chosen": chosen, "shared": shared, "width": width,
                **dense, **self.family.mixture}  # fmt: skip

    def layers(self) -> dict[str, dict[str, Any]]:
        """Kinds of layers with their counts, in the order in which they come first."""
        count = self.whole("num_hidden_layers")
        if not 1 <= count <= _MOST_LAYERS:
            raise SpecError(f"{self.source}: num_hidden_layers: {count:,}; give 1 to {_MOST_LAYERS:,}")
        kinds = Counter(zip(self.windows(count), self.mixtures(count), strict=True))
        several = [len({kind[part] for kind in kinds}) > 1 for part in (0, 1)]
        found = {}
        for (window, mixture), times in kinds.items():
            words = [("global" if window is None else "local", "experts" if mixture else "dense")[part]
                     for part in (0, 1) if several[part]]  # fmt: skip
            found["-".join(words) or "decoder"] = {
                "count": times, "mask": "causal", **({} if window is None else {"window": window}),
                **({"feed_forward": "experts"} if mixture else {})}  # fmt: skip
        return found

    def windows(self, count: int) -> list[int | None]:
        """The window of each layer; None where it sees everything."""
        rule, kinds = self.family.slides, self.config.get("layer_types")
        rule = self.config.get("sliding_window_pattern", self.config.get("_sliding_window_pattern", rule))
        if "sliding_window" not in self.config or (rule == "late" and not self.config.get("use_sliding_window")):
            return [None] * count
        window = self.whole("sliding_window")
        if kinds is None and rule == "late":
            first = self.whole("max_window_layers")
            return [window if number >= first else None for number in range(count)]
        if kinds is None:
            return [window if rule == "all" or (isinstance(rule, int) and (number + 1) % rule) else None
                    for number in range(count)]
        known = {"sliding_attention": window, "full_attention": None}
        if not isinstance(kinds, list) or len(kinds) != count or not all(kind in known for kind in map(str, kinds)):
            raise SpecError(f"{self.source}: layer_types: expected sliding_attention or full_attention for each of "
                            f"{count} layers")
        return [known[kind] for kind in kinds]

    def mixtures(self, count: int) -> list[bool]:
        """Whether each layer has experts."""
        if self.family.experts is None or not self.whole(self.family.experts, 0):
            return [False] * count
        every = self.whole("decoder_sparse_step", self.whole("moe_layer_freq", 1)) or 1
        dense, first = self.config.get("mlp_only_layers", ()), self.whole("first_k_dense_replace", 0)
        if every != 1 and self.family.latent:
            raise SpecError(f"{self.source}: moe_layer_freq: {every}; only 1 is understood")
        if not isinstance(dense, list | tuple):
            raise SpecError(f"{self.source}: mlp_only_layers: expected numbers of layers, got {shown(dense)}")
        return [number >= first and number not in dense and (number + 1) % every == 0 for number in range(count)]

    def sinks(self) -> dict[str, int]:
        """One number for each head and layer (gpt-oss)."""
        return {"attention_sinks": self.whole("num_attention_heads") * self.whole("num_hidden_layers")}


def workload_yaml(path: Path) -> str:
    """Write a `config.json` as the YAML file of a workload, to be changed by hand. Raises SpecError."""
    text: str = yaml.safe_dump(workload_fields(path), sort_keys=False, default_flow_style=None, width=120)
    return text
