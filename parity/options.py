"""One table of options: what a check needs to know, for the command line and for whoever else asks for it."""

import math
from argparse import ArgumentTypeError
from typing import Any

from parity.number_formats import FORMATS
from parity.verdict import FALSE_ALARM
from reference.config import PRESETS


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"it must be a whole number of at least 1, not {text!r}")
    return int(text)


def whole(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"it must be a whole number of at least 0, not {text!r}")
    return int(text)


def amount(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"it must be a number above 0, not {text!r}")
    return number


def rate(text: str) -> float:
    """A number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise ArgumentTypeError(f"it must be a number between 0 and 1, not {text!r}")
    return number


MODES = ("lock-step", "free-running")
ORACLES = ("replay", "python")
SIZES = ("n_layer", "n_embd", "n_head", "block_size")

CASE_OPTIONS: dict[str, dict[str, Any]] = {
    "--names": {"metavar": "FILE", "help": "text file with one document a line (default: the embedded names)"},
    "--steps": {"metavar": "N", "type": positive, "default": 20, "help": "training steps to compare (default: 20)"},
    "--num-steps": {"metavar": "N", "type": positive, "help": "where the learning rate reaches 0 (default: 1000)"},
    "--batch-size": {"metavar": "N", "type": positive, "default": 1, "help": "documents a step (default: 1)"},
    "--seed": {"metavar": "N", "type": int, "default": 42, "help": "of weights and document order (default: 42)"},
    "--preset": {
        "choices": list(PRESETS),
        "default": "microgpt_200",
        "help": "revision: microgpt_early has "
        "squared ReLU, cosine decay, block_size 8 and other betas (default: microgpt_200)",
    },
    **{
        f"--{size.replace('_', '-')}": {"metavar": "N", "type": positive, "help": f"{size} (default: the preset's)"}
        for size in SIZES
    },
}

CHECK_OPTIONS: dict[str, dict[str, Any]] = {
    "--mode": {"choices": [*MODES, "both"], "default": "both", "help": "(default: both)"},
    "--sites": {"action": "store_true", "help": "compare every named intermediate and its gradient, too"},
    "--dtype": {"choices": list(FORMATS), "help": "number format for the subject (default: the subject's own)"},
    "--device": {"metavar": "DEVICE", "help": "device for the subject, as torch names it (default: the subject's own)"},
    "--false-alarm": {
        "metavar": "RATE",
        "type": rate,
        "default": FALSE_ALARM,
        "help": f"chance of refusing a correct subject, over all elements compared (default: {FALSE_ALARM})",
    },
    "--oracle": {
        "choices": list(ORACLES),
        "default": "replay",
        "help": "compiled replay of the reference's graph, or the reference itself: the same bits (default: replay)",
    },
    "--truth": {
        "action": "store_true",
        "help": "judge subject and reference by a certified enclosure of the exact result, in lock-step",
    },
    "--isolate": {
        "action": "store_true",
        "help": "run a Python subject in a process of its own, as a COMMAND is: it may hang, crash or be killed",
    },
    "--time-limit": {
        "metavar": "SECONDS",
        "type": amount,
        "default": 300.0,
        "help": "for each answer of the subject; what hangs outside of Python needs --isolate (default: 300)",
    },
    "--memory-limit": {
        "metavar": "GIB",
        "type": amount,
        "default": 8.0,
        "help": "for a subject in a process of its own (default: 8)",
    },
    "--json": {"metavar": "FILE", "help": "write the result as JSON; - is standard output, in place of the table"},
}

LADDER_OPTIONS: dict[str, dict[str, Any]] = {
    "--rungs": {"metavar": "NAMES", "help": "only these, separated by commas (default: every rung)"},
    "--names": CASE_OPTIONS["--names"],
    "--steps": {**CASE_OPTIONS["--steps"], "default": 5, "help": "training steps to compare on a rung (default: 5)"},
    "--threads": {"metavar": "N", "type": positive, "help": "for batches; single steps take one (default: every core)"},
    "--json": {
        "metavar": "FILE",
        "help": "write the result as JSON, anew after every rung; - is standard output, in place of the table",
    },
    "--markdown": {"metavar": "FILE", "help": "write the table as Markdown, too"},
}

GATE_OPTIONS: dict[str, dict[str, Any]] = {
    "--base": {"metavar": "REV", "default": "HEAD", "help": "git revision to compare with (default: HEAD)"},
    "--rounds": {"metavar": "N", "type": whole, "default": 30, "help": "timed pairs of steps, 0: none (default: 30)"},
    "--markdown": {
        "metavar": "FILE",
        "help": "append a summary to FILE (default: $GITHUB_STEP_SUMMARY, where GitHub Actions sets it)",
    },
    **{flag: CHECK_OPTIONS[flag] for flag in ("--dtype", "--device", "--false-alarm", "--memory-limit", "--json")},
    "--time-limit": {**CHECK_OPTIONS["--time-limit"], "help": "for each answer of the subject (default: 300)"},
}
