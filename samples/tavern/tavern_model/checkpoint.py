"""Writes the trained model in the published form of its family: config.json, safetensors, tokenizer, chat template."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from dlm_export.backbones.denoiser import Denoiser, DenoiserConfig, YarnScaling
from safetensors.torch import save_file
from tokenizers import Tokenizer

from tavern_model import tokens

BLOCK_LENGTH = 32
MAX_POSITIONS = 1024

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}<|card|>{{ message['content'] }}"
    "{%- elif message['role'] == 'user' -%}<|player|>{{ message['content'] }}"
    "{%- else -%}<|npc|>{{ message['content'] }}<|end|>"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|npc|>{%- endif -%}"
)


def model_config(vocab_size: int) -> DenoiserConfig:
    """The tavern model: 6 layers of width 256. The tied head is stored as a second tensor, as the family publishes it."""
    return DenoiserConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=704,
        layers=6,
        heads=4,
        kv_heads=2,
        head_dim=64,
        rope_theta=1_000_000.0,
        norm_eps=1e-5,
        rope_scaling=YarnScaling(factor=1.0, original_max_positions=MAX_POSITIONS),
        query_scale_beta=0.1,
        query_scale_positions=MAX_POSITIONS,
        tied=True,
    )


def published_config(config: DenoiserConfig, tokenizer: Tokenizer) -> dict:
    """config.json as `NemotronLabsDiffusionModel` spells it."""
    assert isinstance(config.rope_scaling, YarnScaling)
    return {
        "architectures": ["NemotronLabsDiffusionModel"],
        "model_type": "nemotron_labs_diffusion",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "block_size": BLOCK_LENGTH,
        "dlm_paradigm": "bidirectional",
        "bos_token_id": tokens.token_id(tokenizer, tokens.CARD),
        "eos_token_id": tokens.token_id(tokenizer, tokens.END),
        "pad_token_id": tokens.token_id(tokenizer, tokens.PAD),
        "mask_token_id": tokens.token_id(tokenizer, tokens.MASK),
        "dtype": "bfloat16",
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": MAX_POSITIONS,
        "mlp_bias": False,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": config.rope_theta,
            "factor": config.rope_scaling.factor,
            "original_max_position_embeddings": config.rope_scaling.original_max_positions,
            "beta_fast": config.rope_scaling.beta_fast,
            "beta_slow": config.rope_scaling.beta_slow,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": config.query_scale_beta,
        },
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": config.vocab_size,
    }


def published_tensors(model: Denoiser) -> dict[str, torch.Tensor]:
    """bfloat16 tensors under the published names."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        key = "diffusion_head.weight" if name == "head.weight" else f"encoder.{name}"
        tensors[key] = value.detach().to(torch.bfloat16).clone()
    return tensors


def save_checkpoint(folder: Path, model: Denoiser, tokenizer: Tokenizer) -> None:
    """Write the checkpoint folder; each file is replaced only once it is whole."""
    folder.mkdir(parents=True, exist_ok=True)

    def replace(name: str, write) -> None:
        partial = folder / f".{name}.partial"
        write(partial)
        partial.replace(folder / name)

    def as_json(data: dict):
        return lambda path: path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    config = published_config(model.config, tokenizer)
    replace("config.json", as_json(config))
    replace("generation_config.json", as_json({key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}))
    replace("tokenizer.json", lambda path: tokenizer.save(str(path)))
    replace("chat_template.jinja", lambda path: path.write_text(CHAT_TEMPLATE + "\n", encoding="utf-8"))
    replace("model.safetensors", lambda path: save_file(published_tensors(model), str(path), metadata={"format": "pt"}))
