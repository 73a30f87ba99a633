"""Engines: what TensorRT for RTX, or full TensorRT, builds of a bundle's graphs. docs/engines.md says how, and what that takes.

The library is loaded in a process of its own (`build_process`), for its parser may abort; everything else here is plain Python.
"""
