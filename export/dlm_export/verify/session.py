"""The exported graph in ONNX Runtime, asked in terms of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import onnxruntime
from dlm_kernels.unmask import ShapeInputs, UnmaskInputs, shape_logits
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines.neutral import neutral_inputs, neutral_roles
from dlm_runtime.errors import EngineError
from numpy.typing import NDArray

from .cases import Case

Floats = NDArray[np.float32]
Past = Sequence[tuple[Floats, Floats]]  # per layer, keys and values [Hkv, p, dh]
Arrays = dict[str, NDArray[Any]]
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class StepAnswer:
    """Inputs and outputs of one step by name; padding is still in them."""

    feed: Arrays
    outputs: Arrays

    def unmask_inputs(self) -> UnmaskInputs:
        """What `dlm::ParallelUnmask` got in this step, rebuilt from the step's own inputs and its raw logits."""
        feed, window = self.feed, self.feed["allow_rows"].shape[1]
        index = feed["window_start"][:, None] + np.arange(window)
        clipped = np.minimum(index, feed["input_ids"].shape[1] - 1)
        shaping = {item.name: feed[item.name] for item in fields(ShapeInputs) if item.name != "logits"}
        per_row = ("quota", "threshold", "factor", "measure", "temperature", "rank_temperature", "seed", "step")
        return UnmaskInputs(
            logits=shape_logits(ShapeInputs(self.outputs["logits"], **shaping)),
            tokens=np.take_along_axis(feed["input_ids"], clipped, 1),
            live=index < feed["query_lengths"][:, None],
            positions=np.take_along_axis(feed["position_ids"], clipped, 1),
            **{name: feed[name] for name in ("allow_rows", "allow_table", *per_row)},
        )


class StepSession:
    """A loaded step graph; `has_roles` says whether it encodes and decodes. Raises EngineError where ONNX Runtime cannot load it."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest: Manifest = bundle.manifest
        self.model_path = bundle.model_path
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would slow torch down
        if self.manifest.targets[0].engine != "onnxruntime":
            # Its own fusions round where another engine does not: DequantizeLinear and MatMul become a product of rounded activations.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(bundle.model_path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            engine = bundle.manifest.targets[0].engine
            elsewhere = "" if engine == "onnxruntime" else f" for onnxruntime: not all that is made for {engine} runs on a CPU"
            raise EngineError(f"ONNX Runtime cannot load {bundle.model_path}: {error}", f"Export the bundle again{elsewhere}") from error
        self._output_names = [output.name for output in self._session.get_outputs()]
        self.has_roles = any(value.name == "encode" for value in self._session.get_inputs())

    def answer(self, case: Case, pasts: Sequence[Past], rng: np.random.Generator) -> StepAnswer:
        """Run one case; `pasts` holds each row's committed keys and values. Padding is filled with noise that must not matter."""
        m = self.manifest
        feed = token_inputs(case, m, rng) | past_inputs(case, pasts, m, rng) | unmask_settings(case, m, rng)
        return self.run(feed | role_inputs(case, m) if self.has_roles else feed)

    def run(self, feed: Arrays) -> StepAnswer:
        """Run one step from its named inputs, all outputs fetched. Raises EngineError where ONNX Runtime refuses them."""
        try:
            outputs = self._session.run(self._output_names, feed)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            first_line = str(error).partition("\n")[0][:SHOWN_CHARACTERS]
            problem = f"ONNX Runtime cannot run {self.model_path} on this ({first_line})"
            raise EngineError(problem, "Give a reference that belongs to this bundle") from error
        return StepAnswer(feed, {name: np.asarray(value) for name, value in zip(self._output_names, outputs, strict=True)})


def presents(answer: StepAnswer, layers: int, row: int) -> Past:
    """Keys and values that a step computed for the real tokens of a row."""
    size = int(answer.feed["query_lengths"][row])
    outputs = answer.outputs
    return [(outputs[f"present.{i}.key"][row, :, :size], outputs[f"present.{i}.value"][row, :, :size]) for i in range(layers)]


def token_inputs(case: Case, manifest: Manifest, rng: np.random.Generator) -> Arrays:
    """Tokens, positions and lengths, with arbitrary tokens on padding."""
    shape = (len(case.rows), case.length)
    input_ids, position_ids = rng.integers(0, manifest.vocab_size, shape), np.zeros(shape, np.int64)
    block_ids = rng.integers(-1, case.length, shape)
    for index, row in enumerate(case.rows):
        size = len(row.query_ids)
        input_ids[index, :size] = row.query_ids
        position_ids[index, :size] = row.positions[len(row.past_ids) :]
        block_ids[index, :size] = row.block_ids
    query_lengths = np.array([len(row.query_ids) for row in case.rows], np.int64)
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "past_lengths": np.array([len(row.past_ids) for row in case.rows], np.int64),
        "query_lengths": query_lengths,
        "block_ids": block_ids,
        "window_start": query_lengths - 1 if case.last_only else np.zeros_like(query_lengths),
    }


def past_inputs(case: Case, pasts: Sequence[Past], manifest: Manifest, rng: np.random.Generator) -> Arrays:
    """Keys and values of every layer, padded to the longest past with noise."""
    arrays: Arrays = {}
    for layer in range(manifest.layers):
        kv_heads, head_dim = manifest.cache_shape(layer)
        shape = (len(case.rows), kv_heads, case.past_length, head_dim)
        for part, name in enumerate(("key", "value")):
            padded = (rng.standard_normal(shape, dtype=np.float32) * 10).astype(manifest.cache_type)
            for index, row in enumerate(case.rows):
                if len(row.past_ids):
                    padded[index, :, : len(row.past_ids)] = pasts[index][layer][part]
            arrays[f"past.{layer}.{name}"] = padded
    return arrays


def role_inputs(case: Case, manifest: Manifest) -> Arrays:
    """For networks with an encoder and a decoder: what is committed is encoded; canvases are decoded as on a first step."""
    return neutral_roles(len(case.rows), manifest.vocab_size) | {"encode": np.array([row.commit for row in case.rows])}


def unmask_settings(case: Case, manifest: Manifest, rng: np.random.Generator) -> Arrays:
    """Unequal decoding settings per row, some of them warm, under a table that bans some tokens in its second row."""
    rows, window = len(case.rows), 1 if case.last_only else case.length
    allow_table = np.zeros((2, manifest.vocab_size), np.float32)
    if manifest.mask_token_id is not None:
        allow_table[:, manifest.mask_token_id] = -np.inf
    allow_table[1, rng.random(manifest.vocab_size) < 0.5] = -np.inf
    return neutral_inputs(rows) | {
        "allow_rows": rng.integers(0, 2, (rows, window)),
        "allow_table": allow_table,
        "quota": rng.integers(0, 4, rows),
        "threshold": rng.uniform(0.2, 1.1, rows).astype(np.float32),
        "temperature": np.where(np.arange(rows) % 2, 0.7, 0.0).astype(np.float32),
        "seed": rng.integers(0, 2**62, rows),
        "step": np.arange(rows, dtype=np.int64),
    }
