"""The wire format of dlm-npc. The messages and services live in `dlm_npc.v1`."""
