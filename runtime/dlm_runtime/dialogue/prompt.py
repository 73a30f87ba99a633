"""Card, history and a player's words become the token ids of a prompt that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlm_runtime.dialogue.amount import Amount
from dlm_runtime.dialogue.character import Character
from dlm_runtime.dialogue.template import ChatTemplate
from dlm_runtime.dialogue.text import clean_line
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.dialogue.turn import Turn
from dlm_runtime.errors import PromptTooLong, RequestError

MAX_PLAYER_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that fits its budget. `history_turns` is how many of the turns offered it holds, the latest ones."""

    ids: tuple[int, ...]
    history_turns: int


def clean_player_text(text: str, field: str) -> str:
    """`text` on one clean line. Raises `RequestError` when it is too long or nothing is left of it."""
    if len(text) > MAX_PLAYER_CHARS:
        raise RequestError(field, Amount(len(text), "characters"), f"send at most {MAX_PLAYER_CHARS}")
    cleaned = clean_line(text)
    if not any(char.isprintable() for char in cleaned):  # joiners with nothing to join are no words
        raise RequestError(field, text, "send at least one character that is neither white space nor a control character")
    return cleaned


class PromptBuilder:
    """Builds prompts for one bundle."""

    def __init__(self, tokens: Tokens, template: ChatTemplate, max_context: int) -> None:
        """`max_context` is the most tokens a prompt and its line may have together."""
        if max_context < 1:
            raise ValueError(f"{max_context=} must be at least 1")
        self._tokens, self._template, self._max_context = tokens, template, max_context

    def build(
        self, character: Character, history: Sequence[Turn], player_text: str, max_new_tokens: int, field: str = "player_text"
    ) -> Prompt:
        """The ids of the longest prompt that leaves room for `max_new_tokens`, dropping the oldest turns first.

        `player_text` and `history` have been cleaned. Raises `PromptTooLong` naming `field` when it does not even fit without history.
        """
        budget_tokens = self._max_context - max_new_tokens
        whole = self._encode(character.card, history, player_text)
        if len(whole) <= budget_tokens:
            return Prompt(whole, len(history))
        fitting: Prompt | None = None
        for turns in range(len(history)):  # from the latest turn back, so that a long history costs no more than what fits
            ids = self._encode(character.card, history[len(history) - turns :], player_text)
            if len(ids) > budget_tokens:
                break
            fitting = Prompt(ids, turns)
        if fitting is None:
            raise self._too_long(character, player_text, max_new_tokens, field)
        return fitting

    def _encode(self, card: str, history: Sequence[Turn], player_text: str) -> tuple[int, ...]:
        ids: list[int] = []
        for segment in self._template.render(card, history, player_text):
            encode = self._tokens.encode_content if segment.is_content else self._tokens.encode_template
            ids.extend(encode(segment.text))
        return tuple(ids)

    def _too_long(self, character: Character, player_text: str, max_new_tokens: int, field: str) -> PromptTooLong:
        text_tokens = len(self._tokens.encode_content(player_text))
        other_tokens = len(self._encode(character.card, (), player_text)) - text_tokens
        room_tokens = self._max_context - max_new_tokens - other_tokens
        if room_tokens < 1:
            limit = self._max_context - other_tokens - 1
            advice = f"ask for at most {limit}" if limit > 0 else "shorten the card"
            remedy = f"the card of {character.id} takes {other_tokens} of {self._max_context} tokens; {advice}"
            return PromptTooLong(field.replace("player_text", "max_new_tokens"), max_new_tokens, remedy)
        return PromptTooLong(field, Amount(text_tokens, "tokens"), f"shorten it to at most {room_tokens} tokens, or lower max_new_tokens")
