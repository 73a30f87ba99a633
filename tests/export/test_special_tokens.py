"""Where special token ids come from, and what is said when they cannot be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.families import family_of
from dlm_export.families.config_fields import ConfigFields
from dlm_export.families.family import SpecialOverrides, SpecialTokens
from dlm_export.families.special_tokens import resolve_special_tokens

SPELLINGS = ("<|mask|>", "<|MASK|>", "|<MASK>|", "[MASK]", "<mask>")
NO_IDS: dict[str, Any] = dict.fromkeys(("mask_token_id", "eos_token_id", "bos_token_id", "pad_token_id"))


def write(checkpoint: Any, **files: Any) -> None:
    """Write JSON files beside config.json, named without their ending."""
    for name, value in files.items():
        (checkpoint.path / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def resolve(checkpoint: Any, **options: Any) -> SpecialTokens:
    opened = Checkpoint.open(checkpoint.path)
    return resolve_special_tokens(opened, **({"vocab_size": 256, "block_length": 8, "mask_names": SPELLINGS} | options))


def message_of(checkpoint: Any, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        resolve(checkpoint, **options)
    return str(caught.value)


@pytest.fixture
def bare(checkpoint: Any) -> Any:
    """A checkpoint whose config.json has no ids but an end of text."""
    checkpoint.config(**NO_IDS | {"eos_token_id": 11})
    return checkpoint


def test_ids_of_config(checkpoint: Any) -> None:
    assert resolve(checkpoint) == SpecialTokens(100, 1, (11,), 11, 8)


def test_generation_config_fills_in(checkpoint: Any) -> None:
    checkpoint.config(**NO_IDS)
    write(checkpoint, generation_config={"mask_token_id": 20, "eos_token_id": [21, 22], "pad_token_id": 23, "bos_token_id": 24})
    assert resolve(checkpoint) == SpecialTokens(20, 24, (21, 22), 23, 8)


def test_generation_config_that_lists_more_ends_is_no_disagreement(checkpoint: Any) -> None:
    write(checkpoint, generation_config={"eos_token_id": [12, 11]})
    tokens = resolve(checkpoint)
    assert (set(tokens.eos_token_ids), tokens.notes) == ({11, 12}, ())


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["tokenizer", "vocabulary", "added_tokens", "decoder", "role as text", "role as object", "map"])
def test_mask_in_tokenizer_files(bare: Any, place: str, spelling: str) -> None:
    files: dict[str, Any] = {
        "tokenizer": {"tokenizer": {"added_tokens": [{"id": 7, "content": spelling}]}},
        "vocabulary": {"tokenizer": {"added_tokens": [], "model": {"vocab": {spelling: 7}}}},
        "added_tokens": {"added_tokens": {spelling: 7, "other": 8}},
        "decoder": {"tokenizer_config": {"added_tokens_decoder": {"7": {"content": spelling, "special": True}}}},
        "role as text": {"tokenizer_config": {"mask_token": "<odd>"}, "added_tokens": {"<odd>": 7}},
        "role as object": {"tokenizer_config": {"mask_token": {"content": "<odd>"}}, "added_tokens": {"<odd>": 7}},
        "map": {"special_tokens_map": {"mask_token": "<odd>"}, "added_tokens": {"<odd>": 7}},
    }[place]
    write(bare, **files)
    tokens = resolve(bare)
    assert (tokens.mask_token_id, tokens.notes) == (7, ())


def test_the_family_s_first_spelling_counts(bare: Any) -> None:
    write(bare, added_tokens={"<|MASK|>": 9, "<|mask|>": 7})
    assert resolve(bare).mask_token_id == 7
    assert resolve(bare, mask_names=("<|MASK|>", "<|mask|>")).mask_token_id == 9


def test_ends_by_name_and_by_role(bare: Any) -> None:
    bare.config(**NO_IDS | {"mask_token_id": 100})
    write(bare, added_tokens={"<|im_end|>": 5, "<|endoftext|>": 3}, tokenizer_config={"pad_token": "<|endoftext|>", "eos_token": None})
    tokens = resolve(bare, eos_names=("<|im_end|>",))
    assert (tokens.eos_token_ids, tokens.pad_token_id, tokens.bos_token_id) == ((5,), 3, None)


def test_stop_names_are_put_behind_the_ends(checkpoint: Any) -> None:
    write(checkpoint, added_tokens={"<|eot|>": 50, "<|far|>": 900, "again": 11})
    names = ("<|eot|>", "<|none|>", "<|far|>", "again")
    assert resolve(checkpoint, stop_names=names).eos_token_ids == (11, 50)
    assert resolve(checkpoint, stop_names=names, overrides=SpecialOverrides(eos_token_ids=(3,))).eos_token_ids == (3,)


def test_overrides_go_before_everything_and_mend_what_is_broken(checkpoint: Any) -> None:
    checkpoint.config(mask_token_id="x", eos_token_id=-1, pad_token_id=[1, 2], bos_token_id=900)
    overrides = SpecialOverrides(mask_token_id=30, eos_token_ids=(31, 32), pad_token_id=33, bos_token_id=34)
    assert resolve(checkpoint, overrides=overrides) == SpecialTokens(30, 34, (31, 32), 33, 8)


def test_published_ids_where_they_fit(bare: Any) -> None:
    bare.config(**NO_IDS)
    tokens = resolve(bare, mask_default=200, eos_default=201, pad_default=202, bos_default=203)
    assert tokens == SpecialTokens(200, 203, (201,), 202, 8)


def test_missing_mask_says_where_it_was_looked_for(bare: Any) -> None:
    write(bare, added_tokens={"other": 7})
    message = message_of(bare, mask_names=("<|mask|>",), mask_default=156895)
    for words in (
        "config.json: mask_token_id: is missing: it is not in config.json or generation_config.json (absent)",
        "no '<|mask|>' has an id in tokenizer.json (absent), added_tokens.json, tokenizer_config.json (absent)",
        "the published 156895 does not fit into vocab_size=256. Give it with --mask-token-id",
    ):
        assert words in message


def test_missing_end(checkpoint: Any) -> None:
    checkpoint.config(eos_token_id=None)
    message = message_of(checkpoint)
    assert "eos_token_id: is missing" in message
    assert message.endswith("Give it with --eos-token-id")


def test_family_without_a_mask(bare: Any) -> None:
    write(bare, tokenizer_config={"mask_token": "<mask>"}, added_tokens={"<mask>": 4})  # a token of that name, but none to denoise
    assert resolve(bare, mask_required=False).mask_token_id is None
    assert resolve(bare, mask_required=False, overrides=SpecialOverrides(mask_token_id=4)).mask_token_id == 4


def test_text_config_is_read_first(checkpoint: Any) -> None:
    section = ConfigFields(checkpoint.path / "config.json", {"eos_token_id": 40, "bos_token_id": 1}, "text_config.")
    tokens = resolve(checkpoint, text_config=section)
    assert tokens.eos_token_ids == (40,)
    assert tokens.notes == (
        "eos_token_id is 40 (text_config.eos_token_id in config.json), against 11 (eos_token_id in config.json). "
        "--eos-token-id sets another.",
    )


def test_config_goes_before_the_tokenizer_and_the_difference_is_noted(checkpoint: Any) -> None:
    write(checkpoint, added_tokens={"<|MASK|>": 101}, tokenizer_config={"mask_token": "<|MASK|>", "pad_token": "<|MASK|>"})
    tokens = resolve(checkpoint)
    assert (tokens.mask_token_id, tokens.pad_token_id) == (100, 101)
    (note,) = tokens.notes
    assert note == (
        "mask_token_id is 100 (mask_token_id in config.json), against 101 (<|MASK|> in added_tokens.json) and "
        "101 (mask_token <|MASK|> in tokenizer_config.json). --mask-token-id sets another."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"mask_token_id": 256}}, "config.json: mask_token_id: is 256, which is not an id of this model (vocab_size is 256)"),
        ({"generation_config": {"pad_token_id": 300}}, "generation_config.json: pad_token_id: is 300"),
        ({"config": {"mask_token_id": None}, "added_tokens": {"[MASK]": 300}}, "added_tokens.json: [MASK]: is 300"),
        ({"overrides": SpecialOverrides(eos_token_ids=(3, 256))}, "--eos-token-id: is 256"),
        ({"overrides": SpecialOverrides(bos_token_id=-1)}, "--bos-token-id: is -1"),
    ],
)
def test_ids_beyond_the_vocabulary(checkpoint: Any, options: dict[str, Any], message: str) -> None:
    overrides = options.pop("overrides", SpecialOverrides())
    checkpoint.config(**options.pop("config", {}))
    write(checkpoint, **options)
    assert message in message_of(checkpoint, overrides=overrides)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("generation_config", "{", "generation_config.json: is not readable JSON"),
        ("generation_config", {"eos_token_id": "x"}, "eos_token_id: is 'x', expected token ids. Correct it, or give --eos-token-id"),
        ("generation_config", {"pad_token_id": [1, 2]}, "pad_token_id: is [1, 2], expected one token id"),
        ("generation_config", {"mask_token_id": True}, "mask_token_id: is True"),
        ("added_tokens", {"<x>": "7"}, "added_tokens.json: <x>: is '7', expected a token id"),
        ("added_tokens", {"<x>": -7}, "added_tokens.json: <x>: is -7"),
        ("added_tokens", [], "added_tokens.json: holds a JSON list, not an object"),
        ("tokenizer", {"added_tokens": 3}, "tokenizer.json: added_tokens: is 3, expected a list"),
        ("tokenizer", {"added_tokens": [{"id": 3}]}, "tokenizer.json: added_tokens: has an entry without id or content"),
        ("tokenizer", {"added_tokens": [{"id": 1.5, "content": "x"}]}, "tokenizer.json: added_tokens: is 1.5"),
        ("tokenizer_config", {"added_tokens_decoder": []}, "tokenizer_config.json: added_tokens_decoder: is [], expected an object"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": {"content": "x"}}}, "added_tokens_decoder: has a malformed entry"),
        ("tokenizer_config", {"added_tokens_decoder": {"7": {}}}, "added_tokens_decoder: has a malformed entry"),
        ("tokenizer_config", {"mask_token": 3}, "tokenizer_config.json: mask_token: is 3, expected a token's text"),
        ("special_tokens_map", {"eos_token": {"content": []}}, "special_tokens_map.json: eos_token: is {'content': []}"),
    ],
)
def test_malformed_files(checkpoint: Any, file: str, content: Any, message: str) -> None:
    write(checkpoint, **{file: content})
    assert message in message_of(checkpoint)


def test_mask_that_ends_the_text(checkpoint: Any) -> None:
    checkpoint.config(mask_token_id=11)
    assert "special tokens: do not fit together: mask_token_id=11 is also an end-of-text id" in message_of(checkpoint)


def test_golden_checkpoint(golden_checkpoint: Path) -> None:
    tokens = resolve_special_tokens(Checkpoint.open(golden_checkpoint), vocab_size=256, block_length=8)
    assert tokens == SpecialTokens(100, 1, (11,), 11, 8)


def test_a_published_id_that_no_file_names_is_noted(golden_copy: Callable[[str], Any]) -> None:
    folder = golden_copy("llada2")
    folder.redraw(vocab_size=157184)
    (folder.path / "added_tokens.json").unlink()
    checkpoint = Checkpoint.open(folder.path)
    tokens = family_of(checkpoint).special_tokens(checkpoint, SpecialOverrides())
    assert tokens.mask_token_id == 156895
    assert "mask_token_id: no file names it; the published 156895 was taken. --mask-token-id sets another." in tokens.notes
