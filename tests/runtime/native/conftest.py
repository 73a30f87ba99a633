"""A pretended card, a bundle with a plan for it, and random batches."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dlm_runtime.bundle import Bundle, Plan, PlanProfile, write_manifest
from dlm_runtime.engines import THRESHOLD_OFF, KeyValues, OnnxEngine, StepBatch

MASK, VOCAB = 100, 256
PROFILES = (
    PlanProfile(
        name="prefill",
        dimensions={"B": (1, 1, 4), "L": (1, 32, 48), "P": (0, 32, 63), "W": (1, 1, 16), "G": (1, 2, 8), "R": (0, 0, 32), "S": (1, 1, 1)},
    ),
    PlanProfile(
        name="denoise",
        dimensions={"B": (1, 4, 8), "L": (1, 8, 16), "P": (0, 32, 96), "W": (1, 8, 16), "G": (1, 2, 8), "R": (0, 0, 32), "S": (1, 8, 16)},
    ),
    PlanProfile(
        name="autoregression",
        dimensions={"B": (1, 4, 8), "L": (1, 1, 1), "P": (0, 32, 96), "W": (1, 1, 1), "G": (1, 2, 8), "R": (0, 0, 32), "S": (1, 1, 1)},
    ),
)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_cuda, fake_tensorrt = _load("fake_cuda"), _load("fake_tensorrt")


@dataclass
class Card:
    """The stand-ins that are imported in place of the real packages."""

    cuda: Any
    trt: Any


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    cuda = fake_cuda.FakeCuda()
    trt = fake_tensorrt.FakeTensorRT(cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)
    return Card(cuda, trt)


@pytest.fixture(scope="session")
def bundle_with_plan() -> Callable[..., Bundle]:
    """Copies a bundle to a folder and adds a plan for `built`; further arguments change the plan's entry in the manifest."""

    def make(source: Path, folder: Path, built: tuple[PlanProfile, ...] = PROFILES, **changed: Any) -> Bundle:
        shutil.copytree(source, folder)
        manifest = Bundle.load(folder).manifest
        plan = Plan(graph="model.onnx", file="engines/model.plan", builder="tensorrt_rtx 1.7.1", profiles=built)
        fake_tensorrt.write_plan(folder / plan.file, folder / "model.onnx", plan.profiles)
        plan = plan.model_copy(update=changed)
        target = manifest.targets[0].model_copy(update={"plans": (plan,)})
        write_manifest(folder, manifest.model_copy(update={"targets": (target,)}))
        return Bundle.load(folder)

    return make


@pytest.fixture(scope="session")
def planned(bundle_with_plan, golden_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The golden bundle with a plan. Shared: do not change it."""
    return bundle_with_plan(golden_bundle_path, tmp_path_factory.mktemp("planned") / "bundle")


@pytest.fixture
def onnx_engine(golden_engine: OnnxEngine) -> OnnxEngine:
    return golden_engine


@pytest.fixture
def native(card: Card, planned: Bundle) -> Iterator[Any]:
    from dlm_runtime.engines.native import NativeEngine

    engine = NativeEngine(planned)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., StepBatch]:
    """A batch of random everything: rows of different lengths, every wish in some rows, all outputs wanted."""

    def make(rows: int = 3, length: int = 8, past: int = 20, window: int = 4, seed: int = 0, **changed: Any) -> StepBatch:
        rng = np.random.default_rng(seed)
        ids = rng.integers(MASK + 1, VOCAB, (rows, length))
        ids[rng.random(ids.shape) < 0.5] = MASK
        table = np.where(rng.random((2, VOCAB)) < 0.1, np.float32(-np.inf), np.float32(0))
        table[:, MASK] = -np.inf
        lengths = rng.integers(0, past + 1, rows)
        fields: dict[str, Any] = {
            "input_ids": ids,
            "position_ids": lengths[:, None] + np.arange(length),
            "past_lengths": lengths,
            "query_lengths": rng.integers(window, length + 1, rows),
            "block_ids": np.where(rng.random(rows) < 0.5, np.arange(length)[:, None], 0).T.copy(),
            "past": KeyValues.of(rng.normal(size=(2, 2, rows, 2, past, 16)).astype(np.float32)),
            "window_start": np.zeros(rows, np.int64),
            "allow_rows": rng.integers(0, 2, (rows, window)),
            "allow_table": table,
            "quota": rng.integers(0, 3, rows),
            "threshold": rng.choice([0.05, THRESHOLD_OFF], rows).astype(np.float32),
            "temperature": rng.choice([0.0, 0.9], rows).astype(np.float32),
            "seed": rng.integers(0, 2**40, rows),
            "step": rng.integers(0, 9, rows),
            **dict.fromkeys(("want_present", "want_confidence", "want_top", "want_logits"), True),
        }
        return StepBatch(**fields | changed)

    return make


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Compares two results, all outputs. The pretended card computes with the same library, so nothing may differ."""

    def check(found: Any, expected: Any) -> None:
        for name in ("canvas", "sampled_ids", "committed", "confidence", "entropy", "top_ids", "top_logprobs", "logits"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert (ours is None) == (theirs is None), name
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=name)
        assert (found.present is None) == (expected.present is None)
        if expected.present is not None:
            for ours, theirs in zip(found.present.arrays, expected.present.arrays, strict=True):
                np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), atol=2e-5)

    return check
