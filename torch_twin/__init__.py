"""PyTorch versions of the reference: the line-for-line twin, and a file for every technique that makes it faster.

Each module is a rung of the ladder; its `make` is the subject's factory, and its class extends that of the rung which
it builds on. `ranks` and `tools` hold what rungs use and is no rung.
"""
