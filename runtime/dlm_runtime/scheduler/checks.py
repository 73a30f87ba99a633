"""Whether a model can serve a request."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest, Mode
from dlm_runtime.errors import PromptTooLong, RequestError
from dlm_runtime.policies.choose import loop_for
from dlm_runtime.scheduler.types import LineRequest


def check_request(request: LineRequest, manifest: Manifest) -> Mode:
    """The mode the request will be served in. Raises RequestError, PromptTooLong among them."""
    mode = request.mode or manifest.default_mode
    if mode not in manifest.modes:
        raise RequestError("mode", mode, f"this model knows {', '.join(manifest.modes)}")
    loop = loop_for(manifest, request.sampler)
    if request.guidance and not (loop.guides and (request.sampler or mode == "diffusion")):
        raise RequestError("guidance", request.guidance, f"give 0: the loop {loop.name} and the modes ar and self_speculation have none")
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= manifest.vocab_size:
        wrong = next(token_id for token_id in request.prompt_ids if not 0 <= token_id < manifest.vocab_size)
        raise RequestError("prompt_ids", wrong, f"token ids of this model run from 0 to {manifest.vocab_size - 1}")
    length = len(request.prompt_ids)
    if length + request.max_new_tokens > manifest.max_context:
        room = manifest.max_context - request.max_new_tokens
        remedy = f"with {request.max_new_tokens} new tokens the prompt may have {max(room, 0)} tokens, the model's context is "
        raise PromptTooLong("prompt tokens", length, f"{remedy}{manifest.max_context}")
    return mode
