"""What several test folders share: the tiny golden checkpoint and the bundle exported from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GOLDEN_CHECKPOINT = Path(__file__).parent / "fixtures" / "nemotron_labs_diffusion"


@pytest.fixture(scope="session")
def golden_checkpoint() -> Path:
    """A two-layer checkpoint with random weights in the published form, with logits and decoded tokens of the published code."""
    return GOLDEN_CHECKPOINT


@pytest.fixture(scope="session")
def golden_samples() -> list[dict[str, Any]]:
    """Runs of the published sampling loops over that checkpoint."""
    return json.loads((GOLDEN_CHECKPOINT / "samples.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden_bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 bundle of the golden checkpoint. Shared: copy it before changing it."""
    from dlm_export.exporting import export_bundle

    folder = tmp_path_factory.mktemp("golden") / "bundle"
    export_bundle(GOLDEN_CHECKPOINT, folder)
    return folder


@pytest.fixture(scope="session")
def golden_engine(golden_bundle_path: Path) -> Iterator[Any]:
    """One engine over that bundle for all tests; do not close it."""
    from dlm_runtime.bundle import Bundle
    from dlm_runtime.engines import OnnxEngine

    engine = OnnxEngine(Bundle.load(golden_bundle_path), threads=1)
    yield engine
    engine.close()
