"""First lines nobody hears: they make the engine allocate and measure before a player waits for it."""

from __future__ import annotations

import asyncio

from dlm_runtime.errors import BundleError, PromptTooLong
from dlm_runtime.scheduler import Accepted, Draft, Failed, LineRequest
from dlm_runtime.service.mailbox import Mailbox
from dlm_runtime.service.speaker import Speaker

_PLAYER_TEXT = "Good evening."
_NEW_TOKENS = 8


async def warm_up(speaker: Speaker) -> None:
    """Run one short line in every mode.

    Raises `EngineError` when the model cannot be run, `BundleError` when no card fits into its context.
    """
    prompt_ids = _prompt(speaker)
    for mode in speaker.manifest.modes:
        mailbox = Mailbox(asyncio.get_running_loop())
        speaker.scheduler.submit(LineRequest(prompt_ids, mode=mode, max_new_tokens=_NEW_TOKENS), mailbox.post)
        while isinstance(event := await mailbox.next(), Accepted | Draft):
            continue
        if isinstance(event, Failed):
            raise event.error


def _prompt(speaker: Speaker) -> tuple[int, ...]:
    """The prompt of the first character whose card fits."""
    for character in speaker.roster:
        try:
            return speaker.prompts.build(character, (), _PLAYER_TEXT, _NEW_TOKENS).ids
        except PromptTooLong:
            continue
    raise BundleError("manifest.json", f"max_context={speaker.manifest.max_context} holds no character's card", "Shorten the cards.")
