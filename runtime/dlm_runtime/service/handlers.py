"""Ties a service's descriptor to the methods of an object: reading, admission and error status in one place for all methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from dlm_runtime.service.gate import Gate
from dlm_runtime.service.status import abort
from dlm_runtime.service.wire import parse

Context = grpc.aio.ServicerContext


def service_handler(descriptor: ServiceDescriptor, servicer: object, gate: Gate) -> grpc.GenericRpcHandler:
    """Serve every method of `descriptor` with the method of the same name of `servicer`."""
    handlers = {}
    for method in descriptor.methods:
        make = _stream_handler if method.server_streaming else _unary_handler
        handlers[method.name] = make(getattr(servicer, method.name), GetMessageClass(method.input_type), gate)
    return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)


def _unary_handler(method: Callable[[Any, Context], Awaitable[Message]], kind: type[Message], gate: Gate) -> grpc.RpcMethodHandler:
    async def call(data: bytes, context: Context) -> Message:
        try:
            with gate.entered():
                return await method(parse(kind, data), context)
        except Exception as error:  # cancellation is no Exception and passes through
            await abort(context, error)

    return grpc.unary_unary_rpc_method_handler(call, None, _serialize)


def _stream_handler(method: Callable[[Any, Context], AsyncIterator[Message]], kind: type[Message], gate: Gate) -> grpc.RpcMethodHandler:
    async def call(data: bytes, context: Context) -> None:
        try:
            with gate.entered():
                # Closed before the call ends, so that a client that goes away frees its row at once; the methods are generators all.
                async with aclosing(method(parse(kind, data), context)) as events:  # pyright: ignore[reportArgumentType]
                    async for event in events:
                        await context.write(event)
        except Exception as error:
            await abort(context, error)

    return grpc.unary_stream_rpc_method_handler(call, None, _serialize)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
