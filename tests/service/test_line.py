"""Finished lines, drafts and remembered turns."""

from __future__ import annotations

import json

import pytest
from dlm_runtime.dialogue.draft import DraftRenderer, Piece
from dlm_runtime.dialogue.line import SpokenText, finish_text
from dlm_runtime.dialogue.session import SessionStore
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.dialogue.turn import Turn

MASK, END = 1, 2


@pytest.mark.parametrize(
    ("decoded", "max_chars", "text", "was_cut"),
    [
        (" Aye.\n", 0, "Aye.", False),
        ("Aye. Seven coins.", 17, "Aye. Seven coins.", False),
        ("Aye. Seven coins.", 16, "Aye.", True),
        ("Aye! 'Seven!' Coins", 14, "Aye! 'Seven!'", True),
        ("Seven coins, friend", 15, "Seven coins", True),
        ("Seven coins", 5, "Seven", True),
        ("Sevenfold", 5, "Seven", True),
        ("7.5 coins at most", 9, "7.5 coins", True),
        (", seven coins", 3, ", s", True),
    ],
)
def test_a_line_is_cut_after_a_sentence_or_a_word(decoded: str, max_chars: int, text: str, was_cut: bool) -> None:
    assert finish_text(decoded, max_chars) == SpokenText(text, was_cut)


def test_the_fallback_stands_in_for_nothing() -> None:
    assert finish_text(" \n", 3, "Hm, what?") == SpokenText("Hm, what?", is_fallback=True)


@pytest.fixture
def renderer(tokens: Tokens) -> DraftRenderer:
    return DraftRenderer(tokens, MASK, frozenset([END]))


def test_a_draft_shows_settled_guessed_and_masked_text(renderer: DraftRenderer, tokens: Tokens) -> None:
    seven, coins, rope = (list(tokens.encode_content(text)) for text in ("Seven", " coins", " rope."))
    ids = [*seven, *coins, MASK, MASK, *rope]
    frozen = [True] * len(seven) + [False] * (len(coins) + 2) + [True] * len(rope)
    pieces = renderer.render(ids, frozen)
    assert pieces == [Piece("Seven", True), Piece(" coins", False), Piece("··", False), Piece(" rope.", True)]


def test_a_draft_ends_where_the_line_ends(renderer: DraftRenderer, tokens: Tokens) -> None:
    aye, rest = list(tokens.encode_content("Aye.")), list(tokens.encode_content("xy"))
    ids = [*aye, END, *rest]
    assert renderer.render(ids, [True] * len(ids)) == [Piece("Aye.", True)]
    assert renderer.render(ids, [True] * len(aye) + [False] * (1 + len(rest))) == [Piece("Aye.", True)]
    settled_behind = [True] * len(aye) + [False] + [True] * len(rest)
    assert "".join(piece.text for piece in renderer.render(ids, settled_behind)) == "Aye.xy"


def test_a_space_in_front_of_settled_text_is_kept(tokens: Tokens) -> None:
    spec = json.loads(tokens.to_json())
    spec["pre_tokenizer"] = spec["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    spec["model"] = {"type": "BPE", "vocab": {"a": 6, "b": 7, "▁": 8, "▁a": 9, "▁b": 10}, "merges": [["▁", "a"], ["▁", "b"]]}
    spec["model"]["vocab"] |= {token["content"]: token["id"] for token in spec["added_tokens"]}
    renderer = DraftRenderer(Tokens(json.dumps(spec)), MASK, frozenset([END]))
    assert renderer.render([MASK, 10], [False, True]) == [Piece("·", False), Piece(" b", True)]
    assert renderer.render([9, 10], [True, True]) == [Piece("a b", True)]


def test_half_a_character_waits_for_its_other_half(renderer: DraftRenderer, tokens: Tokens) -> None:
    ids = list(tokens.encode_content("é"))
    assert len(ids) == 2
    assert renderer.render([ids[0], MASK], [True, False]) == [Piece("·", False)]
    assert renderer.render(ids, [True, True]) == [Piece("é", True)]


def test_a_draft_is_bounded(renderer: DraftRenderer) -> None:
    assert renderer.render([MASK] * 9, [False] * 9, max_chars=4) == [Piece("····", False)]
    assert renderer.render([], []) == []


def test_sessions_forget_the_oldest_turn_and_the_conversation_used_longest_ago() -> None:
    store = SessionStore(max_conversations=2, max_turns=2)
    for index in range(3):
        store.append("s", "torvek", Turn(str(index), ""))
    store.append("s", "vanmi", Turn("v", ""))
    assert [turn.player_text for turn in store.history("s", "torvek")] == ["1", "2"]
    store.append("t", "torvek", Turn("t", ""))
    assert store.history("s", "vanmi") == ()
    assert len(store) == 2
    assert store.history("new", "torvek") == ()
    assert len(store) == 2
