"""No layer imports one above it: docs/architecture.md draws them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"dlm_kernels": "kernels", "dlm_runtime": "runtime", "dlm_export": "export"}
PACKAGES = ("dlm_kernels", "dlm_runtime", "dlm_export")  # lowest first
RUNTIME = (  # lowest first; those of one entry do not know of each other
    {"errors"},
    {"bundle", "dialogue", "embedded"},
    {"engines"},
    {"policies", "cache"},
    {"scheduler"},
    {"service", "client"},
    {"demo"},
    {"gpu_check"},
    {"cli"},
)
NUMPY_ALONE = ("unmask/draws.py", "unmask/reference.py", "unmask/shaping.py", "vectors")


def imports_of(file: Path, folder: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in it."""
    package = file.relative_to(folder).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) - node.level + 1]
            yield ".".join([*start, *([node.module] if node.module else [])])
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def files_of(package: str, under: str = "") -> list[Path]:
    place = ROOT / FOLDERS[package] / package / under
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_those_below(package: str) -> None:
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    folder = ROOT / FOLDERS[package]
    wrong = [(file.name, name) for file in files_of(package) for name in imports_of(file, folder) if name.split(".")[0] in above]
    assert not wrong


def test_every_part_of_the_runtime_has_a_layer() -> None:
    parts = {path.stem for path in (ROOT / "runtime" / "dlm_runtime").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts - {"__init__"} == set().union(*RUNTIME)


@pytest.mark.parametrize("rank", range(len(RUNTIME)))
def test_layers_of_the_runtime_know_only_those_below(rank: int) -> None:
    below = set().union(*RUNTIME[:rank])
    wrong = []
    for part in RUNTIME[rank]:
        for file in [*files_of("dlm_runtime", part), *files_of("dlm_runtime", f"{part}.py")]:
            known = {name.split(".")[1] for name in imports_of(file, ROOT / "runtime") if name.startswith("dlm_runtime.")}
            wrong += [(file.name, other) for other in known - below - {part}]
    assert not wrong


@pytest.mark.parametrize("under", NUMPY_ALONE)
def test_what_the_runtime_computes_with_needs_numpy_alone(under: str) -> None:
    imported = {name.split(".")[0] for file in files_of("dlm_kernels", under) for name in imports_of(file, ROOT / "kernels")}
    assert not imported & {"onnx", "onnxruntime", "torch", "triton"}
