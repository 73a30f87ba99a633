"""Where the tavern is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from dlm_runtime import embedded
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.errors import BundleError


def test_the_package_comes_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_PACKAGE", tmp_path / "package")
    monkeypatch.setattr(embedded, "_CHECKOUT", tmp_path / "checkout")
    with pytest.raises(BundleError, match="the embedded tavern is not in this installation"):
        embedded.tavern_bundle()
    for root in ("checkout", "package"):
        folder = tmp_path / root / "bundle"
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
        assert embedded.tavern_bundle() == folder


def test_the_taverns_characters_are_all_right() -> None:
    roster = Roster.load(embedded.tavern_characters())
    assert len(roster) == 32
    for character in roster:
        assert character.card.startswith(f"name: {character.name}\ntrade: {character.trade}\nvoice: {character.voice}\n")
