"""The options of `dlm-export`, each with the sentence that teaches it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from dlm_runtime.bundle import Mode

from .engines.engine_options import MAX_BATCH, MAX_PREFILL, TIMEOUT_S
from .errors import OptionError

MODES = get_args(Mode)
EXPORT_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "dlm-export my-checkpoint --out bundle                       fp32, the reference for everything else\n\n"
    "dlm-export my-checkpoint --out bundle --precision int8      a quarter of the size, faster on a CPU\n\n"
    "dlm-export my-checkpoint --out bundle --precision int4 --keep-fp32 '*.down_proj' --head-precision int8\n\n"
    "dlm-export nvidia/Nemotron-Labs-Diffusion-8B@main --out bundle --precision fp16 --max-context 4096\n\n"
    "dlm-export my-a2d-model --out bundle --context-mask block_causal --block-length 32\n\n"
    "dlm-export inclusionAI/LLaDA2.0-mini --out bundle --mask-token-id 156895 --eos-token-id 156892\n\n"
    "dlm-export my-checkpoint --out bundle --target tensorrt-rtx --precision fp16 --compute-capability 86,89,120 --loop"
)
ENGINE_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "dlm-export engine bundle                                    for every card that TensorRT for RTX builds for by itself\n\n"
    "dlm-export engine bundle --compute-capability 89,120 --max-batch 16 --loop"
)


class PrecisionName(StrEnum):
    """Choices of --precision."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"
    int4 = "int4"


class EmbeddingName(StrEnum):
    """Choices of --embedding-precision."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class TargetName(StrEnum):
    """Choices of --target."""

    onnxruntime = "onnxruntime"
    tensorrt_rtx = "tensorrt-rtx"
    tensorrt = "tensorrt"


class ContextMaskName(StrEnum):
    """Choices of --context-mask."""

    causal = "causal"
    block_causal = "block_causal"
    bidirectional = "bidirectional"


def option(*names: str, text: str, panel: str | None = None, **more: Any) -> Any:
    """A typer option with its help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


WHAT, NUMBERS, IDS = "What the bundle can do", "Precision", "Token ids, where the checkpoint says nothing or something wrong"
ENGINE = "Engines, for --target tensorrt-rtx and tensorrt; see docs/engines.md"

Source = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="Folder with config.json and safetensors, or a Hugging Face id: owner/name or owner/name@revision."
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that dlm-export wrote.")]
Out = Annotated[Path, option("--out", metavar="DIR", text="Where the bundle goes; must be new or empty.")]
Name = Annotated[str | None, option("--name", text="The bundle's name; the checkpoint's unless given.")]
Revision = Annotated[
    str | None, option("--revision", text="Branch, tag or commit of a Hugging Face id; the commit goes into the manifest.")
]
Force = Annotated[bool, option("--force", text="Replace the bundle that is at --out.")]
Json = Annotated[bool, option("--json", text="Print one JSON object instead of text.")]

PrecisionOption = Annotated[
    PrecisionName,
    option(
        "--precision",
        panel=NUMBERS,
        text="Of the linear layers. int8 and int4 are weights; what is computed in depends on --target. See docs/precision.md.",
    ),
]
EmbeddingPrecision = Annotated[
    EmbeddingName | None,
    option(
        "--embedding-precision",
        panel=NUMBERS,
        text="Of the embedding table; as --precision, but for int8 and int4 what the checkpoint stores (fp16 for tensorrt-rtx).",
    ),
]
HeadPrecision = Annotated[PrecisionName | None, option("--head-precision", panel=NUMBERS, text="Of the head; as --precision unless given.")]
KeepFp32 = Annotated[
    list[str] | None,
    option(
        "--keep-fp32", metavar="PATTERN", panel=NUMBERS, text="Layers that stay fp32, as a shell pattern over their names; may be repeated."
    ),
]
TargetOption = Annotated[
    TargetName,
    option(
        "--target",
        panel=NUMBERS,
        text="What will run it. It decides the opset, whether halves are stored or computed with, and which engine is built. "
        "tensorrt, the full one, has not been tried.",
    ),
]
EngineTarget = Annotated[
    TargetName, option("--target", text="Which library builds: tensorrt-rtx, or tensorrt, which needs a GPU and has not been tried.")
]
GraphOnly = Annotated[bool, option("--graph-only", panel=ENGINE, text="Write the graph and build no engine.")]
ComputeCapability = Annotated[
    str | None,
    option(
        "--compute-capability",
        metavar="LIST",
        panel=ENGINE,
        text="Cards to build for, such as 86,89,120; what the library takes unless given.",
    ),
]
MaxBatch = Annotated[int | None, option("--max-batch", panel=ENGINE, text=f"Rows in one call at most; {MAX_BATCH} unless given.")]
MaxPrefill = Annotated[
    int | None,
    option("--max-prefill", panel=ENGINE, text=f"Tokens of a prompt in one call at most; {MAX_PREFILL} unless the model needs it whole."),
]
EngineContext = Annotated[
    int | None, option("--max-context", text="Tokens of context that the engine is built for; the bundle's unless given.")
]
Plugin = Annotated[
    str | None,
    option(
        "--plugin",
        metavar="none|python|PATH",
        panel=ENGINE,
        text="Library with the plugin dlm::ParallelUnmask; python is a stand-in that can be built with and not be run. none unless given.",
    ),
]
BuildTimeout = Annotated[
    float | None, option("--build-timeout", metavar="SECONDS", panel=ENGINE, text=f"For each engine; {TIMEOUT_S:g} unless given.")
]
Loop = Annotated[
    bool, option("--loop", panel=WHAT, text="Add a second graph, block.onnx, that denoises a whole block in one call; for any target.")
]
Modes = Annotated[
    str | None, option("--modes", panel=WHAT, text=f"Comma-separated, of {', '.join(MODES)}; all that the family has unless given.")
]
ContextMaskOption = Annotated[
    ContextMaskName | None,
    option("--context-mask", panel=WHAT, text="How committed tokens see each other, for families trained in more than one way (A2D)."),
]
MaxContext = Annotated[
    int | None, option("--max-context", min=2, panel=WHAT, text="Tokens of prompt and line together; the model's own unless given.")
]
BlockLength = Annotated[
    int | None, option("--block-length", min=1, panel=WHAT, text="Tokens denoised together; the model's own unless given.")
]
TopK = Annotated[int, option("--top-k", min=1, panel=WHAT, text="How many likeliest tokens a step reports for each position.")]
MaskTokenId = Annotated[int | None, option("--mask-token-id", min=0, panel=IDS, text="The mask.")]
EosTokenId = Annotated[list[int] | None, option("--eos-token-id", min=0, panel=IDS, text="What ends a line; may be repeated.")]
PadTokenId = Annotated[int | None, option("--pad-token-id", min=0, panel=IDS, text="Padding.")]
BosTokenId = Annotated[int | None, option("--bos-token-id", min=0, panel=IDS, text="What begins a text.")]


def split_modes(text: str | None) -> Any:
    """`diffusion,ar` as a tuple. Raises OptionError for a mode that no family has."""
    if text is None:
        return None
    modes = tuple(mode.strip() for mode in text.split(","))
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise OptionError("--modes", text, f"{unknown[0]!r} is no mode; give a comma-separated choice of {', '.join(MODES)}")
    return cast(Any, modes)
