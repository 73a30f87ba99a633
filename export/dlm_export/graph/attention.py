"""Grouped-query attention in standard operators, with the queries that share a key head stacked along the length.

Stacking turns [B, H, L, dh] into [B, Hkv, G * L, dh] by a reshape alone, so keys and values are never repeated.

Keys and values stand in the order: this step's tokens, then the past. Unused past columns are thus last, where the zeros they add to a
sum move nothing: a row comes out the same to the last bit, however much longer the past of its neighbours is (ONNX Runtime, CPU). With
the past first, the same sums would be grouped otherwise, which is harmless in fp32 but can tip the rounding of int8 activations.
"""

from __future__ import annotations

from .context import GraphContext


def build_attention(g: GraphContext, layer: int, q: str, k: str, v: str, bias: str, *, at: str) -> str:
    """Attend, and let `present.{layer}.key` and `.value` come into being on the way.

    `q` [B, L, H, dh] is scaled and rotated already, `k` and `v` [B, L, Hkv, dh]; `bias` [B, 1, H / Hkv * L, L + P]. Returns
    [B, L, H * dh].
    """
    b = g.b
    kv_heads, dh = g.backbone.cache_shape(layer)
    q_heads = b.op("Transpose", [q], f"{at}.q_heads", perm=[0, 2, 1, 3])  # [B, H, L, dh]
    q_stacked = b.op("Reshape", [q_heads, b.constant([0, kv_heads, -1, dh])], f"{at}.q_stacked")  # [B, Hkv, G * L, dh]
    keys = join_past(g, layer, "key", k, at)
    values = join_past(g, layer, "value", v, at)

    keys_transposed = b.op("Transpose", [keys], f"{at}.keys_transposed", perm=[0, 1, 3, 2])
    scores = g.wide(b.op("MatMul", [g.narrow(q_stacked), keys_transposed], f"{at}.scores"))  # [B, Hkv, G * L, L + P]
    masked = b.op("Add", [scores, bias], f"{at}.masked_scores")
    probabilities = b.op("Softmax", [masked], f"{at}.probabilities", axis=-1)
    mixed = g.wide(b.op("MatMul", [g.narrow(probabilities), values], f"{at}.mixed"))  # [B, Hkv, G * L, dh]

    per_head = b.op("Reshape", [mixed, b.constant([0, g.backbone.heads, -1, dh])], f"{at}.per_head")  # [B, H, L, dh]
    by_position = b.op("Transpose", [per_head], f"{at}.by_position", perm=[0, 2, 1, 3])  # [B, L, H, dh]
    return b.op("Reshape", [by_position, b.constant([0, 0, g.backbone.heads * dh])], f"{at}.joined")


def join_past(g: GraphContext, layer: int, part: str, new: str, at: str) -> str:
    """Keys or values of this step [B, L, Hkv, dh], then those of the past: [B, Hkv, L + P, dh]."""
    present = g.b.op("Transpose", [g.narrow(new)], f"present.{layer}.{part}", perm=[0, 2, 1, 3])  # [B, Hkv, L, dh]
    return g.b.op("Concat", [present, f"past.{layer}.{part}"], f"{at}.{part}s", axis=2)
