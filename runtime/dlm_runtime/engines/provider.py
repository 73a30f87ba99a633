"""The execution providers of ONNX Runtime that a step graph can be run with, and what each of them needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ProviderName = Literal["cpu", "cuda", "tensorrt-rtx", "directml", "webgpu"]


@dataclass(frozen=True)
class Provider:
    """One provider.

    `registered_name` is ONNX Runtime's own. A provider that comes as a plug-in is a Python package, `plugin_module`, that says where its
    library lies; the others are built into a variant of ONNX Runtime. `install` is what a user has to do to have it. `memory` is the name
    of the device memory in which a past can be kept between steps; None where inputs are handed over from host memory every time.
    """

    name: ProviderName
    registered_name: str
    install: str
    plugin_module: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    memory: str | None = None


PROVIDERS: dict[ProviderName, Provider] = {
    provider.name: provider
    for provider in (
        Provider("cpu", "CPUExecutionProvider", "pip install onnxruntime"),
        Provider(
            "cuda",
            "CUDAExecutionProvider",
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu, with an NVIDIA driver",
            options={"use_tf32": "0"},  # float32 with ten bits would say other words than the CPU does
            memory="cuda",
        ),
        Provider(
            "tensorrt-rtx",
            "NvTensorRTRTXExecutionProvider",
            "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13, with an RTX card of the 30 series or newer and a driver for CUDA 13",
            "onnxruntime_ep_nv_tensorrt_rtx",
        ),
        Provider("directml", "DmlExecutionProvider", "pip uninstall -y onnxruntime && pip install onnxruntime-directml, on Windows"),
        Provider("webgpu", "WebGpuExecutionProvider", "pip install onnxruntime-ep-webgpu, with a GPU", "onnxruntime_ep_webgpu"),
    )
}
