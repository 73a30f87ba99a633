"""The plain client: calls block."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self, Unpack

import grpc
from dlm_npc.v1 import dialogue_pb2, dialogue_pb2_grpc, world_pb2, world_pb2_grpc

from dlm_runtime.client.errors import errors_translated
from dlm_runtime.client.options import SpeakOptions, line_spec
from dlm_runtime.client.results import Accepted, CharacterInfo, Draft, Line, read_character, read_event, read_line

DEFAULT_TIMEOUT_S = 30.0


class NpcClient:
    """Talks to one server. Threads may share it. Every method raises `NpcError` when the server answers with an error."""

    def __init__(self, address: str = "127.0.0.1:50051", timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """`timeout_s` is the deadline of every call, in seconds; None waits for ever. Connecting happens at the first call."""
        self._channel = grpc.insecure_channel(address)
        self._timeout_s = timeout_s
        self._dialogue = dialogue_pb2_grpc.DialogueServiceStub(self._channel)
        self._world = world_pb2_grpc.WorldServiceStub(self._channel)

    def speak(self, character_id: str, player_text: str, **options: Unpack[SpeakOptions]) -> Line:
        """The whole line, once it is finished."""
        request = dialogue_pb2.SpeakRequest(line=line_spec(character_id, player_text, options))
        with errors_translated():
            return read_line(self._dialogue.Speak(request, timeout=self._timeout_s).line)

    def stream(self, character_id: str, player_text: str, **options: Unpack[SpeakOptions]) -> Iterator[Accepted | Draft | Line]:
        """`Accepted`, then `Draft`s, each replacing the one before, then the `Line`. Leaving the loop early cancels the call."""
        request = dialogue_pb2.SpeakStreamRequest(line=line_spec(character_id, player_text, options))
        call = self._dialogue.SpeakStream(request, timeout=self._timeout_s)
        try:
            with errors_translated():
                for message in call:
                    if (event := read_event(message)) is not None:
                        yield event
        finally:
            call.cancel()

    def characters(self) -> list[CharacterInfo]:
        """All characters that can speak, in the order of their ids."""
        with errors_translated():
            answer = self._world.ListCharacters(world_pb2.ListCharactersRequest(), timeout=self._timeout_s)
        return [read_character(message) for message in answer.characters]

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
