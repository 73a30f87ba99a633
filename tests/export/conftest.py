"""Checkpoints to break: writable copies of the golden one, and ways to change them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.families import family_of
from dlm_export.weights import tensor_shapes
from safetensors.torch import load_file, save_file

EMBEDDING = "encoder.embed_tokens.weight"
HEAD = "diffusion_head.weight"
UP = "encoder.layers.1.mlp.up_proj.weight"


@dataclass(frozen=True)
class EditableCheckpoint:
    """A checkpoint folder that a test may change."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    def config(self, **changes: Any) -> None:
        """Set fields of config.json; None removes one."""
        file = self.path / "config.json"
        fields = json.loads(file.read_text(encoding="utf-8")) | changes
        file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")

    def tensors(self, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
        """Change the tensors in place."""
        tensors = load_file(self.weights)
        change(tensors)
        save_file(tensors, self.weights)

    def shard(self) -> None:
        """Split the weights over two files with an index."""
        tensors = load_file(self.weights)
        self.weights.unlink()
        weight_map: dict[str, str] = {}
        for number in (0, 1):
            name = f"model-{number + 1:05d}-of-00002.safetensors"
            part = dict(list(tensors.items())[number::2])
            save_file(part, self.path / name)
            weight_map |= dict.fromkeys(part, name)
        (self.path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")

    def tie(self) -> None:
        """Make the head the embedding table."""
        self.config(tie_word_embeddings=True)
        self.tensors(lambda tensors: tensors.pop(HEAD) is None)

    def redraw(self, **changes: Any) -> None:
        """Other sizes: set fields of config.json and write random float32 weights of the shapes they ask for, norms about 1."""
        self.config(**changes)
        opened = Checkpoint.open(self.path)
        family = family_of(opened)
        generator = torch.Generator().manual_seed(7)
        tensors = {
            family.checkpoint_key(name): torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
            + (len(shape) == 1)
            for name, shape in tensor_shapes(family.denoiser_config(opened))
        }
        save_file(tensors, self.weights)

    def add_tokenizer(self) -> None:
        """A word-level tokenizer.json with three special tokens, and a chat template."""
        vocab = {f"w{index}": index for index in range(256)}
        special = [{"id": index, "content": f"w{index}", "special": True} for index in (11, 100, 103)]
        tokenizer = {
            "added_tokens": [*special, {"id": 5, "content": "w5", "special": False}],
            "model": {"type": "WordLevel", "vocab": vocab},
        }
        (self.path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        (self.path / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")


@pytest.fixture
def checkpoint(golden_checkpoint: Path, tmp_path: Path) -> EditableCheckpoint:
    """A writable copy of the golden checkpoint, without its recorded logits."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden_checkpoint / name, folder / name)
    return EditableCheckpoint(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a bundle goes; its parent holds nothing else."""
    return tmp_path / "out" / "bundle"
