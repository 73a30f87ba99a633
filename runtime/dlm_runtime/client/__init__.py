"""A client in Python: `NpcClient` for plain code, `AsyncNpcClient` for asyncio."""

from dlm_runtime.client.aio import AsyncNpcClient
from dlm_runtime.client.errors import NpcError
from dlm_runtime.client.options import SpeakOptions
from dlm_runtime.client.results import Accepted, CharacterInfo, Draft, DraftPiece, Line, Mode
from dlm_runtime.client.sync import NpcClient

__all__ = ["Accepted", "AsyncNpcClient", "CharacterInfo", "Draft", "DraftPiece", "Line", "Mode", "NpcClient", "NpcError", "SpeakOptions"]
