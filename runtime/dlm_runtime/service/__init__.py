"""The gRPC server: wire messages in, lines out. `server` is where it is put together."""
