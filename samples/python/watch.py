"""Watch a line take shape: every draft replaces the one before. Start the server first: `dlm-serve`."""

from dlm_runtime.client import Draft, Line, NpcClient

with NpcClient("127.0.0.1:50051") as npc:
    for event in npc.stream("torvek", "How much for the iron pot?"):
        if isinstance(event, Draft):
            print("".join(piece.text if piece.frozen else "·" * len(piece.text) for piece in event.pieces))
        elif isinstance(event, Line):
            print(f"{event.text}  ({event.tokens} tokens in {event.forwards} forward passes, {event.total_ms:.0f} ms)")
