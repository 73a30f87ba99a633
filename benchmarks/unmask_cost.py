"""What `dlm::ParallelUnmask` costs: its function body in ONNX Runtime per window position, and the least bytes that a kernel has to read.

    python benchmarks/unmask_cost.py [--vocab 50257] [--window 32] [--repeats 5]

Time is the process's CPU time on one thread, so that other work on the machine does not count. Bytes of the body are the sizes of the
inputs and outputs of the nodes that ran, as ONNX Runtime's profile reports them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from dlm_kernels.unmask.function import INPUTS, OUTPUTS, unmask_functions, unmask_node
from dlm_kernels.vectors.case_file import INPUTS as LAYOUT
from onnx import ModelProto, TensorProto, helper
from rich.console import Console
from rich.table import Table

MASK, TOP_K = 5, 8
TYPES = {"<i8": TensorProto.INT64, "<f4": TensorProto.FLOAT, "|b1": TensorProto.BOOL}
ROWS = {  # by name: temperature, measure
    "temperature 0": (0.0, 0),
    "temperature 0, measure margin": (0.0, 1),
    "temperature 0.7": (0.7, 0),
}


def unmask_model() -> ModelProto:
    """A model of nothing but the one call, float32 logits."""
    layout = (("logits", "<f4", "BWV"), *LAYOUT)
    given = [helper.make_tensor_value_info(name, TYPES[kind], list(letters)) for name, kind, letters in layout]
    returned = [helper.make_empty_tensor_value_info(name) for name in OUTPUTS]
    graph = helper.make_graph([unmask_node(INPUTS, OUTPUTS, mask_token_id=MASK, top_k=TOP_K)], "unmask", given, returned)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("dlm", 1)]
    return helper.make_model(graph, functions=unmask_functions(), opset_imports=opsets, ir_version=10)


def random_feed(vocab: int, window: int, temperature: float, measure: int) -> dict[str, np.ndarray]:
    """One row, all of it masked."""
    sizes = {"B": 1, "W": window, "V": vocab, "G": 1}
    feed = {name: np.zeros([sizes[letter] for letter in letters], kind) for name, kind, letters in LAYOUT}
    feed["logits"] = np.random.default_rng(0).normal(0, 3, (1, window, vocab)).astype(np.float32)
    feed["tokens"][:], feed["live"][:], feed["quota"][:], feed["threshold"][:] = MASK, True, 1, 0.9
    feed["temperature"][:], feed["measure"][:] = temperature, measure
    return feed


def make_session(profile_prefix: str | None = None) -> onnxruntime.InferenceSession:
    """One thread; with a prefix, ONNX Runtime writes a profile to a file of that name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    return onnxruntime.InferenceSession(unmask_model().SerializeToString(), options, providers=["CPUExecutionProvider"])


def cpu_seconds(feed: dict[str, np.ndarray], repeats: int) -> float:
    """Median CPU time of a call, after one that warms up."""
    session, taken = make_session(), []
    for _ in range(repeats + 1):
        started = time.process_time()
        session.run(list(OUTPUTS), feed)
        taken.append(time.process_time() - started)
    return statistics.median(taken[1:])


def body_bytes(feed: dict[str, np.ndarray]) -> int:
    """Bytes that nodes of the body took and gave, each node by itself; an `If` is counted by the nodes in it."""
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(str(Path(folder) / "profile"))
        session.run(list(OUTPUTS), feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "output_size" in event["args"]]
    return sum(int(node[key]) for node in nodes if node["op_name"] != "If" for key in ("activation_size", "parameter_size", "output_size"))


def main(
    vocab: Annotated[list[int] | None, typer.Option(help="Vocabulary sizes.")] = None,
    window: Annotated[int, typer.Option(help="Positions of the one row.")] = 32,
    repeats: Annotated[int, typer.Option(help="Calls; the median is shown.")] = 5,
) -> None:
    """Print CPU time and bytes per position for each vocabulary and kind of row."""
    table = Table("vocabulary", "row", "CPU ms per position", "MB moved per position", "logits alone, MB", "times over")
    for size in vocab or [50_257, 126_464, 151_936]:
        for name, (temperature, measure) in ROWS.items():
            feed = random_feed(size, window, temperature, measure)
            milliseconds, moved, least = cpu_seconds(feed, repeats) * 1000 / window, body_bytes(feed) / window, size * 4
            numbers = (f"{milliseconds:.2f}", f"{moved / 1e6:.2f}", f"{least / 1e6:.2f}", f"{moved / least:.1f}")
            table.add_row(str(size), name, *numbers)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
