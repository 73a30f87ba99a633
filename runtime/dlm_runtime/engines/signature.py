"""Whether a loaded graph is the step graph that its manifest describes."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from dlm_runtime.bundle import CacheType, Manifest
from dlm_runtime.errors import EngineError

_INT, _FLOAT, _BOOL = "tensor(int64)", "tensor(float)", "tensor(bool)"
_CACHE: dict[CacheType, str] = {"float32": _FLOAT, "float16": "tensor(float16)", "bfloat16": "tensor(bfloat16)"}
_Shape = tuple[int | None, ...]  # None: a size that varies


def check_signature(session: ort.InferenceSession, manifest: Manifest, file: Path) -> None:
    """Raises EngineError naming the first input or output that is missing, unknown, or of another type or shape."""
    inputs = session.get_inputs()
    roles = _roles(manifest) if any(node.name == "encode" for node in inputs) else {}
    for what, wanted, found in (
        ("input", _inputs(manifest) | roles, inputs),
        ("output", _outputs(manifest), session.get_outputs()),
    ):
        have = {node.name: (node.type, tuple(node.shape)) for node in found}
        for name, (dtype, shape) in wanted.items():
            if name not in have:
                raise _mismatch(file, f"the graph has no {what} {name!r}")
            if have[name][0] != dtype:
                raise _mismatch(file, f"{what} {name!r} is {have[name][0]}, not {dtype}")
            if not _fits(have[name][1], shape):
                raise _mismatch(file, f"{what} {name!r} has shape {list(have[name][1])}, the manifest says {list(shape)} (None: any)")
        if what == "input" and (extra := sorted(have.keys() - wanted.keys())):
            raise _mismatch(file, f"the graph asks for an input {extra[0]!r} that nothing supplies")


def _inputs(manifest: Manifest) -> dict[str, tuple[str, _Shape]]:
    row: _Shape = (None,)
    pair: _Shape = (None, None)
    wanted: dict[str, tuple[str, _Shape]] = {
        "input_ids": (_INT, pair),
        "position_ids": (_INT, pair),
        "past_lengths": (_INT, row),
        "query_lengths": (_INT, row),
        "block_ids": (_INT, pair),
        "window_start": (_INT, row),
        "shift": (_INT, row),
        "allow_rows": (_INT, pair),
        "allow_table": (_FLOAT, (None, manifest.vocab_size)),
        "scale": (_FLOAT, row),
        "sample_top_k": (_INT, row),
        "sample_top_p": (_FLOAT, row),
        "repetition_penalty": (_FLOAT, row),
        "recent_ids": (_INT, pair),
        "guidance": (_FLOAT, row),
        "guidance_rows": (_INT, row),
        "quota": (_INT, row),
        "threshold": (_FLOAT, row),
        "factor": (_FLOAT, row),
        "measure": (_INT, row),
        "temperature": (_FLOAT, row),
        "rank_temperature": (_FLOAT, row),
        "seed": (_INT, row),
        "step": (_INT, row),
    }
    return wanted | _context("past", manifest)


def _roles(manifest: Manifest) -> dict[str, tuple[str, _Shape]]:
    """Of graphs with an encoder and a decoder."""
    return {
        "encode": (_BOOL, (None,)),
        "self_conditioning": (_FLOAT, (None, None, manifest.vocab_size)),
        "self_conditioned": (_BOOL, (None,)),
    }


def _outputs(manifest: Manifest) -> dict[str, tuple[str, _Shape]]:
    pair: _Shape = (None, None)
    wanted: dict[str, tuple[str, _Shape]] = {
        "canvas": (_INT, pair),
        "committed": (_INT, (None,)),
        "sampled_ids": (_INT, pair),
        "confidence": (_FLOAT, pair),
        "entropy": (_FLOAT, pair),
        "top_ids": (_INT, (None, None, manifest.top_k)),
        "top_logprobs": (_FLOAT, (None, None, manifest.top_k)),
        "logits": (_FLOAT, (None, None, manifest.vocab_size)),
    }
    return wanted | _context("present", manifest)


def _context(prefix: str, manifest: Manifest) -> dict[str, tuple[str, _Shape]]:
    wanted: dict[str, tuple[str, _Shape]] = {}
    for layer in range(manifest.layers):
        kv_heads, head_dim = manifest.cache_shape(layer)
        for kind in ("key", "value"):
            wanted[f"{prefix}.{layer}.{kind}"] = (_CACHE[manifest.cache_type], (None, kv_heads, None, head_dim))
    return wanted


def _fits(found: tuple[object, ...], wanted: _Shape) -> bool:
    """Sizes that a graph leaves open come as names or None and fit anything."""
    if len(found) != len(wanted):
        return False
    return all(size == want for size, want in zip(found, wanted, strict=True) if isinstance(size, int) and want is not None)


def _mismatch(file: Path, problem: str) -> EngineError:
    return EngineError(f"{file}: {problem}", "Model and manifest do not belong together. Export the bundle again with dlm-export")
