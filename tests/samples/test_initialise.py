"""The initial weights can already look things up, and the corpus says truly where facts stand."""

import numpy as np
import torch
from dlm_export.backbones.denoiser import Denoiser
from tavern_model.checkpoint import model_config
from tavern_model.initialise import initialise
from tavern_model.objective import IGNORE, Noise, collate, joint_loss, pack
from tavern_model.samples import SampleMaker
from tavern_model.tokens import END, MASK, PAD, train_tokenizer


def test_untrained_weights_answer_recall_drills_far_better_than_chance() -> None:
    maker = SampleMaker(train_tokenizer(500), np.random.default_rng(0))
    ids = maker.special
    rows = [pack(maker.drill(), 256, Noise(ids[MASK], 8), ids[END], maker.rng) for _ in range(4)]
    torch.manual_seed(0)
    model = Denoiser(model_config(maker.tokenizer.get_vocab_size()))
    initialise(model)
    batch = collate(rows, ids[PAD])
    with torch.no_grad():
        hidden, _ = model.hidden(batch.tokens, batch.positions, batch.mask)
        report = joint_loss(hidden, model.head, batch, 0.3).report
    assert report["ar_copied"] > 0.25


def test_the_source_of_a_copied_token_is_that_token_on_the_card() -> None:
    maker = SampleMaker(train_tokenizer(500), np.random.default_rng(1))
    ids, copied = maker.special, 0
    for sample in [*(maker.villager() for _ in range(40)), *(maker.drill() for _ in range(5))]:
        row = pack(sample, 512, Noise(ids[MASK], 32), ids[END], maker.rng)
        for target, source in zip(row.targets, row.sources, strict=True):
            if source != IGNORE:
                copied += 1
                assert row.tokens[source] == target
    assert copied > 300


def test_names_are_one_token_a_syllable_and_numbers_one_token() -> None:
    tokenizer = train_tokenizer(3000)
    for text, count in ((" Torvek", 2), (" Kelmar", 2), (" 7", 1), (" 42", 1)):
        assert len(tokenizer.encode("at" + text, add_special_tokens=False).ids) == count + 1, text


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = train_tokenizer(300)
    for text in ("Gr\u00fc\u00dfe, \u65e5\u672c!", "name: Torvek\ntrade: smith", "  two  spaces ", "<|end|"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids).strip() == text.strip()
