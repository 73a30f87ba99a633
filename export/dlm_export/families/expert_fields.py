"""The numbers of a mixture of experts, by the names that most configs give them."""

from __future__ import annotations

from typing import Any

from ..backbones.denoiser import Experts
from .config_fields import ConfigFields


def read_experts(fields: ConfigFields, dense: frozenset[int], *, size: str = "moe_intermediate_size", **switches: Any) -> Experts:
    """`dense` are the layers without a mixture, `size` names the field with an expert's width, `switches` go to Experts."""
    count, per_token = fields.integer("num_experts", least=1), fields.integer("num_experts_per_tok", least=1)
    width = fields.integer(size, least=1)
    try:
        return Experts(count, per_token, width, dense_layers=dense, **switches)
    except ValueError as error:
        raise fields.error("num_experts", f"does not fit: {error}") from error
