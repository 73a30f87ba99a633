"""Ask a character one question. Start the server first: `dlm-serve`."""

from dlm_runtime.client import NpcClient

with NpcClient("127.0.0.1:50051") as npc:
    line = npc.speak("torvek", "How much for the iron pot?")
    print(line.text)
