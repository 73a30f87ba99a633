"""A command group where one command needs no name."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "export"


class DefaultCommandGroup(TyperGroup):
    """Reads `dlm-export CHECKPOINT --out DIR` as `dlm-export export CHECKPOINT --out DIR`.

    The first word decides: a command's name or one of the group's own options (`--help`) is taken as such, all else belongs to `export`.
    A checkpoint folder that is called like a command is given as `./inspect`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where none is given."""
        own_options = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own_options:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
