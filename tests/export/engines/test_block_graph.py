"""The block graph: token for token what the step graph gives in as many calls, in ONNX Runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.block_file import write_block
from dlm_export.errors import OptionError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.graph.block import build_block
from dlm_runtime.bundle import Bundle, Manifest

TAVERN = Path(__file__).parents[3] / "samples" / "tavern" / "checkpoint"
FAMILIES = ("a2d_qwen3", "bert", "dream", "fast_dllm_v2", "llada", "llada2", "llada_moe", "mdlm", "nemotron_labs_diffusion", "sdar")
RULES: dict[str, dict[str, Any]] = {
    "one at a time": {},
    "threshold": {"threshold": [0.01, 0.02, 2.0]},
    "quotas": {"quota": [[1, 2, 0, 3], [4, 1, 1, 1], [0, 0, 2, 1]], "temperature": [0.7, 0.0, 1.3]},
    "warm": {"temperature": [0.5, 1.0, 2.0], "seed": [3, -5, 2**40], "step": [1, 7, 0]},
    "limit": {"limit": [2, 0, 5]},
    "no quota": {"quota": 0, "threshold": [0.005, 0.5, 0.01], "limit": 6},
    "the last one too": {"takes_last": [True, False, True], "quota": 2, "threshold": 0.02},
    "factor": {"factor": [0.0, 0.9, 1.0], "measure": [0, 1, 2], "rank_temperature": [0.0, 0.3, 0.0]},
    "shaped": {"temperature": 1.0, "scale": [1.0, 0.5, 2.0], "sample_top_k": [0, 5, 0], "sample_top_p": [1.0, 1.0, 0.6]},
    "shifted": {"shift": [0, 1, 1]},
    "padded": {"query_lengths": [10, 7, 12], "past_lengths": [0, 5, 2]},
}


Feeds = dict[str, Any]
NEUTRAL = {"sample_top_p": 1.0, "scale": 1.0, "repetition_penalty": 1.0, "threshold": 2.0}
ELEMENT = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(bool)": np.bool_, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class Case:
    """Sizes of a random batch. `context` tokens are behind it, `window` of the `length` tokens are to be filled in."""

    rows: int
    length: int
    window: int
    context: int = 0
    start: int = 0
    seed: int = 0


class BlockRuns:
    """Both graphs of a bundle."""

    def __init__(self, folder: Path) -> None:
        self.manifest = Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
        self.step, self.block = (session(folder / name) for name in ("model.onnx", "block.onnx"))

    def feeds(self, case: Case, **rule: Any) -> Feeds:
        """A random batch for the block graph; `rule` are values for any of its inputs, one for all rows or one for each."""
        random, m = np.random.default_rng(case.seed), self.manifest
        sizes = {"B": case.rows, "L": case.length, "W": case.window, "P": case.context, "G": 1, "R": 0, "S": 1}
        feeds: Feeds = {}
        for value in self.block.get_inputs():
            shape = [sizes[size] if isinstance(size, str) else size for size in value.shape]
            array = np.full(shape, NEUTRAL.get(value.name, 0), ELEMENT[value.type])
            if value.name.startswith("past."):
                array[...] = random.standard_normal(shape)
            feeds[value.name] = array
        assert m.mask_token_id is not None
        ids = random.integers(0, m.vocab_size, (case.rows, case.length))
        inside = slice(case.start, case.start + case.window)
        masked = random.random((case.rows, case.length)) < np.linspace(0.3, 1, case.rows)[:, None]
        ids[:, inside] = np.where(masked, m.mask_token_id, ids)[:, inside]
        rows = np.arange(case.rows)
        feeds |= {
            "input_ids": ids,
            "position_ids": np.tile(np.arange(case.context, case.context + case.length), (case.rows, 1)),
            "past_lengths": np.full(case.rows, case.context),
            "query_lengths": np.full(case.rows, case.length),
            "window_start": np.full(case.rows, case.start),
            "quota": np.ones((case.rows, 1), np.int64),
            "limit": np.full(case.rows, 4 * case.length),
            "seed": rows + 11,
        }
        for name in ("canvas_rows", "guidance_rows"):
            if name in feeds:
                feeds[name] = rows
        feeds["allow_table"][:, m.mask_token_id] = -np.inf
        for name, value in rule.items():
            feeds[name] = np.ascontiguousarray(np.broadcast_to(np.asarray(value, feeds[name].dtype), fitting(feeds[name], value)))
        return feeds

    def looped(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray]:
        """Canvas and passes of the block graph."""
        known = {value.name for value in self.block.get_inputs()}
        canvas, passes = self.block.run(["canvas", "passes"], {name: value for name, value in feeds.items() if name in known})
        return np.asarray(canvas), np.asarray(passes)

    def stepped(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray]:
        """The same by calls of the step graph, as a host would make them."""
        known = {value.name for value in self.step.get_inputs()}
        ids, limit = feeds["input_ids"].copy(), feeds["limit"]
        rows, window = feeds["allow_rows"].shape
        places = feeds["window_start"][:, None] + np.arange(window)
        live = places < feeds["query_lengths"][:, None]
        clipped = np.minimum(places, ids.shape[1] - 1)
        canvas = np.take_along_axis(ids, clipped, 1)
        passes = np.zeros(rows, np.int64)
        while (active := (((canvas == self.manifest.mask_token_id) & live).any(1)) & (passes < limit)).any():
            number = int(passes.max())
            own = {
                "input_ids": ids,
                "quota": np.where(active, feeds["quota"][:, min(number, feeds["quota"].shape[1] - 1)], 0),
                "threshold": np.where(active, feeds["threshold"], 2).astype(np.float32),
                "step": feeds["step"] + number,
            }
            if "factor" in feeds:
                own["factor"] = np.where(active, feeds["factor"], 0).astype(np.float32)
            given = {name: value for name, value in (feeds | own).items() if name in known}
            canvas, sampled = (np.asarray(value) for value in self.step.run(["canvas", "sampled_ids"], given))
            left = (canvas == self.manifest.mask_token_id) & live
            taken = left & (left.sum(1) == 1)[:, None] & (feeds["takes_last"] & active)[:, None]
            canvas = np.where(taken, sampled, canvas)
            if "canvas_rows" in feeds:
                canvas = canvas[feeds["canvas_rows"]]
            for row in range(rows):
                ids[row, places[row][live[row]]] = canvas[row][live[row]]
            passes += active
        return canvas, passes


def fitting(array: np.ndarray, value: Any) -> tuple[int, ...]:
    """Shape of an input given as one number, one for each row, or whole."""
    return np.shape(value) if np.ndim(value) >= array.ndim else array.shape


def session(file: Path) -> onnxruntime.InferenceSession:
    """One thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def shared_weights(folder: Path) -> tuple[set[str], set[str]]:
    """Names of weights in the weight file, of the step graph and of the block graph."""
    models = (onnx.load(folder / name, load_external_data=False) for name in ("model.onnx", "block.onnx"))
    step, block = ({tensor.name for tensor in model.graph.initializer if tensor.external_data} for model in models)
    return step, block


@pytest.fixture(scope="session")
def runs_of(members: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BlockRuns]:
    """Makes and keeps both graphs of a fixture."""
    made: dict[str, BlockRuns] = {}

    def runs(name: str) -> BlockRuns:
        if name not in made:
            folder = shutil.copytree(members(name).bundle, tmp_path_factory.mktemp("block") / name)
            write_block(folder / "model.onnx")
            made[name] = BlockRuns(folder)
        return made[name]

    return runs


@pytest.fixture(scope="module")
def tavern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tavern") / "bundle"
    export_bundle(TAVERN, folder, ExportOptions(loop=True))
    return folder


def equal(runs: BlockRuns, case: Case, **rule: Any) -> tuple[np.ndarray, np.ndarray]:
    feeds = runs.feeds(case, **rule)
    canvas, passes = runs.looped(feeds)
    stepped, counted = runs.stepped(feeds)
    np.testing.assert_array_equal(canvas, stepped)
    np.testing.assert_array_equal(passes, counted)
    return canvas, passes


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_in_one_call(runs_of: Callable[[str], BlockRuns], name: str) -> None:
    runs = runs_of(name)
    canvas, passes = equal(
        runs, Case(rows=3, length=12, window=8, context=6, start=3), threshold=[2.0, 0.012, 0.009], temperature=[0, 0, 1]
    )
    assert not (canvas == runs.manifest.mask_token_id).any()
    assert len(set(passes.tolist())) > 1  # rows end at different passes


@pytest.mark.parametrize("rule", RULES)
def test_rules(runs_of: Callable[[str], BlockRuns], rule: str) -> None:
    runs = runs_of("nemotron_labs_diffusion")
    for seed in range(3):
        equal(runs, Case(rows=3, length=12, window=10, context=5, start=2, seed=seed), **RULES[rule])


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_precisions(golden_checkpoint: Path, out: Path, precision: Any) -> None:
    export_bundle(golden_checkpoint, out, ExportOptions(precision=precision, loop=True))
    equal(BlockRuns(out), Case(rows=3, length=12, window=8, context=6, start=3), threshold=[2.0, 0.012, 0.009], temperature=[0, 0, 1])


def test_limits_and_clean_rows(runs_of: Callable[[str], BlockRuns]) -> None:
    runs = runs_of("nemotron_labs_diffusion")
    feeds = runs.feeds(Case(rows=3, length=8, window=8), limit=[3, 0, 100])
    feeds["input_ids"][0] = 100  # all masks, one a pass
    feeds["input_ids"][2] = np.where(feeds["input_ids"][2] == 100, 7, feeds["input_ids"][2])
    canvas, passes = runs.looped(feeds)
    assert passes.tolist() == [3, 0, 0]
    assert (canvas[0] == 100).sum() == 5
    np.testing.assert_array_equal(canvas[1:], feeds["input_ids"][1:])


def test_a_guided_row_and_its_twin(runs_of: Callable[[str], BlockRuns]) -> None:
    """Row 1 is row 0 with its prompt masked; it takes over row 0's canvas after each pass."""
    runs = runs_of("llada")
    feeds = runs.feeds(Case(rows=2, length=12, window=8, start=4), guidance=[1.5, 0.0], guidance_rows=[1, 1], canvas_rows=[0, 0])
    feeds["input_ids"][1] = feeds["input_ids"][0]
    feeds["input_ids"][1, :4] = runs.manifest.mask_token_id
    canvas, _ = runs.looped(feeds)
    np.testing.assert_array_equal(canvas, runs.stepped(feeds)[0])
    np.testing.assert_array_equal(canvas[0], canvas[1])
    unguided = runs.looped(feeds | {"guidance": np.zeros(2, np.float32)})[0]
    assert (unguided[0] != canvas[0]).any()


def test_the_tavern(tavern: Path) -> None:
    runs = BlockRuns(tavern)
    for seed in range(3):
        equal(runs, Case(rows=4, length=32, window=32, context=40, seed=seed), threshold=[0.9, 0.5, 0.2, 2.0], temperature=[0, 0, 0.7, 0])


def test_form(tavern: Path) -> None:
    onnx.checker.check_model(tavern / "block.onnx", full_check=True)
    block = onnx.load(tavern / "block.onnx", load_external_data=False)
    assert block.graph.node[-1].op_type == "Loop"
    assert [value.name for value in block.graph.output] == ["canvas", "passes"]
    outside = {node.name for node in block.graph.node}
    assert {"mask.bias", "rotary.cos"} <= outside  # computed once
    assert "layers.0.self_attn.qkv_proj" not in outside


def test_weights_are_shared(tavern: Path) -> None:
    step, block = shared_weights(tavern)
    assert block == step
    assert len(step) > 20
    assert (tavern / "block.onnx").stat().st_size < 1_000_000
    manifest = Bundle.load(tavern).manifest
    assert manifest.targets[0].block_file == "block.onnx"
    assert {"block.onnx", "model.onnx", "model.onnx.data"} <= manifest.files.keys()


def test_a_network_without_a_mask_has_none(members: Callable[[str], Any], tmp_path: Path) -> None:
    folder = shutil.copytree(members("diffusion_gemma").bundle, tmp_path / "bundle")
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(OptionError, match=r"--loop .* has no mask token"):
        write_block(folder / "model.onnx")
    assert (folder / "model.onnx").read_bytes() == before
    assert not (folder / "block.onnx").exists()


def test_another_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="has 0 nodes ParallelUnmask, not one"):
        build_block(onnx.ModelProto())
