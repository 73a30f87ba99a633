"""`dlm::ParallelUnmask` as two Triton kernels: one reads the logits once and measures, one small one decides what to commit.

`measure` and `commit` are the kernels, `launch` calls them on torch tensors, `compile` makes PTX and cubins ahead of time,
`check` compares with the test vectors. Needs the extra `triton` (Linux); nothing of the runtime does.
"""
