"""A port's side of `lines` in Python, which needs the standard library alone: it is copied beside the port."""

import sys
import time

tokens: list[int] = []
_step, _given, _started = 0, None, 0.0


def _numbers():
    return list(map(float, sys.stdin.readline().split()))


def _say(name, values):
    print(f"\nparity {name}", *map(repr, values))


def next_step(params, m, v):
    """Wait for the next step, and give its number; a state that was loaded is in place."""
    global tokens, _step, _given, _started
    while line := sys.stdin.readline():
        word, *values = line.split()
        if word == "load":
            _step = int(values[0])
            for p, x in zip(params, _numbers(), strict=True):
                p.data = x
            m[:], v[:] = _numbers(), _numbers()
            continue
        tokens = list(map(int, values))
        _given = _numbers() if word == "update" else None
        _started = time.perf_counter()
        _step += 1
        return _step - 1
    sys.exit()


def logits(values):
    """Of a position."""
    _say("logits", [value.data for value in values])


def gradients(params):
    """Those that backward gave; those that the parent gave take their place."""
    _say("grads", [p.grad for p in params])
    for p, g in zip(params, _given or ()):
        p.grad = g


def answer(loss, params, m, v):
    """After the update."""
    _say("seconds", [time.perf_counter() - _started])
    _say("loss", [loss])
    _say("params", [p.data for p in params])
    _say("m", m)
    _say("v", v)
    print("\nparity done", flush=True)
