"""The manifest of a bundle that is about to be written."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest, Source, Target

from .checkpoint import CONFIG_FILE
from .errors import CheckpointError
from .export_options import ExportOptions
from .exportable import Exportable
from .graph.builder import LOWEST_OPSET
from .precision import PrecisionChoice

MODEL_FILE = "model.onnx"
WRONG_CONFIG = "It does not describe a checkpoint of this family"


def make_manifest(source: Exportable, options: ExportOptions, precisions: PrecisionChoice) -> Manifest:
    """The manifest, but for the operator set, which the graph decides, and the files' hashes."""
    checkpoint, backbone, tokens, facts = source.checkpoint, source.backbone, source.tokens, source.family.facts
    max_context = source.family.max_context(checkpoint)
    if facts.block_field and tokens.block_length > max_context:
        problem = f"is {tokens.block_length}, more than the model's {max_context} positions"
        raise CheckpointError(checkpoint.path / CONFIG_FILE, problem, WRONG_CONFIG, item=facts.block_field)
    choices = options.checked(facts, max_context=max_context, block_length=tokens.block_length)
    caches = [backbone.cache_shape(layer) for layer in range(backbone.layers)]
    folder_name = readable(checkpoint.path.resolve().name)
    return Manifest(
        name=options.name or folder_name,
        family=facts.name,
        architecture=facts.architecture,
        opset=LOWEST_OPSET,
        vocab_size=backbone.vocab_size,
        hidden_size=backbone.hidden_size,
        layers=backbone.layers,
        heads=backbone.heads,
        kv_heads=caches[0][0],
        head_dim=caches[0][1],
        layer_caches=tuple(caches) if len(set(caches)) > 1 else (),
        max_context=choices.max_context,
        block_length=choices.block_length,
        logit_shift=facts.logit_shift,
        context_mask=choices.context_mask,
        mask_token_id=tokens.mask_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_ids=tokens.eos_token_ids,
        pad_token_id=tokens.pad_token_id,
        banned_token_ids=banned_ids(source),
        modes=choices.modes,
        default_mode=choices.modes[0],
        default_threshold=facts.default_threshold,
        top_k=min(options.top_k, backbone.vocab_size),
        chat_template=source.tokenizer.chat_template,
        source=Source(checkpoint=options.source_name or folder_name, revision=options.revision or checkpoint.revision),
        targets=(Target(engine=precisions.target, file=MODEL_FILE),),
        **precisions.manifest_fields(),
    )


def banned_ids(source: Exportable) -> tuple[int, ...]:
    """Control tokens that no line may hold: the mask and the tokenizer's special tokens, but for what ends a line."""
    mask = source.tokens.mask_token_id
    control = {*source.tokenizer.control_ids, *(() if mask is None else (mask,))}
    return tuple(sorted(control - set(source.tokens.eos_token_ids)))


def readable(name: str) -> str:
    """A file name as text: bytes that are none, which file systems allow, become question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")
