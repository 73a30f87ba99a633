"""What the wheel holds, and that the runtime in it needs nothing of the exporter."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]

IMPORT_WITHOUT_EXPORTER = """
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxscript", "safetensors", "dlm_export"}:
            raise ImportError(f"the runtime imports {name}")
sys.meta_path.insert(0, Refuse())
import dlm_runtime
assert dlm_runtime.__file__.startswith(sys.argv[1]), dlm_runtime.__file__
for module in pkgutil.walk_packages(dlm_runtime.__path__, "dlm_runtime."):
    importlib.import_module(module.name)
from dlm_runtime.bundle import Bundle
from dlm_runtime.embedded import tavern_bundle, tavern_characters, tavern_players
for path in (tavern_bundle(), tavern_characters(), tavern_players()):
    assert str(path).startswith(sys.argv[1]), path
Bundle.load(tavern_bundle())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))))


def test_wheel_holds_the_tavern_and_no_training_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("bundle/manifest.json", "bundle/model.onnx", "bundle/tokenizer.json", "characters/torvek.yaml", "players.yaml"):
        assert f"dlm_runtime/_tavern/{name}" in names
    assert not [name for name in names if name.endswith(".safetensors") or "tavern_model" in name]
    assert {"dlm_npc/v1/dialogue_pb2.py", "dlm_export/cli.py"} <= names


def test_wheel_holds_every_specification_and_all_cuda_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    kernels = ROOT / "kernels"
    specifications = {path.relative_to(kernels).as_posix() for path in kernels.glob("dlm_kernels/**/*.onnxtxt")}
    sources = {f"dlm_kernels/{path.relative_to(kernels).as_posix()}" for path in kernels.glob("cuda/**/*") if path.is_file()}
    assert len(specifications) == 4
    assert specifications | sources <= names


def test_the_runtime_in_the_wheel_imports_without_the_exporter(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{IMPORT_WITHOUT_EXPORTER}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_base_requirements_name_no_torch(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert base
    assert not [line for line in base if "torch" in line or "onnxscript" in line]
