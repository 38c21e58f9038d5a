"""Shadows: a program of PyTorch run in exact arithmetic behind its own number formats, or with their rounding.

A shadow says that it has the number format that the program asked for, so that promotion, autocast, `.float()` and
fused optimizers behave as always, and holds float64 inside. `Execution()` computes what the program would in exact
arithmetic; `Execution(Noise(seed))` moves the result of every operation at random by what its own format rounds. Over
some such replicas the spread of each result is its noise floor, with nothing declared.
"""
