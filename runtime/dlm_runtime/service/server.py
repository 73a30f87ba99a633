"""The server's life: listen, warm up, serve, drain."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import grpc
from dlm_npc.v1 import dialogue_pb2, world_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dlm_runtime.errors import DlmError
from dlm_runtime.service.dialogue import DialogueServicer
from dlm_runtime.service.gate import Gate
from dlm_runtime.service.handlers import service_handler
from dlm_runtime.service.speaker import Speaker
from dlm_runtime.service.warm_up import warm_up
from dlm_runtime.service.world import WorldServicer

MAX_MESSAGE_BYTES = 1024 * 1024
_FLUSH_S = 1.0
_CHANNEL_OPTIONS = [
    ("grpc.so_reuseport", 0),  # two servers on one port would share its calls by chance
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),  # a client that vanished without a word frees its rows
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
]
_SERVICES = (dialogue_pb2.DESCRIPTOR.services_by_name["DialogueService"], world_pb2.DESCRIPTOR.services_by_name["WorldService"])
_log = logging.getLogger(__name__)


class ListenError(DlmError):
    """The address cannot be listened on."""


@dataclass(frozen=True)
class Address:
    """Where to listen. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"{self.port=} must be from 0 to 65535")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NpcServer:
    """A gRPC server around a speaker. Make it on the event loop that shall run it; the scheduler stays the caller's to start and close."""

    def __init__(self, speaker: Speaker, address: Address = Address()) -> None:
        self._speaker = speaker
        self._wanted = address
        self.gate = Gate()
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]  # its stubs leave `aio` out
        self._server = grpc.aio.server(options=_CHANNEL_OPTIONS)
        servicers = (DialogueServicer(speaker), WorldServicer(speaker.roster))
        handlers = [service_handler(service, servicer, self.gate) for service, servicer in zip(_SERVICES, servicers, strict=True)]
        self._server.add_generic_rpc_handlers(tuple(handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.full_name for service in _SERVICES]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def listen(self) -> Address:
        """Answer on the wire: health says NOT_SERVING and calls are told to wait. Raises `ListenError` when the address is taken."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            port = self._server.add_insecure_port(str(self._wanted))
        except RuntimeError as error:
            raise ListenError(f"cannot listen on {self._wanted}: choose another --port (0 takes a free one) or --host") from error
        await self._server.start()
        return Address(self._wanted.host, port)

    async def serve(self) -> None:
        """Warm the model up, then let calls in. Raises what the engine raises."""
        await warm_up(self._speaker)
        self.gate.open()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, drain_s: float) -> bool:
        """Let no more calls in, let running ones end within `drain_s`, cut the rest off. False when some were cut off.

        Cancelled while it waits, it cuts off at once.
        """
        self.gate.close()
        drained = False
        try:
            await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
            drained = await self.gate.wait_empty(drain_s)
        finally:
            if not drained:
                _log.warning("%d calls are not done and are cut off (the drain limit is %s s)", self.gate.inside, drain_s)
                self._speaker.cut_off()
            await self._server.stop(_FLUSH_S)
        return drained

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *(service.full_name for service in _SERVICES)):
            await self._health.set(name, status)
