"""A half-finished line as text: settled and open pieces, from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlm_runtime.dialogue.tokens import Tokens

PLACEHOLDER = "\N{MIDDLE DOT}"
_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # its other bytes are still masked


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a draft. A frozen piece is the same in every later draft."""

    text: str
    frozen: bool


@dataclass(frozen=True, slots=True)
class DraftRenderer:
    """Turns the token ids of a draft into pieces."""

    tokens: Tokens
    mask_token_id: int | None
    eos_token_ids: frozenset[int]

    def render(self, token_ids: Sequence[int], frozen: Sequence[bool], max_chars: int = 0) -> list[Piece]:
        """Pieces of a draft; masks become placeholders, what lies behind the end is left out, `max_chars` (0: no limit) bounds it."""
        pieces: list[Piece] = []
        # Decoding needs what came before: characters span tokens, and a space in front of everything would get lost.
        known = list(self.tokens.encode_content("a"))
        shown_chars = len(self.tokens.decode(known))
        for start, end in self._runs(token_ids, frozen):
            if token_ids[start] == self.mask_token_id:
                pieces.append(Piece(PLACEHOLDER * (end - start), False))
                continue
            known.extend(token_ids[start:end])
            text = self.tokens.decode(known).rstrip(_HALF_CHARACTER)
            pieces.append(Piece(text[shown_chars:], frozen[start]))
            shown_chars = len(text)
        return _clip(_tidy(pieces), max_chars)

    def _runs(self, token_ids: Sequence[int], frozen: Sequence[bool]) -> list[tuple[int, int]]:
        """Borders of stretches of one kind: settled, guessed or masked."""
        length = self._length(token_ids, frozen)
        kinds = [(frozen[index], token_ids[index] == self.mask_token_id) for index in range(length)]
        cuts = [index for index in range(1, length) if kinds[index] != kinds[index - 1]]
        return list(zip([0, *cuts], [*cuts, length], strict=True)) if length else []

    def _length(self, token_ids: Sequence[int], frozen: Sequence[bool]) -> int:
        """Where the line ends: at a settled end token, or at a guessed one behind which nothing is settled."""
        last_frozen = max((index for index, settled in enumerate(frozen) if settled), default=-1)
        for index, token in enumerate(token_ids):
            if token in self.eos_token_ids and (frozen[index] or index > last_frozen):
                return index
        return len(token_ids)


def _tidy(pieces: list[Piece]) -> list[Piece]:
    """The same pieces on one line, without a space in front and without empty ones."""
    tidied: list[Piece] = []
    for piece in pieces:
        text = piece.text if piece.text.isprintable() else " ".join(piece.text.splitlines())
        text = text if tidied else text.lstrip()
        if text:
            tidied.append(Piece(text, piece.frozen))
    return tidied


def _clip(pieces: list[Piece], max_chars: int) -> list[Piece]:
    if max_chars < 1:
        return pieces
    clipped: list[Piece] = []
    for piece in pieces:
        room = max_chars - sum(len(one.text) for one in clipped)
        if room <= 0:
            break
        clipped.append(Piece(piece.text[:room], piece.frozen))
    return clipped
