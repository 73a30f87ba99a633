"""Real prompts: the tavern's characters and what players ask them, put together as the server does."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.bundle import MANIFEST_NAME, Bundle
from dlm_runtime.demo.crowd import gather
from dlm_runtime.dialogue.prompt import PromptBuilder
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.dialogue.template import ChatTemplate
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.embedded import tavern_characters, tavern_players
from dlm_runtime.errors import BundleError

LINE_TOKENS = 64
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"


@dataclass(frozen=True)
class QualityPrompt:
    """A prompt as token ids, and the words it ends with, for people."""

    text: str
    ids: tuple[int, ...]


def tavern_prompts(bundle: Bundle, count: int) -> list[QualityPrompt]:
    """`count` questions to as many characters, the authored ones first, each with room for a line behind it.

    A model without a chat template gets card and question as plain paragraphs. Raises BundleError where there is no tokenizer, and
    RequestError where a card alone is longer than the context.
    """
    manifest = bundle.manifest
    roster = Roster.load(tavern_characters())
    builder = PromptBuilder(bundle_tokens(bundle), ChatTemplate(manifest.chat_template or PLAIN_TEMPLATE), manifest.max_context)
    prompts: list[QualityPrompt] = []
    for one in gather(roster, tavern_players(), count, seed=0):
        built = builder.build(roster.get(one.character_id), (), one.player_text, LINE_TOKENS)
        prompts.append(QualityPrompt(f"{one.character_name}: {one.player_text}", built.ids))
    return prompts


def bundle_tokens(bundle: Bundle) -> Tokens:
    """The bundle's tokenizer. Raises BundleError where it has none."""
    if bundle.tokenizer_path is None:
        remedy = "Export it from a checkpoint that has a tokenizer.json, or give prompts as token ids"
        raise BundleError(bundle.path / MANIFEST_NAME, "lists no tokenizer.json, so that real prompts cannot be written", remedy)
    return Tokens.from_file(bundle.tokenizer_path)
