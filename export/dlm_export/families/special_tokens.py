"""Special token ids, wherever a checkpoint keeps them.

Order: what the caller gave, config.json, generation_config.json, the tokenizer files, the id that the family was published with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint import CONFIG_FILE, Checkpoint
from ..errors import CheckpointError
from .config_fields import ConfigFields
from .family import NO_OVERRIDES, FamilyFacts, SpecialOverrides, SpecialTokens
from .token_files import ADDED_FILE, MAP_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TokenFiles, first_id, read_token_files

GENERATION_FILE = "generation_config.json"
FLAG_OF = {role: f"--{role}-token-id" for role in ("mask", "eos", "pad", "bos")}


@dataclass(frozen=True)
class Finding:
    """Ids for a role, and where they stand: a file and what in it."""

    ids: tuple[int, ...]
    file: Path
    item: str

    def __str__(self) -> str:
        return f"{', '.join(str(item) for item in self.ids)} ({self.item} in {self.file.name})"


@dataclass(frozen=True)
class Wanted:
    """One role: `names` are the spellings a family gives its token, `default` the published ids, `in_tokenizer` whether to look there."""

    role: str
    override: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    default: tuple[int, ...] = ()
    in_tokenizer: bool = True

    @property
    def field(self) -> str:
        """The role's name in config files."""
        return f"{self.role}_token_id"


def resolve_special_tokens(
    checkpoint: Checkpoint,
    *,
    vocab_size: int,
    block_length: int,
    overrides: SpecialOverrides = NO_OVERRIDES,
    text_config: ConfigFields | None = None,
    mask_names: tuple[str, ...] = (),
    eos_names: tuple[str, ...] = (),
    pad_names: tuple[str, ...] = (),
    bos_names: tuple[str, ...] = (),
    stop_names: tuple[str, ...] = (),
    mask_default: int | None = None,
    eos_default: int | None = None,
    pad_default: int | None = None,
    bos_default: int | None = None,
    mask_required: bool = True,
    defaults_follow: bool = True,
) -> SpecialTokens:
    """The special tokens of a checkpoint.

    `*_names` are spellings in the order in which they are tried; `stop_names` are tokens that end a turn: those the tokenizer knows are
    put behind the end-of-text ids, unless the caller gave these. `text_config` is a section of config.json to be read before its top
    level. `mask_required=False` is for families that denoise from random tokens: the tokenizer is then not asked for a mask, and none is
    fine. `defaults_follow=False` says that the defaults are ids of a published vocabulary, which this one need not be, so that taking one
    is noted; else they follow from its size. A missing pad id is the first end-of-text id. Notes say where the checkpoint's files
    disagree. Raises CheckpointError where an id is missing, malformed or beyond `vocab_size`.
    """
    search = Search(checkpoint, vocab_size, text_config, read_token_files(checkpoint), note_defaults=not defaults_follow)
    mask = search.find(Wanted("mask", one(overrides.mask_token_id), mask_names, one(mask_default), in_tokenizer=mask_required))
    eos = search.find(Wanted("eos", overrides.eos_token_ids or (), eos_names, one(eos_default)))
    pad = search.find(Wanted("pad", one(overrides.pad_token_id), pad_names, one(pad_default)))
    bos = search.find(Wanted("bos", one(overrides.bos_token_id), bos_names, one(bos_default)))
    if not mask and mask_required:
        raise search.missing(Wanted("mask", names=mask_names, default=one(mask_default)))
    if not eos:
        raise search.missing(Wanted("eos", names=eos_names, default=one(eos_default)))
    stops = () if overrides.eos_token_ids else search.stop_ids(stop_names)
    try:
        return SpecialTokens(
            mask_token_id=mask[0] if mask else None,
            bos_token_id=bos[0] if bos else None,
            eos_token_ids=tuple(dict.fromkeys(eos + stops)),
            pad_token_id=pad[0] if pad else eos[0],
            block_length=block_length,
            notes=tuple(search.notes),
        )
    except ValueError as error:
        remedy = f"Correct config.json, or give {FLAG_OF['mask']} and {FLAG_OF['eos']}"
        raise CheckpointError(checkpoint.path, f"do not fit together: {error}", remedy, item="special tokens") from error


def family_tokens(checkpoint: Checkpoint, facts: FamilyFacts, overrides: SpecialOverrides, *, vocab_size: int) -> SpecialTokens:
    """`resolve_special_tokens` by a family's constants."""
    fields = ConfigFields(checkpoint.path / CONFIG_FILE, checkpoint.config)
    return resolve_special_tokens(
        checkpoint,
        vocab_size=vocab_size,
        block_length=fields.integer(facts.block_field, facts.block_length, least=1) if facts.block_field else facts.block_length,
        overrides=overrides,
        mask_names=facts.mask_names,
        eos_names=facts.eos_names,
        stop_names=facts.stop_names,
        mask_default=facts.published_mask_id,
        eos_default=facts.published_eos_id,
        defaults_follow=False,
    )


class Search:
    """Looks ids up in one checkpoint, and keeps a note of every disagreement."""

    def __init__(
        self, checkpoint: Checkpoint, vocab_size: int, text_config: ConfigFields | None, files: TokenFiles, *, note_defaults: bool = False
    ) -> None:
        self._note_defaults = note_defaults
        self._checkpoint, self._vocab_size, self._files = checkpoint, vocab_size, files
        root = ConfigFields(checkpoint.path / CONFIG_FILE, checkpoint.config)
        generation = ConfigFields(checkpoint.path / GENERATION_FILE, checkpoint.json(GENERATION_FILE) or {})
        self._fields = [fields for fields in (text_config, root, generation) if fields is not None]
        self.notes: list[str] = []

    def find(self, wanted: Wanted) -> tuple[int, ...]:
        """The ids of a role, empty where nothing says them. What config files say is not looked at where there is an override."""
        if wanted.override:
            return self._checked(Finding(wanted.override, self._checkpoint.path, FLAG_OF[wanted.role]), "Give an id of the vocabulary")
        findings = [*with_every_end(list(self._configured(wanted))), *(self._spelled(wanted) if wanted.in_tokenizer else ())]
        if not findings:
            return self._published(wanted)
        used, *others = findings
        ids = self._checked(used, f"Correct it, or give {FLAG_OF[wanted.role]}")
        differing = [str(other) for other in others if not set(other.ids) <= set(ids)]
        if differing:
            said = " and ".join(dict.fromkeys(differing))
            self.notes.append(f"{wanted.field} is {used}, against {said}. {FLAG_OF[wanted.role]} sets another.")
        return ids

    def _published(self, wanted: Wanted) -> tuple[int, ...]:
        """The family's own id, if it has one and this vocabulary is large enough for it."""
        if not wanted.default or not all(item < self._vocab_size for item in wanted.default):
            return ()
        if self._note_defaults:
            said = ", ".join(str(item) for item in wanted.default)
            self.notes.append(f"{wanted.field}: no file names it; the published {said} was taken. {FLAG_OF[wanted.role]} sets another.")
        return wanted.default

    def stop_ids(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Ids of those spellings that the tokenizer files know and the model has."""
        found = (self._files.id_of(name) for name in names)
        return tuple(item for item in found if item is not None and item < self._vocab_size)

    def missing(self, wanted: Wanted) -> CheckpointError:
        """The error for a role that nothing says: where it was looked for, and the flag that mends it."""
        configs = " or ".join(self._present(name) for name in (CONFIG_FILE, GENERATION_FILE))
        spelled = " or ".join(repr(name) for name in wanted.names) or f"{wanted.role}_token"
        files = ", ".join(self._present(name) for name in (TOKENIZER_FILE, ADDED_FILE, TOKENIZER_CONFIG_FILE, MAP_FILE))
        problem = f"is missing: it is not in {configs}, and no {spelled} has an id in {files}"
        if wanted.default:
            ids = ", ".join(str(item) for item in wanted.default)
            problem += f"; the published {ids} does not fit into vocab_size={self._vocab_size}"
        return CheckpointError(self._checkpoint.path / CONFIG_FILE, problem, f"Give it with {FLAG_OF[wanted.role]}", item=wanted.field)

    def _configured(self, wanted: Wanted) -> Iterator[Finding]:
        for fields in self._fields:
            item, remedy = fields.prefix + wanted.field, f"Correct it, or give {FLAG_OF[wanted.role]}"
            try:
                ids = fields.token_ids(wanted.field)
            except CheckpointError as error:
                raise CheckpointError(fields.file, error.problem, remedy, item=item) from None
            if len(ids) > 1 and wanted.role != "eos":
                raise CheckpointError(fields.file, f"is {list(ids)}, expected one token id", remedy, item=item)
            if ids:
                yield Finding(ids, fields.file, item)

    def _spelled(self, wanted: Wanted) -> Iterator[Finding]:
        for name, table in self._files.ids.items():
            named = first_id(table, wanted.names)
            if named is not None:
                yield Finding((named[1],), self._checkpoint.path / name, named[0])
        for name, spellings in self._files.roles.items():
            spelling = spellings.get(f"{wanted.role}_token")
            known = None if spelling is None else self._files.id_of(spelling)
            if known is not None:
                yield Finding((known,), self._checkpoint.path / name, f"{wanted.role}_token {spelling}")

    def _checked(self, finding: Finding, remedy: str) -> tuple[int, ...]:
        for item in finding.ids:
            if not 0 <= item < self._vocab_size:
                problem = f"is {item}, which is not an id of this model (vocab_size is {self._vocab_size})"
                raise CheckpointError(finding.file, problem, remedy, item=finding.item)
        return finding.ids

    def _present(self, name: str) -> str:
        return name if (self._checkpoint.path / name).is_file() else f"{name} (absent)"


def with_every_end(findings: list[Finding]) -> list[Finding]:
    """The config files' findings, the first completed by a later one that lists the same ids and more, as generation_config.json may."""
    if not findings:
        return []
    first, *later = findings
    longer = next((other for other in later if set(other.ids) > set(first.ids)), None)
    return findings if longer is None else [longer, *(other for other in later if other is not longer)]


def one(item: int | None) -> tuple[int, ...]:
    """No id or one."""
    return () if item is None else (item,)
