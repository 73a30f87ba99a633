"""Kernels compiled ahead of time, without a GPU: the files, their manifest, and that logits are read once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install 'dlm-npc[triton]')")

TARGETS = {80: "sm_80", 86: "sm_86", 89: "sm_89", 90: "sm_90a", 120: "sm_120a"}
BYTES = {"fp16": 2, "fp32": 4}
TABLE_BYTES = 4


def run_compiler(out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "dlm_kernels.triton_unmask.compile", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment, timeout=300)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One type of logits for all capabilities and another for one: all of both would take a minute."""
    out = tmp_path_factory.mktemp("kernels")
    for options in (("--logits", "fp16"), ("--logits", "fp32", "--compute-capability", "80")):
        folder = out / options[1]
        done = run_compiler(folder, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(folder / "manifest.json")
    return out


def kernels(folder: Path) -> list[dict]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["op"], manifest["op_version"], manifest["top_k"]) == ("dlm::ParallelUnmask", 2, 8)
    return manifest["kernels"]


def text(folder: Path, kernel: dict) -> str:
    return (folder / kernel["ptx"]["file"]).read_text(encoding="utf-8")


def test_every_capability_has_every_kernel(compiled: Path) -> None:
    found = [(kernel["capability"], kernel["name"]) for kernel in kernels(compiled / "fp16")]
    assert found == [(capability, name) for capability in TARGETS for name in ("measure_fp16_x16", "measure_fp16_any", "commit")]


def test_files_are_those_of_the_manifest_and_for_its_target(compiled: Path) -> None:
    folder = compiled / "fp16"
    for kernel in kernels(folder):
        for kind in ("ptx", "cubin"):
            data = (folder / kernel[kind]["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == kernel[kind]["sha256"]
        assert (folder / kernel["cubin"]["file"]).read_bytes().startswith(b"\x7fELF")
        ptx = text(folder, kernel)
        assert re.findall(r"^\.target (\S+)$", ptx, re.MULTILINE) == [TARGETS[kernel["capability"]]]
        assert re.findall(r"^\.version (\S+)$", ptx, re.MULTILINE) == ["8.0"] or kernel["capability"] >= 90
        assert f".visible .entry {kernel['entry']}(" in ptx
        assert f".reqntid {kernel['threads'][0]}" in ptx
        parameters = ptx.split(".visible .entry", 1)[1].split(")", 1)[0].count(".param")
        assert parameters == len(kernel["arguments"])


@pytest.mark.parametrize("kind", ["fp16", "fp32"])
def test_a_thread_reads_each_of_its_logits_once_and_spills_nothing(kind: str, compiled: Path) -> None:
    """The guarded loads of the walk over the vocabulary are, per thread, as many bytes as its share of one block of logits and table."""
    measures = [kernel for kernel in kernels(compiled / kind) if kernel["name"] != "commit"]
    assert len(measures) == (10 if kind == "fp16" else 2)
    for kernel in measures:
        ptx = text(compiled / kind, kernel)
        loads = re.findall(r"@%p\d+ ld\.global(?:\.v(\d))?\.b(\d+) ", ptx)
        read = sum(int(width or 1) * int(bits) // 8 for width, bits in loads)
        share = kernel["constants"]["BLOCK"] // kernel["threads"][0]
        assert read == share * (BYTES[kernel["serves"]["logits_type"]] + TABLE_BYTES), kernel["name"]
        assert ".local" not in ptx
        if kernel["serves"]["vocab_multiple"] == 16:
            assert {(width, bits) for width, bits in loads} == {("4", "32")}  # 16 bytes at a time


def test_files_do_not_name_the_folder_they_were_made_in(compiled: Path) -> None:
    for kernel in kernels(compiled / "fp32"):
        assert "dlm_kernels" not in text(compiled / "fp32", kernel)
        assert b"dlm_kernels" not in (compiled / "fp32" / kernel["cubin"]["file"]).read_bytes()


def test_arguments_are_in_the_order_of_the_launch(compiled: Path) -> None:
    measure, _, commit = kernels(compiled / "fp16")[:3]
    assert [argument["name"] for argument in measure["arguments"]][:4] == ["logits", "positions", "allow_rows", "allow_table"]
    assert measure["arguments"][0] == {"name": "logits", "type": "*fp16", "multiple_of": 16}
    assert [argument["type"] for argument in commit["arguments"]][-4:] == ["i32", "i32", "null pointer", "null pointer"]
    assert commit["serves"] == {"largest_window": 128}


def test_the_interpreter_and_an_unknown_capability_are_refused(tmp_path: Path) -> None:
    interpreted = run_compiler(tmp_path, TRITON_INTERPRET="1")
    assert interpreted.returncode == 1
    assert "TRITON_INTERPRET is set, so there is nothing to compile" in interpreted.stderr
    unknown = run_compiler(tmp_path, "--compute-capability", "80,75")
    assert unknown.returncode == 2
    assert "'75' is none of 80, 86, 89, 90, 120" in unknown.stderr
