"""Checkpoints to break: writable copies of the golden ones, and ways to change them; and bundles of all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.cli import app
from dlm_export.exporting import export_bundle
from dlm_export.families import family_of
from dlm_export.verify.sampler_runs import RecordedRun
from dlm_export.verify.samples_file import read_samples
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import Engine, OnnxEngine
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED = ("logits.npz", "meta.json", "samples.json")
HEAD = "diffusion_head.weight"
GOLDEN = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())
CHAT_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@dataclass(frozen=True)
class EditableCheckpoint:
    """A checkpoint folder that a test may change."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def index(self) -> Path:
        return self.path / "model.safetensors.index.json"

    def config(self, **changes: Any) -> None:
        """Set fields of config.json; None removes one."""
        file = self.path / "config.json"
        fields = json.loads(file.read_text(encoding="utf-8")) | changes
        file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")

    def tensors(self, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
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
        self.index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")

    def tie(self) -> None:
        """Make Nemotron's head the embedding table."""
        self.config(tie_word_embeddings=True)
        self.tensors(lambda tensors: tensors.pop(HEAD))

    def redraw(self, *, seed: int = 7, **changes: Any) -> None:
        """Other sizes: set fields of config.json and write random float32 weights of the shapes they ask for, norms about 1."""
        self.config(**changes)
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        opened = Checkpoint(self.path, config, {})  # without the weights there, which are to go
        family = family_of(opened)
        backbone = family.backbone(opened)
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[str, torch.Tensor] = {}
        for name, shape in backbone.tensor_shapes():
            source = family.source(name, shape, backbone)
            if source.key not in tensors:
                drawn = torch.randn(source.stored_shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
                tensors[source.key] = drawn + 1 if "norm" in name else drawn
        save_file(tensors, self.weights)

    def add_tokenizer(self) -> None:
        """A word-level tokenizer.json with three special tokens, and a chat template."""
        vocab = {f"w{index}": index for index in range(256)}
        switches = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = [{"id": index, "content": f"w{index}", "special": index != 5, **switches} for index in (5, 11, 100, 103)]
        tokenizer = {"added_tokens": added, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"}}
        (self.path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        (self.path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


@pytest.fixture
def golden_copy(tmp_path: Path) -> Callable[[str], EditableCheckpoint]:
    """Makes a writable copy of the golden checkpoint of a name, without what was recorded."""

    def copy(name: str) -> EditableCheckpoint:
        return EditableCheckpoint(shutil.copytree(FIXTURES / name, tmp_path / "checkpoint", ignore=shutil.ignore_patterns(*RECORDED)))

    return copy


@pytest.fixture
def checkpoint(golden_copy: Callable[[str], EditableCheckpoint]) -> EditableCheckpoint:
    """A writable copy of the golden Nemotron, without what was recorded."""
    return golden_copy("nemotron_labs_diffusion")


@dataclass(frozen=True)
class Member:
    """A checkpoint, without what was recorded of it, and its fp32 bundle. Shared by all tests: copy before changing."""

    name: str
    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Member]:
    """Makes and keeps the member of a fixture's name."""
    made: dict[str, Member] = {}

    def member(name: str) -> Member:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            path = shutil.copytree(FIXTURES / name, folder / name, ignore=shutil.ignore_patterns(*RECORDED))
            export_bundle(path, folder / "bundle")
            made[name] = Member(name, path, folder / "bundle")
        return made[name]

    return member


@pytest.fixture(params=GOLDEN)
def member(members: Callable[[str], Member], request: pytest.FixtureRequest) -> Member:
    """Every fixture, and so every architecture, in turn."""
    return members(request.param)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Asserts that `dlm-export CHECKPOINT` ends with one sentence that has all of the given words in it, and leaves nothing."""

    def check(checkpoint: Path, *words: str, options: tuple[str, ...] = ()) -> None:
        place = tmp_path / "place"
        arguments = [str(checkpoint), "--out", str(place / "bundle"), *options]
        result = CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(app, arguments)
        assert result.exit_code == 2, (result.exception, result.output)
        assert result.stdout == ""
        assert result.stderr.startswith("error ")
        assert result.stderr.count("\n") == 1
        for word in words:
            assert word in result.stderr
        assert not place.exists() or not any(place.iterdir())

    return check


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a bundle goes; its parent holds nothing else."""
    return tmp_path / "out" / "bundle"


@pytest.fixture(scope="module")
def engines(members: Callable[[str], Any]) -> Iterator[Callable[[str], Engine]]:
    """One engine per golden checkpoint, made when needed."""
    made: dict[str, Engine] = {}

    def engine(name: str) -> Engine:
        return made.setdefault(name, OnnxEngine(Bundle.load(Path(members(name).bundle)), threads=1))

    yield engine
    for one in made.values():
        one.close()


@pytest.fixture
def changed(members: Callable[[str], Any]) -> Callable[..., tuple[RecordedRun, Manifest]]:
    """A recorded run with other parameters, and the manifest to prepare it with."""

    def change(name: str, run: str, **params: Any) -> tuple[RecordedRun, Manifest]:
        manifest = Bundle.load(members(name).bundle).manifest
        found = next(one for one in read_samples(FIXTURES / name, manifest.vocab_size) if one.id == run)
        return replace(found, params=found.params | params), manifest

    return change
