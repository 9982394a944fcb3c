"""`config.json` of published models, written down by hand, as files that a workload is loaded from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.models.workload import Workload, load_workload

TRAINING = {"torch_dtype": "bfloat16", "rope_theta": 1e6, "rms_norm_eps": 1e-6, "bos_token_id": 1, "use_cache": True,
            "architectures": ["SomeForCausalLM"], "attention_dropout": 0.0, "initializer_range": 0.02}  # fmt: skip


def decoder(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, width: int, vocabulary: int,
            **more: Any) -> dict[str, Any]:  # fmt: skip
    return {"model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": width, "vocab_size": vocabulary, "hidden_act": "silu",
            **TRAINING, **more}  # fmt: skip


LATENT = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
          "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc",
          "scoring_func": "sigmoid", "norm_topk_prob": True, "num_nextn_predict_layers": 1}  # fmt: skip
MODELS = {
    "Qwen3-8B": decoder("qwen3", 36, 4096, 32, 8, 12288, 151936, head_dim=128, max_position_embeddings=40960,
                        use_sliding_window=False, sliding_window=None, max_window_layers=36, attention_bias=False),
    "Qwen3-32B": decoder("qwen3", 64, 5120, 64, 8, 25600, 151936, head_dim=128),
    "Mixtral-8x22B": decoder("mixtral", 56, 6144, 48, 8, 16384, 32000, num_local_experts=8, num_experts_per_tok=2,
                             sliding_window=None),
    "Llama-3.1-405B": decoder("llama", 126, 16384, 128, 8, 53248, 128256, mlp_bias=False, attention_bias=False),
    "DeepSeek-R1": decoder("deepseek_v3", 61, 7168, 128, 128, 18432, 129280, **LATENT,
                           quantization_config={"quant_method": "fp8"}),
    "Mistral-7B": decoder("mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=4096),
    "Qwen2.5-7B": decoder("qwen2", 28, 3584, 28, 4, 18944, 152064, use_sliding_window=False, sliding_window=131072),
    "Phi-3-mini": decoder("phi3", 32, 3072, 32, 32, 8192, 32064, sliding_window=2047, rope_scaling=None),
    "Gemma-2-9B": decoder("gemma2", 42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096,
                          hidden_activation="gelu_pytorch_tanh", attn_logit_softcapping=50.0,
                          final_logit_softcapping=30.0, query_pre_attn_scalar=256),
    "Gemma-3-1B": decoder("gemma3_text", 26, 1152, 4, 1, 6912, 262144, head_dim=256, sliding_window=512,
                          sliding_window_pattern=6, hidden_activation="gelu_pytorch_tanh"),
    "Qwen3-30B-A3B": decoder("qwen3_moe", 48, 2048, 32, 4, 6144, 151936, head_dim=128, num_experts=128,
                             num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1,
                             mlp_only_layers=[]),
    "gpt-oss-20b": decoder("gpt_oss", 24, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=32,
                           num_experts_per_tok=4, sliding_window=128, attention_bias=True, swiglu_limit=7.0,
                           layer_types=["sliding_attention", "full_attention"] * 12),
}  # fmt: skip


def written(folder: Path, content: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def loaded(folder: Path, content: object) -> Workload:
    return load_workload(str(written(folder, content)))


def hybrid(kind: str, **more: Any) -> dict[str, Any]:
    """Qwen3.5: three layers with a recurrence, then one with attention."""
    linear = {"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
              "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32", "attn_output_gate": True,
              "full_attention_interval": 4, "mtp_num_hidden_layers": 1, "mlp_only_layers": [],
              "rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25}}  # fmt: skip
    return {**TRAINING, "model_type": kind, "vocab_size": 248320, "head_dim": 256, **linear, **more}


def state_space(pattern: str, **more: Any) -> dict[str, Any]:
    """Nemotron-H: M, *, - and E are layers of Mamba-2, attention, a perceptron and experts."""
    mamba = {"conv_kernel": 4, "mamba_head_dim": 64, "n_groups": 8, "expand": 2, "chunk_size": 128, "use_bias": False,
             "mamba_proj_bias": False, "mlp_bias": False, "use_conv_bias": True, "mamba_hidden_act": "silu",
             "time_step_limit": [0.0, 1e9], "mlp_hidden_act": "relu2", "residual_in_fp32": False}  # fmt: skip
    return {**TRAINING, "model_type": "nemotron_h", "vocab_size": 131072, "hybrid_override_pattern": pattern,
            "num_hidden_layers": len(pattern), **mamba, **more}  # fmt: skip


def kinds_of(count: int, each: int, other: str, word: str = "full_attention") -> list[str]:
    return [word if (number + 1) % each == 0 else other for number in range(count)]


def half_rotated(kind: str, **more: Any) -> dict[str, Any]:
    return {**decoder(kind, 0, 0, 0, 0, 0, 0), "partial_rotary_factor": 0.5, **more}


MIMO = [0, 1, 1, 1, 1, *[0, 1, 1, 1, 1, 1] * 7, 0]  # 48 layers: full where 0
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024,
             "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1,
             "summary_type": "cls_index", "task_specific_params": {"text-generation": {"do_sample": True}}},
    "gpt-j-6b": {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_inner": None, "rotary_dim": 64,
                 "vocab_size": 50400, "n_positions": 2048, "activation_function": "gelu_new", "rotary": True,
                 "tie_word_embeddings": False},
    "falcon-7b": {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
                  "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True, "bias": False,
                  "alibi": False, "vocab_size": 65024, "apply_residual_connection_post_layernorm": False},
    "falcon-180b": {"model_type": "falcon", "hidden_size": 14848, "num_attention_heads": 232, "num_hidden_layers": 80,
                    "num_kv_heads": 8, "new_decoder_architecture": True, "parallel_attn": True, "multi_query": True,
                    "bias": False, "vocab_size": 65024},
    "opt-1.3b": {"model_type": "opt", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
                 "ffn_dim": 8192, "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 2048,
                 "do_layer_norm_before": True, "activation_function": "relu", "layerdrop": 0.0, "prefix": "</s>"},
    "bert-base": {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                  "intermediate_size": 3072, "vocab_size": 30522, "type_vocab_size": 2, "hidden_act": "gelu",
                  "max_position_embeddings": 512, "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1},
    "roberta-base": {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                     "intermediate_size": 3072, "vocab_size": 50265, "type_vocab_size": 1, "hidden_act": "gelu",
                     "max_position_embeddings": 514},
    "vit-b-16": {"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "intermediate_size": 3072, "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True,
                 "id2label": {str(number): "a label" for number in range(1000)}, "encoder_stride": 16},
    "t5-small": {"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
                 "vocab_size": 32128, "n_positions": 512, "feed_forward_proj": "relu", "is_encoder_decoder": True,
                 "relative_attention_num_buckets": 32},
    "flan-t5-base": {"model_type": "t5", "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
                     "num_decoder_layers": 12, "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
                     "tie_word_embeddings": False},
    "glm-4-9b": half_rotated("glm4", num_hidden_layers=40, hidden_size=4096, num_attention_heads=32, head_dim=128,
                            num_key_value_heads=2, intermediate_size=13696, vocab_size=151552, attention_bias=True),
    "glm-4.5-air": half_rotated(
        "glm4_moe", num_hidden_layers=46, hidden_size=4096, num_attention_heads=96, num_key_value_heads=8, head_dim=128,
        intermediate_size=10944, vocab_size=151552, attention_bias=True, moe_intermediate_size=1408, use_qk_norm=False,
        n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=1, n_group=1,
        num_nextn_predict_layers=1),
    "glm-4.5": half_rotated(
        "glm4_moe", num_hidden_layers=92, hidden_size=5120, num_attention_heads=96, num_key_value_heads=8, head_dim=128,
        intermediate_size=12288, vocab_size=151552, attention_bias=True, moe_intermediate_size=1536, use_qk_norm=True,
        n_routed_experts=160, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3),
    "minimax-m2.5": decoder("minimax_m2", 62, 3072, 48, 8, 1536, 200064, head_dim=128, num_local_experts=256,
                            num_experts_per_tok=8, rotary_dim=64, use_qk_norm=True, qk_norm_type="per_layer",
                            scoring_func="sigmoid", use_routing_bias=True, use_mtp=True, shared_intermediate_size=0),
    "llama-4-scout": decoder("llama4_text", 48, 5120, 40, 8, 8192, 202048, head_dim=128, intermediate_size_mlp=16384,
                             num_local_experts=16, num_experts_per_tok=1, attention_chunk_size=8192, use_qk_norm=True,
                             interleave_moe_layer_step=1),
    "gemma-4-26b": decoder(
        "gemma4_text", 30, 2816, 16, 8, 2112, 262144, head_dim=256, global_head_dim=512, num_global_key_value_heads=2,
        moe_intermediate_size=704, num_experts=128, top_k_experts=8, enable_moe_block=True, attention_k_eq_v=True,
        sliding_window=1024, layer_types=kinds_of(30, 6, "sliding_attention"), hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"full_attention": {"partial_rotary_factor": 0.25}, "sliding_attention": {"rope_theta": 1e4}},
        tie_word_embeddings=True, hidden_size_per_layer_input=0),
    "qwen3.5-27b": hybrid("qwen3_5_text", hidden_size=5120, num_hidden_layers=64, num_attention_heads=24,
                          num_key_value_heads=4, intermediate_size=17408, linear_num_value_heads=48,
                          layer_types=kinds_of(64, 4, "linear_attention")),
    "qwen3.5-35b-a3b": hybrid("qwen3_5_moe_text", hidden_size=2048, num_hidden_layers=40, num_attention_heads=16,
                              num_key_value_heads=2, linear_num_value_heads=32, num_experts=256, num_experts_per_tok=8,
                              moe_intermediate_size=512, shared_expert_intermediate_size=512),
    "nemotron-h-56b": state_space(
        "M-M-M-M*-" + "M-M-M-M-M*-" * 9 + "M-M-M-M-M-", hidden_size=8192, num_attention_heads=64,
        num_key_value_heads=8, intermediate_size=32768, mamba_num_heads=256, ssm_state_size=256,
        attention_head_dim=128),
    "nemotron-3-nano": state_space(
        "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", hidden_size=2688, num_attention_heads=32, head_dim=128,
        num_key_value_heads=2, intermediate_size=1856, mamba_num_heads=64, ssm_state_size=128, n_routed_experts=128,
        n_shared_experts=1, num_experts_per_tok=6, moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712),
    "mimo-v2-flash": decoder(
        "mimo_v2_flash", 48, 4096, 64, 4, 16384, 152576, head_dim=192, v_head_dim=128, sliding_window=128,
        partial_rotary_factor=0.334, swa_num_attention_heads=64, swa_num_key_value_heads=8, swa_head_dim=192,
        swa_v_head_dim=128, hybrid_layer_pattern=MIMO, moe_layer_freq=[0] + [1] * 47, moe_intermediate_size=2048,
        n_routed_experts=256, num_experts_per_tok=8, layernorm_epsilon=1e-5, attention_chunk_size=128,
        add_swa_attention_sink_bias=True, add_full_attention_sink_bias=False),
}  # fmt: skip
