"""The native engine on a pretended card, against ONNX Runtime on the same graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_export.exporting import export_bundle
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.engines.native import NativeEngine
from dlm_runtime.engines.neutral import neutral_inputs
from dlm_runtime.errors import EngineError
from dlm_runtime.scheduler import LineRequest

SHAPES = ((1, 1, 20, 1), (3, 8, 20, 4), (1, 40, 0, 1), (8, 16, 90, 16), (2, 1, 0, 1), (4, 9, 33, 5), (3, 8, 20, 4))
PAST_LAYERS = 4  # two layers, keys and values


def copies_to(card: Any, places: set[int]) -> int:
    kind = card.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    return sum(to in places and how == kind for to, _, _, how, _ in card.cuda.calls("cudaMemcpyAsync"))


def test_every_output_is_what_onnx_runtime_says(native, onnx_engine, make_batch, assert_same) -> None:
    for number, shape in enumerate(SHAPES):
        batch = make_batch(*shape, seed=number)
        assert_same(native.step(batch), onnx_engine.step(batch))


def test_outputs_that_nobody_wants_are_left_out_and_left_there(card, native, onnx_engine, make_batch, assert_same) -> None:
    wants = dict.fromkeys(("want_present", "want_confidence", "want_top", "want_logits"), False)
    batch = make_batch(**wants)
    assert_same(native.step(batch), onnx_engine.step(batch))
    kind = card.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
    assert sum(call[3] == kind for call in card.cuda.calls("cudaMemcpyAsync")) == 1


@pytest.mark.parametrize("wish", sorted(neutral_inputs(1)))
def test_inputs_that_a_batch_may_leave_out_arrive(native, onnx_engine, make_batch, assert_same, wish: str) -> None:
    rows = 3
    values = {
        "shift": np.ones(rows, np.int64),
        "sample_top_k": np.full(rows, 2),
        "measure": np.array([2, 1, 2]),
        "recent_ids": np.tile(np.arange(20), (rows, 1)),
        "guidance_rows": np.array([1, 2, 0]),
    }
    given = values.get(wish, np.full(rows, 0.7, np.float32))
    together = {
        "recent_ids": {"repetition_penalty": np.full(rows, 3, np.float32)},
        "guidance_rows": {"guidance": np.ones(rows, np.float32)},
    }
    batch = make_batch(**{wish: given}, **together.get(wish, {}))
    assert_same(native.step(batch), onnx_engine.step(batch))
    assert_same(native.step(make_batch()), onnx_engine.step(make_batch()))


def test_arrays_that_do_not_lie_contiguously_are_read_right(native, onnx_engine, make_batch, assert_same) -> None:
    wide = make_batch(rows=4, past=30)
    batch = make_batch(rows=2, past=11)
    batch.past = wide.past.part(slice(1, 3), slice(5, 16))
    batch.input_ids = wide.input_ids[::2]
    assert_same(native.step(batch), onnx_engine.step(batch))


def test_a_model_in_half_precision(card, bundle_with_plan, golden_checkpoint, make_batch, assert_same, tmp_path: Path) -> None:
    from dlm_export.export_options import ExportOptions

    export_bundle(golden_checkpoint, tmp_path / "plain", ExportOptions(precision="fp16", target="tensorrt-rtx"))
    bundle = bundle_with_plan(tmp_path / "plain", tmp_path / "planned")
    assert bundle.manifest.cache_type == "float16"
    batch = make_batch()
    batch.past = type(batch.past)(batch.past.layers, tuple(array.astype(np.float16) for array in batch.past.arrays))
    native, onnx = NativeEngine(bundle), OnnxEngine(bundle, threads=1)
    assert_same(native.step(batch), onnx.step(batch))
    native.close()


def test_a_model_with_an_encoder(card, bundle_with_plan, make_batch, assert_same, tmp_path: Path) -> None:
    export_bundle(Path(__file__).parents[2] / "fixtures" / "diffusion_gemma", tmp_path / "plain")
    bundle = bundle_with_plan(tmp_path / "plain", tmp_path / "planned")
    native, onnx = NativeEngine(bundle), OnnxEngine(bundle, threads=1)
    manifest = bundle.manifest
    from dlm_runtime.engines import KeyValues

    batch = make_batch(past=0, length=4, allow_table=np.zeros((2, manifest.vocab_size), np.float32))
    batch.past = KeyValues.zeros(manifest, 3, 0)
    first = onnx.step(batch).logits
    assert first is not None
    conditioned = replace(
        batch, self_conditioning=first.copy(), self_conditioned=np.ones(3, np.bool_), encode=np.array([True, False, False])
    )
    for one in (batch, conditioned, batch):
        assert_same(native.step(one), onnx.step(one))
    native.close()


def test_the_past_is_sent_when_its_version_changes(card, native, onnx_engine, make_batch, assert_same) -> None:
    batch = make_batch(past_version=7)
    native.step(batch)
    places = {address for slot in native._sender._past._slots.values() for address in slot.layout.addresses(slot.block.address).values()}
    assert len(places) == copies_to(card, places) == PAST_LAYERS
    native.step(replace(batch, step=batch.step + 1))
    assert copies_to(card, places) == PAST_LAYERS
    batch.past.arrays[0][...] *= 2
    changed = replace(batch, past_version=8)
    assert_same(native.step(changed), onnx_engine.step(changed))
    assert copies_to(card, places) == 2 * PAST_LAYERS
    for _ in range(2):  # of unknown age: sent every time, and not to where one of known age is kept
        before = len(card.cuda.calls("cudaMemcpyAsync"))
        unknown = replace(batch, past_version=None)
        assert_same(native.step(unknown), onnx_engine.step(unknown))
        assert len(card.cuda.calls("cudaMemcpyAsync")) - before > PAST_LAYERS
    native.step(changed)
    assert copies_to(card, places) == 2 * PAST_LAYERS


def test_pasts_that_take_turns_are_all_kept(card, native, onnx_engine, make_batch, assert_same) -> None:
    batches = [make_batch(past=20 + number, seed=number, past_version=number) for number in range(6)]
    for _ in range(2):
        for batch in batches[:4]:
            assert_same(native.step(batch), onnx_engine.step(batch))
    kept = {address for slot in native._sender._past._slots.values() for address in slot.layout.addresses(slot.block.address).values()}
    assert copies_to(card, kept) == 4 * PAST_LAYERS
    for batch in [*batches, *batches]:  # more than there are places for
        assert_same(native.step(batch), onnx_engine.step(batch))


def test_a_table_is_sent_again_unless_it_is_the_same_and_cannot_change(card, native, onnx_engine, make_batch, assert_same) -> None:
    batch = make_batch()
    native.step(batch)
    place = {native._sender._table.address}
    native.step(batch)
    assert copies_to(card, place) == 2
    batch.allow_table.flags.writeable = False
    native.step(batch)
    native.step(batch)
    assert copies_to(card, place) == 3
    other = batch.allow_table[::-1].copy()
    other.flags.writeable = False
    swapped = replace(batch, allow_table=other)
    assert_same(native.step(swapped), onnx_engine.step(swapped))
    assert copies_to(card, place) == 4


def test_memory_grows_in_buckets_and_is_given_back(card, native, make_batch) -> None:
    native.step(make_batch(rows=8, length=16, past=64, window=16))
    allocated = len(card.cuda.calls("cudaMalloc"))
    for past in (64, 60, 50, 64):
        native.step(make_batch(rows=8, length=16, past=past, window=16))
    assert len(card.cuda.calls("cudaMalloc")) - allocated <= 3, "only other pasts' places may be new"
    sizes = {size for (size,) in card.cuda.calls("cudaMalloc")}
    assert all(size & (size - 1) == 0 for size in sizes)
    native.close()
    native.close()
    assert not card.cuda.device
    assert not card.cuda.host
    assert not card.cuda.graphs
    with pytest.raises(EngineError, match="closed"):
        native.step(make_batch())


def test_more_rows_than_the_plan_takes_are_run_in_portions(card, native, onnx_engine, make_batch, assert_same) -> None:
    batch = make_batch(rows=19)
    assert_same(native.step(batch), onnx_engine.step(batch))
    assert sum(context.runs for context in card.trt.contexts) == 3
    plain = replace(make_batch(rows=9), want_present=False, want_logits=False)
    assert_same(native.step(plain), onnx_engine.step(plain))


def test_rows_that_guide_each_other_stay_in_one_portion(native, onnx_engine, make_batch, assert_same) -> None:
    half = 7
    guidance = np.concatenate([np.full(half, 1.5, np.float32), np.zeros(half, np.float32)])
    batch = make_batch(rows=2 * half, guidance=guidance, guidance_rows=np.tile(np.arange(half, 2 * half), 2))
    assert_same(native.step(batch), onnx_engine.step(batch))
    everybody = replace(batch, guidance_rows=np.zeros(2 * half, np.int64))
    with pytest.raises(EngineError, match="14 rows are guided by one, the plan takes 8"):
        native.step(everybody)


def test_a_step_that_fits_no_profile_names_dimension_and_option(native, onnx_engine, make_batch, assert_same) -> None:
    with pytest.raises(EngineError, match=r"L=60.*prefill takes L from 1 to 48.*--max-prefill N"):
        native.step(make_batch(rows=1, length=60))
    batch = make_batch()
    assert_same(native.step(batch), onnx_engine.step(batch))


def test_a_failing_card_fails_the_step_and_nothing_after_it(card, native, onnx_engine, make_batch, assert_same) -> None:
    batch = make_batch(past_version=1)
    card.cuda.failing["cudaMemcpyAsync"] = 1
    with pytest.raises(EngineError, match=r"cudaMemcpyAsync failed \(invalid argument, CUDA error 1\)"):
        native.step(batch)
    card.cuda.failing.clear()
    card.trt.refusing.add("execute_async_v3")
    with pytest.raises(EngineError, match="refused to run the step"):
        native.step(batch)
    card.trt.refusing.clear()
    assert_same(native.step(batch), onnx_engine.step(batch))


def test_inputs_that_the_plan_reads_on_the_host_are_left_there(card, planned, onnx_engine, make_batch, assert_same, caplog) -> None:
    card.trt.on_host = {"past_lengths"}
    engine = NativeEngine(planned)
    for seed in range(6):
        batch = make_batch(seed=seed)
        assert_same(engine.step(batch), onnx_engine.step(batch))
    assert engine.graphs == "off: it reads past_lengths on the host"
    assert "reads past_lengths on the host" in caplog.text
    engine.close()


def test_lines_are_those_of_onnx_runtime(card, planned: Bundle, onnx_engine, run_scheduler, random_requests, text_of) -> None:
    """Everything at once: the scheduler's arenas, prefix cache, all modes, graphs, portions."""
    requests: list[LineRequest] = [
        replace(request, prompt_ids=request.prompt_ids[:30], max_new_tokens=min(12, request.max_new_tokens))
        for request in random_requests(planned.manifest, 24, seed=5, temperatures=(0.0, 0.8))
    ]
    engine = NativeEngine(planned)
    written: list[Callable[..., Any]] = []
    for one in (engine, onnx_engine):
        harness = run_scheduler(one, max_rows=16)
        written.append([text_of(result) for result in harness.write(*requests)])
    assert written[0] == written[1]
    assert engine.graphs.endswith("captured")
    engine.close()
