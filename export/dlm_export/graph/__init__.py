"""The step graph, written node by node with the checkpoint's own names; one file per part, `step` puts them together."""
