"""Rungs that are trainings over ranks: one technique a file, each to be the same function as `single` of one process.

parity check --ranks 2 parity.ladder.parallel.pipeline:make --against parity.ladder.parallel.pipeline:of_one_process
"""
