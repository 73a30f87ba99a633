"""WorldService. Its methods are documented in `world.proto`."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_npc.v1.world_pb2 import ListCharactersRequest, ListCharactersResponse

from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.service.handlers import Context
from dlm_runtime.service.messages import character_message


@dataclass(frozen=True)
class WorldServicer:
    """Answers the calls of WorldService."""

    roster: Roster

    async def ListCharacters(self, request: ListCharactersRequest, context: Context) -> ListCharactersResponse:
        return ListCharactersResponse(characters=[character_message(character) for character in self.roster])
