"""Grouped-query attention in standard operators, with the queries that share a key head stacked along the length.

Stacking turns [B, H, L, dh] into [B, Hkv, G * L, dh] by a reshape alone, so keys and values are never repeated.

Keys and values stand in the order: this step's tokens, then the past. Unused past columns are thus last, where the zeros they add to a
sum move nothing: a row comes out the same to the last bit, however much longer the past of its neighbours is (ONNX Runtime, CPU). With
the past first, the same sums would be grouped otherwise, which is harmless in fp32 but can tip the rounding of int8 activations.
"""

from __future__ import annotations

from ..denoiser import DenoiserConfig
from .builder import GraphBuilder
from .context import GraphContext
from .rotary import RotaryTables


def build_attention(g: GraphContext, layer: int, x: str, rotary: RotaryTables, mask: str) -> str:
    """`x` [B, L, D] -> [B, L, D]; the values `present.{layer}.key` and `.value` come into being on the way."""
    b, config = g.b, g.config
    at = f"layers.{layer}.self_attn"
    heads, kv_heads, dh = config.heads, config.kv_heads, config.head_dim
    qkv = g.fused_linear(f"{at}.qkv_proj", [f"{at}.{part}_proj" for part in "qkv"], x)
    qk_flat, v_flat = b.split(qkv, [(heads + kv_heads) * dh, kv_heads * dh], [f"{at}.qk_flat", f"{at}.v_flat"])
    qk = b.op("Reshape", [qk_flat, b.constant([0, 0, heads + kv_heads, dh])], f"{at}.qk")
    q, k = b.split(rotate(b, qk, rotary, dh, at), [heads, kv_heads], [f"{at}.q_rotated", f"{at}.k_rotated"], axis=2)
    v = b.op("Reshape", [v_flat, b.constant([0, 0, kv_heads, dh])], f"{at}.v")

    q_heads = b.op("Transpose", [q], f"{at}.q_heads", perm=[0, 2, 1, 3])  # [B, H, L, dh]
    q_stacked = b.op("Reshape", [q_heads, b.constant([0, kv_heads, -1, dh])], f"{at}.q_stacked")  # [B, Hkv, G * L, dh]
    present_key = b.op("Transpose", [k], f"present.{layer}.key", perm=[0, 2, 1, 3])  # [B, Hkv, L, dh]
    present_value = b.op("Transpose", [v], f"present.{layer}.value", perm=[0, 2, 1, 3])
    keys = b.op("Concat", [present_key, f"past.{layer}.key"], f"{at}.keys", axis=2)  # [B, Hkv, L + P, dh]
    values = b.op("Concat", [present_value, f"past.{layer}.value"], f"{at}.values", axis=2)

    keys_transposed = b.op("Transpose", [keys], f"{at}.keys_transposed", perm=[0, 1, 3, 2])
    scores = b.op("MatMul", [q_stacked, keys_transposed], f"{at}.scores")  # [B, Hkv, G * L, L + P]
    masked = b.op("Add", [scores, mask], f"{at}.masked_scores")
    probabilities = b.op("Softmax", [masked], f"{at}.probabilities", axis=-1)
    mixed = b.op("MatMul", [probabilities, values], f"{at}.mixed")  # [B, Hkv, G * L, dh]
    return g.linear(f"{at}.o_proj", join_heads(b, config, mixed, at))


def rotate(b: GraphBuilder, x: str, rotary: RotaryTables, dh: int, at: str) -> str:
    """Rotary embedding, halves convention, of queries and keys together: [B, L, H + Hkv, dh]."""
    first, second = b.split(x, [dh // 2, dh // 2], [f"{at}.first_half", f"{at}.second_half"])
    swapped = b.op("Concat", [second, first], f"{at}.swapped_halves", axis=-1)
    along = b.op("Mul", [x, rotary.cos], f"{at}.times_cos")
    across = b.op("Mul", [swapped, rotary.sin], f"{at}.times_sin")
    return b.op("Add", [along, across], f"{at}.rotated")


def join_heads(b: GraphBuilder, config: DenoiserConfig, mixed: str, at: str) -> str:
    """[B, Hkv, G * L, dh] -> [B, L, H * dh]."""
    per_head = b.op("Reshape", [mixed, b.constant([0, config.heads, -1, config.head_dim])], f"{at}.per_head")  # [B, H, L, dh]
    by_position = b.op("Transpose", [per_head], f"{at}.by_position", perm=[0, 2, 1, 3])  # [B, L, H, dh]
    return b.op("Reshape", [by_position, b.constant([0, 0, config.heads * config.head_dim])], f"{at}.joined")
