"""Bundles that can be exported and verified but not spoken with yet are refused before anything is run."""

from __future__ import annotations

from typing import Any

import pytest
from dlm_runtime.engines import FakeEngine, fake_manifest
from dlm_runtime.engines.signature import check_cache
from dlm_runtime.errors import BundleError, EngineError
from dlm_runtime.policies import check_servable, policy_for
from dlm_runtime.scheduler import LineRequest, Scheduler, write_line

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"context_mask": "block_causal"}, "has context_mask='block_causal', .* serves bundles with context_mask='causal' only"),
    ({"context_mask": "bidirectional"}, "has context_mask='bidirectional', "),
    ({"mask_token_id": None}, "has mask_token_id=null, .* serves bundles with a mask token only"),
    ({"logit_shift": 1}, "has logit_shift=1, .* serves bundles with logit_shift=0 only"),
    ({"cache_type": "float16"}, "has cache_type='float16', .* serves bundles with cache_type='float32' only"),
    ({"layer_caches": ((1, 2), (4, 8))}, "has layer_caches of 1 x 2 and 4 x 8, .* serves bundles without layer_caches"),
]


def test_a_model_that_can_be_spoken_with() -> None:
    assert check_servable(fake_manifest()) == 1


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_is_refused_and_what_is_said(change: dict[str, Any], said: str) -> None:
    manifest = fake_manifest().model_copy(update=change)
    with pytest.raises(BundleError, match=f"^folder/manifest.json: {said}"):
        check_servable(manifest, "folder/manifest.json")
    with pytest.raises(BundleError, match=f"^manifest.json: {said}"):
        policy_for(manifest, "ar")
    engine = FakeEngine(manifest)
    with pytest.raises(BundleError, match=said):
        Scheduler(engine)
    with pytest.raises(BundleError, match=said):
        write_line(engine, LineRequest((5, 6)))
    assert engine.steps == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cache_type": "bfloat16"}, "are bfloat16"),
        ({"layers": 2, "layer_caches": ((1, 2), (4, 8))}, "differ in shape from layer to layer"),
    ],
)
def test_a_cache_that_one_array_cannot_hold(change: dict[str, Any], said: str, tmp_path) -> None:
    check_cache(fake_manifest(), tmp_path)
    with pytest.raises(EngineError, match=said):
        check_cache(fake_manifest().model_copy(update=change), tmp_path)
