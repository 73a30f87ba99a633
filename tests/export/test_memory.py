"""Weights stream: what an export holds in memory does not grow with the checkpoint."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from dlm_export.checkpoint import Checkpoint
from dlm_export.families import family_of

if sys.platform == "win32":
    pytest.skip("processes say their peak memory in another way there", allow_module_level=True)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sdar"
SIZES = {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 8192, "num_hidden_layers": 40, "head_dim": 128}


def zeros_checkpoint(folder: Path, **changes: Any) -> int:
    """A checkpoint of nothing but zeros, as a file with a hole in it; returns the bytes of its weights."""
    folder.mkdir()
    config = json.loads((FIXTURE / "config.json").read_text(encoding="utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    opened = Checkpoint(folder, config, {})
    header: dict[str, Any] = {}
    end = 0
    for name, shape in family_of(opened).backbone(opened).tensor_shapes():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[family_of(opened).checkpoint_key(name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


def peak_bytes(*arguments: object) -> int:
    """Runs `dlm-export` in a process of its own and returns the most memory it had in use."""
    command = [sys.executable, "-c", "from dlm_export.cli import app; app()", *map(str, arguments)]
    _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_peak_memory_is_that_of_a_few_tensors(tmp_path: Path, precision: str) -> None:
    zeros_checkpoint(tmp_path / "small", num_hidden_layers=1)
    stored = zeros_checkpoint(tmp_path / "large", **SIZES)
    assert stored > 300e6
    options = ("--precision", precision, "--mask-token-id", "9", "--json")
    small = peak_bytes(tmp_path / "small", "--out", tmp_path / "small-bundle", *options)
    large = peak_bytes(tmp_path / "large", "--out", tmp_path / "large-bundle", *options)
    assert (tmp_path / "large-bundle" / "model.onnx.data").stat().st_size > 0.25 * stored
    assert large - small < 0.3 * stored
