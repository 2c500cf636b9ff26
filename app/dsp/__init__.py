"""The pure core: pipelines, stages, the engine and snapshots.

Nothing here has a clock, does I/O, logs or awaits; it imports numpy, scipy, msgspec and the standard library
alone (and `app.dsp.fused.kernel` numba, where that is installed), so that a worker, an on-demand function and
a test all run the same code.
"""
