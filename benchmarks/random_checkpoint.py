"""A checkpoint of random weights in the size that a config.json asks for, to measure an export or a step without downloading anything.

    python benchmarks/random_checkpoint.py FOLDER_WITH_CONFIG --out DIR [--dtype bf16] [--shard-gb 1]

    /usr/bin/time -v dlm-export DIR --out BUNDLE --precision fp16

Every supported family works. Matrices are drawn with a spread of 1 / sqrt(inputs), norms about 1; the text that comes out is noise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from dlm_export.checkpoint import CONFIG_FILE, Checkpoint
from dlm_export.families import family_of
from rich.progress import track
from safetensors.torch import save_file

INDEX = "model.safetensors.index.json"


class Dtype(StrEnum):
    """Element types that checkpoints are published in."""

    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


TORCH_TYPES = {Dtype.bf16: torch.bfloat16, Dtype.fp16: torch.float16, Dtype.fp32: torch.float32}


def stored_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that the family of a config.json stores."""
    checkpoint = Checkpoint(source, json.loads((source / CONFIG_FILE).read_text(encoding="utf-8")), {})
    family = family_of(checkpoint)
    backbone = family.backbone(checkpoint)
    sources = (family.source(name, shape, backbone) for name, shape in backbone.tensor_shapes())
    return {found.key: found.stored_shape for found in sources}


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A matrix that keeps its input's size, or a norm's weights."""
    drawn = torch.randn(shape, dtype=torch.float32)
    return (drawn * shape[-1] ** -0.5 if len(shape) > 1 else 1 + drawn * 0.1).to(dtype)


def shards(shapes: dict[str, tuple[int, ...]], limit_bytes: float, item_bytes: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """Tensors in groups that stay below a size, unless one alone is larger."""
    group: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        own = torch.Size(shape).numel() * item_bytes
        if group and size + own > limit_bytes:
            yield group
            group, size = {}, 0
        group[name] = shape
        size += own
    yield group


def main(
    source: Annotated[Path, typer.Argument(help="Folder with config.json, and tokenizer files if there are any.")],
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes.")],
    dtype: Annotated[Dtype, typer.Option(help="Element type.")] = Dtype.bf16,
    shard_gb: Annotated[float, typer.Option(help="Largest size of a file, in GB.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Write a checkpoint of random weights."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.json"):
        if file.name != INDEX:
            shutil.copy(file, out / file.name)
    groups = list(shards(stored_shapes(source), shard_gb * 1e9, TORCH_TYPES[dtype].itemsize))
    weight_map: dict[str, str] = {}
    for number, group in enumerate(track(groups, description="writing"), start=1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file({key: random_tensor(shape, TORCH_TYPES[dtype]) for key, shape in group.items()}, out / name, {"format": "pt"})
        weight_map |= dict.fromkeys(group, name)
    (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
