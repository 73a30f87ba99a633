"""An ONNX Runtime session on exactly the provider that was asked for, or an error that says why not."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import onnxruntime as ort

from dlm_runtime.engines.provider import PROVIDERS, Provider
from dlm_runtime.errors import EngineError

UNMASK_OP_VARIABLE = "DLM_UNMASK_OP"
"""Environment variable that names a library with a CPU kernel for `dlm::ParallelUnmask`, in place of the function in the graph."""

_registered: set[str] = set()  # plug-in libraries stay registered with ONNX Runtime for the whole process


def session_options(threads: int | None) -> ort.SessionOptions:
    """Those of a server that steps through batches of ever changing shape. `threads` None leaves their number to ONNX Runtime.

    Raises EngineError when the library that `DLM_UNMASK_OP` names cannot be loaded.
    """
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Batches change shape from step to step; a remembered memory plan for every shape ever seen would grow without end.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # for `nodes_by_provider`
    # Spinning workers would take the cores from the game between two steps.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if library := os.environ.get(UNMASK_OP_VARIABLE):
        _register_op(options, library)
    return options


def _register_op(options: ort.SessionOptions, library: str) -> None:
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # ONNX Runtime's own exception types share no other base
        remedy = f"Unset {UNMASK_OP_VARIABLE} to run the function in the graph, or build the library as kernels/cuda/README.md says"
        raise EngineError(f"{UNMASK_OP_VARIABLE}={library} cannot be loaded ({first_line(error)})", remedy) from error


def open_session(model: Path, provider: Provider, options: ort.SessionOptions) -> ort.InferenceSession:
    """Loads `model` on `provider`; operators that it has no kernel for run on the CPU.

    Raises EngineError when the provider is not installed, finds no device, or gave way to another one while loading, and when the file
    cannot be loaded at all.
    """
    try:
        session = _open_plugin(model, provider, options) if provider.plugin_module else _open_built_in(model, provider, options)
    except EngineError:
        raise
    except Exception as error:  # ONNX Runtime's own exception types share no other base
        if provider.name == "cpu":
            remedy = "The file is damaged. Export the bundle again with dlm-export"
        else:
            remedy = f"{provider.name} needs: {provider.install}. --engine cpu runs anywhere"
        raise EngineError(f"{model} cannot be loaded with {provider.name} ({first_line(error)})", remedy) from error
    came = session.get_providers()
    if not came or came[0] != provider.registered_name:
        raise _unusable(provider, f"ONNX Runtime fell back to {came[0] if came else 'nothing'} while loading {model.name}")
    return session


def check_available(provider: Provider) -> None:
    """Raises EngineError when `provider` is not installed or sees no device. Loads no model."""
    if provider.plugin_module:
        _devices(provider)
    elif provider.registered_name not in ort.get_available_providers():
        raise _unusable(provider, f"this ONNX Runtime has only {', '.join(ort.get_available_providers())}")


def nodes_by_provider(session: ort.InferenceSession) -> dict[str, int]:
    """How many operators of the loaded graph run on which provider; empty where this ONNX Runtime does not tell (before 1.24)."""
    counts: dict[str, int] = {}
    if hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


def first_line(error: Exception) -> str:
    """The gist of an exception, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _open_built_in(model: Path, provider: Provider, options: ort.SessionOptions) -> ort.InferenceSession:
    check_available(provider)
    providers: list[str | tuple[str, dict[str, str]]] = [(provider.registered_name, provider.options)]
    if provider.name != PROVIDERS["cpu"].name:
        providers.append(PROVIDERS["cpu"].registered_name)
    # Without this the session would try again on the CPU by itself, and say so only on standard output.
    return ort.InferenceSession(str(model), options, providers=providers, enable_fallback=0)


def _open_plugin(model: Path, provider: Provider, options: ort.SessionOptions) -> ort.InferenceSession:
    options.add_provider_for_devices(_devices(provider)[:1], provider.options)
    return ort.InferenceSession(str(model), options)


def _devices(provider: Provider) -> list[ort.OrtEpDevice]:
    _register(provider)
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.registered_name]
    if not devices:
        raise _unusable(provider, "its library is installed and finds no device that it can use")
    return devices


def _register(provider: Provider) -> None:
    module_name = provider.plugin_module or ""
    if module_name in _registered:
        return
    if not hasattr(ort, "register_execution_provider_library"):
        raise _unusable(provider, f"ONNX Runtime {ort.__version__} knows no provider plug-ins; 1.24 and newer do")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise _unusable(provider, f"the package {module_name} cannot be imported ({first_line(error)})") from error
    try:
        ort.register_execution_provider_library(provider.registered_name, os.fspath(module.get_library_path()))
    except Exception as error:  # as above
        raise _unusable(provider, f"its library cannot be loaded ({first_line(error)})") from error
    _registered.add(module_name)


def _unusable(provider: Provider, problem: str) -> EngineError:
    remedy = f"It needs: {provider.install}. --engine cpu runs anywhere, --engine auto takes the best there is"
    return EngineError(f"engine {provider.name} cannot be used: {problem}", remedy)
