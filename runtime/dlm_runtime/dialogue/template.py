"""The chat template of a bundle, rendered so that template text and content stay apart.

The template is jinja2 and runs in a sandbox. It never sees the contents: a stand-in takes the place of each, so that after rendering the
borders between what the template wrote and what somebody said are known exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dlm_runtime.dialogue.turn import Turn
from dlm_runtime.errors import BundleError

_REMEDY = "Correct it in the checkpoint and export the bundle anew."
_STAND_IN = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a rendered prompt. Only text that is not content may become control tokens."""

    text: str
    is_content: bool


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str) -> None:
        """Raises `BundleError` when the template does not compile."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        environment.globals["raise_exception"] = _raise_exception
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise BundleError("manifest.json", f"chat_template: {error}", _REMEDY) from error

    def render(self, card: str, history: Sequence[Turn], player_text: str) -> list[Segment]:
        """The prompt for the next line. Raises `BundleError` when the template fails or leaves out the player's words."""
        contents = [card, *(text for turn in history for text in (turn.player_text, turn.line_text)), player_text]
        roles = ["system", *(("user", "assistant") * len(history)), "user"]
        messages = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True)
        except Exception as error:  # a template can raise anything
            raise BundleError("manifest.json", f"chat_template: {error}", _REMEDY) from error
        if messages[-1]["content"] not in text:
            raise BundleError("manifest.json", "chat_template: leaves out what the player says", _REMEDY)
        return [segment for segment in _split(text, contents) if segment.text]


def _split(text: str, contents: Sequence[str]) -> list[Segment]:
    parts = _STAND_IN.split(text)  # template text and content numbers take turns
    return [Segment(contents[int(part)], True) if index % 2 else Segment(part, False) for index, part in enumerate(parts)]


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
