"""The committed code is what the .proto files say, and they follow the rules."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTO_ROOT = ROOT / "proto"
FOLDER = PROTO_ROOT / "dlm_npc" / "v1"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_proto", ROOT / "scripts" / "generate_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed_version() -> str:
    text = (FOLDER / "dialogue_pb2_grpc.py").read_text(encoding="utf-8")
    found = re.search(r"GRPC_GENERATED_VERSION = '([0-9.]+)'", text)
    assert found is not None
    return found[1]


def descriptor_bytes(path: Path) -> bytes:
    """The serialized descriptor inside a `*_pb2.py`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "AddSerializedFile":
            return ast.literal_eval(node.args[0])
    raise AssertionError(f"{path} holds no descriptor")


def test_generating_again_changes_nothing(generator: ModuleType, tmp_path: Path) -> None:
    generated = generator.generate(tmp_path)
    committed = sorted(FOLDER.glob("*_pb2*.py*"))
    assert [path.name for path in generated] == [path.name for path in committed]
    same_generator = importlib.metadata.version("grpcio-tools") == committed_version()
    for new, old in zip(generated, committed, strict=True):
        if same_generator:
            assert new.read_bytes() == old.read_bytes(), old
        elif new.name.endswith("_pb2.py"):  # another generator words its code in another way, but the messages must be the same
            assert descriptor_bytes(new) == descriptor_bytes(old), old


def test_the_rules_of_the_wire_format_hold() -> None:
    done = subprocess.run([str(Path(sys.executable).with_name("buf")), "lint"], cwd=PROTO_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.proto")), ids=lambda path: path.name)
def test_no_feature_that_game_engines_lack_is_used(path: Path) -> None:
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\boptional\b|google\.protobuf\.Any|\bmap<|\bgroup\b", code)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.proto")), ids=lambda path: path.name)
def test_every_comment_is_made_of_sentences(path: Path) -> None:
    """The comment block in front of a message, field, method or value ends like a sentence (or with an example or a table)."""
    blocks = re.findall(r"((?:^[ ]*//.*\n)+)^[ ]*\w", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert blocks
    for block in blocks:
        last = block.rstrip().splitlines()[-1].strip(" /")
        assert last.endswith((".", "}", "|")), block
