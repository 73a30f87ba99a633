"""Builds one engine: `python -m dlm_export.engines.build_process JOB`. A process of its own, for the library may abort it.

What the library says goes to stderr as it says it, so that it is there whatever happens. The outcome is written to the job's file once
the parser has decided, and again when the engine is there.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from .job import BuildJob
from .outcome import BuildOutcome, Layer, RefusedNode

KNOWN_NOISE = (
    "has Int64 binding",  # said once for every input that holds integers
    "already exists, the output tensors of this new instance",  # the body of a function that is called twice, or has two branches
)
OLDEST_TENSORRT = 10


class Unusable(Exception):
    """The library, or a plugin for it, is of no use; one sentence says why."""


def build(job: BuildJob, trt: Any) -> BuildOutcome:
    """Parse and build. The outcome is written on the way; what it says of a refusal comes from `all_refused` where that survives."""
    lines: list[str] = []
    logger = listening_logger(trt, lines)
    add_plugin(trt, job.plugin)
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    began = time.monotonic()
    parsed = parser.parse_from_file(job.model)
    outcome = BuildOutcome("failed", f"{trt.__name__} {trt.__version__}", parse_s=time.monotonic() - began)
    if not parsed:
        return refused(job, trt, logger, parser, replace(outcome, state="refused", lines=tuple(lines)))
    layers = tuple(layer_of(network.get_layer(index)) for index in range(network.num_layers))
    outcome = replace(outcome, layers=layers, lines=tuple(lines))
    write(job, outcome)
    began = time.monotonic()
    plan = builder.build_serialized_network(network, config_of(job, trt, builder, network))
    outcome = replace(outcome, build_s=time.monotonic() - began, lines=tuple(lines))
    if plan is not None:
        with open(job.plan, "wb") as stream:
            size = stream.write(plan)
        outcome = replace(outcome, state="built", plan_bytes=size)
    write(job, outcome)
    return outcome


def refused(job: BuildJob, trt: Any, logger: Any, parser: Any, outcome: BuildOutcome) -> BuildOutcome:
    """First what the parser stumbled over, written down; then all that it would not take, which it is asked for anew."""
    outcome = replace(outcome, refused=errors_of(parser))
    write(job, outcome)
    network = trt.Builder(logger).create_network(network_flags(trt))
    again = trt.OnnxParser(network, logger)
    again.supports_model_v2(Path(job.model).read_bytes(), job.model)
    found = dict.fromkeys((*outcome.refused, *errors_of(again)))
    outcome = replace(outcome, refused=tuple(found))
    write(job, outcome)
    return outcome


def errors_of(parser: Any) -> tuple[RefusedNode, ...]:
    """The parser's errors as nodes."""
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return tuple(
        RefusedNode(error.node_name(), error.node_operator(), one_line(error.desc()), "/".join(error.local_function_stack() or ()))
        for error in errors
    )


def config_of(job: BuildJob, trt: Any, builder: Any, network: Any) -> Any:
    """Profiles, compute capabilities, and that float32 is computed as float32.

    `REQUIRE_USER_ALLOCATION`, which capturing an engine with conditionals as a CUDA graph may need, is not asked for: networks with routed
    experts, whose sizes depend on data, do not build with it.
    """
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # ten bits would say other words than the CPU does
    if job.compute_capabilities:
        config.num_compute_capabilities = len(job.compute_capabilities)
        for index, name in enumerate(job.compute_capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{name}"), index)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for shapes in job.profiles:
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            profile.set_shape(tensor.name, *(tuple(shape) for shape in shapes[tensor.name]))
        config.add_optimization_profile(profile)
    return config


def network_flags(trt: Any) -> int:
    """Strongly typed: the graph says what is computed in which type. From TensorRT 11 on every network is, and the flag is gone.

    Raises Unusable for a TensorRT that is too old for it.
    """
    version = int(trt.__version__.split(".")[0])
    if trt.__name__ == "tensorrt" and version < OLDEST_TENSORRT:
        raise Unusable(f"tensorrt {trt.__version__} is too old; install {OLDEST_TENSORRT} or newer")
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def add_plugin(trt: Any, plugin: str) -> None:
    """Register the plugin, so that the parser takes it instead of the function's body. Raises Unusable where that cannot be."""
    if plugin == "none":
        return
    registry = trt.get_plugin_registry()
    if plugin == "python":
        from .plugin_stand_in import stand_in_creator

        creator = stand_in_creator(trt)
        if not registry.register_creator(creator, creator.plugin_namespace):
            raise Unusable("the plugin's stand-in cannot be registered")
        _kept.append(creator)  # the registry does not hold on to it
    elif registry.load_library(plugin) is None:
        raise Unusable(f"{plugin} cannot be loaded as a plugin library")


_kept: list[Any] = []


def listening_logger(trt: Any, lines: list[str]) -> Any:
    """A logger that passes warnings and errors on to stderr and to `lines`."""

    class Listening(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """Called by the library, possibly from its own threads."""
            if int(severity) <= int(trt.ILogger.WARNING) and not any(noise in message for noise in KNOWN_NOISE):
                lines.append(one_line(message))
                print(lines[-1], file=sys.stderr, flush=True)

    return Listening()


def layer_of(layer: Any) -> Layer:
    """Name and type of a layer."""
    return Layer(layer.name, str(layer.type).rpartition(".")[2])


def one_line(text: str) -> str:
    """A message without its line breaks."""
    return " ".join(text.split())


def write(job: BuildJob, outcome: BuildOutcome) -> None:
    """Write the outcome where the job wants it, whole or not at all."""
    file = Path(job.outcome)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps(outcome.to_json()), encoding="utf-8")
    partial.replace(file)


def main(arguments: list[str], load: Callable[[str], ModuleType] = importlib.import_module) -> int:
    """0 once there is an outcome, whatever it is; 1 with a sentence on stderr where the library is of no use, or the disk is full."""
    job = BuildJob.read(Path(arguments[0]))
    try:
        build(job, load(job.module))
    except (Unusable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
