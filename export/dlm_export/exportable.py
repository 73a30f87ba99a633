"""A checkpoint that has been understood, weights apart: everything that can be wrong without them has been looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlm_runtime.bundle import Precision

from .backbones import Backbone
from .checkpoint import Checkpoint
from .families import Family, SpecialOverrides, SpecialTokens, family_of
from .tokenizer_files import TokenizerFiles, read_tokenizer_files
from .weights import Totals, check_tensors

STORED_PRECISION: dict[str, Precision] = {"BF16": "bf16", "F16": "fp16"}


@dataclass(frozen=True)
class Exportable:
    """Make one with `Exportable.open`."""

    checkpoint: Checkpoint
    family: Family
    backbone: Backbone
    totals: Totals
    tokens: SpecialTokens
    tokenizer: TokenizerFiles

    @staticmethod
    def open(path: str | Path, special: SpecialOverrides) -> Exportable:
        """Read config, tensor headers and tokenizer files. Raises CheckpointError or UnknownFamily."""
        checkpoint = Checkpoint.open(path)
        family = family_of(checkpoint)
        backbone = family.backbone(checkpoint)
        totals = check_tensors(checkpoint, family, backbone)
        tokens = family.special_tokens(checkpoint, special)
        tokenizer = read_tokenizer_files(checkpoint, backbone.vocab_size, family.facts.template_variables)
        return Exportable(checkpoint, family, backbone, totals, tokens, tokenizer)

    @property
    def stored_embedding(self) -> Precision:
        """How the checkpoint stores its table of the vocabulary: its own type where that is a half, else fp32."""
        shape = (self.backbone.vocab_size, self.backbone.hidden_size)
        key = self.family.source(self.backbone.embedding_name, shape, self.backbone).key
        return STORED_PRECISION.get(self.checkpoint.entry(key).dtype, "fp32")
