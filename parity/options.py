"""One table of options, from which every command and the pytest plugin take those that they have, by name."""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.verdict import FALSE_ALARM

MODES = ("lock-step", "free-running")
ORACLES = ("replay", "python")
CONFIG_SIZES = ("n_layer", "n_embd", "n_head", "block_size")
CONFIG_OPTIONS = (*CONFIG_SIZES, "activation")
HYPER_OPTIONS = ("learning_rate", "beta1", "beta2", "num_steps", "lr_schedule")
"""The fields of Config and Hyper that are options, under the names that they have there."""
STEPS = 20
"""Training steps to compare, if nobody says otherwise."""
DRAWS = ("edges", "training")
"""How the cases of a campaign are drawn."""
MOST_SECONDS = 10_000_000
"""A limit of time that is none: four months, which every clock can count."""

Details = dict[str, Any]
"""What argparse is told of an option: keywords of add_argument."""


def _number(convert: Callable[[str], float], fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """A type for argparse: a number, if it fits."""

    def parsed(text: str) -> float:
        try:
            number = convert(text)
        except ValueError:
            number = math.nan
        if not fits(number):
            raise ArgumentTypeError(f"it must be {what}, not {text!r}")
        return number

    return parsed


def _digits(text: str) -> int:
    if not text.isdecimal():  # int would take signs, spaces and underscores as well
        raise ValueError(text)
    return int(text)


_positive = _number(_digits, lambda number: number >= 1, "a whole number of at least 1")
_several = _number(_digits, lambda number: number >= 2, "a whole number of at least 2")
_whole = _number(_digits, lambda number: number >= 0, "a whole number of at least 0")
_amount = _number(float, lambda number: 0 <= number < math.inf, "a number of at least 0")
_beta = _number(float, lambda number: 0 <= number < 1, "a number of at least 0 and below 1")
_seconds = _number(
    float, lambda number: 0.001 <= number <= MOST_SECONDS, f"a number of seconds between 0.001 and {MOST_SECONDS:,}"
)
_gibibytes = _number(float, lambda number: 0.001 <= number <= 1e6, "a number of GiB between 0.001 and 1,000,000")
_rate = _number(float, lambda number: 0 < number < 1, "a number between 0 and 1")


def _seeds(text: str) -> tuple[int, int | None]:
    """FIRST or FIRST:END."""
    first, colon, end = text.partition(":")
    try:
        seeds = _digits(first), _digits(end) if colon else None
    except ValueError:
        raise ArgumentTypeError(f"it must be a whole number, or two as 0:1000, not {text!r}") from None
    if seeds[1] is not None and seeds[1] <= seeds[0]:
        raise ArgumentTypeError(f"it must end after it begins, not {text!r}")
    return seeds


def _formats() -> list[str]:
    from parity.number_formats import FORMATS

    return list(FORMATS)


def _presets() -> list[str]:
    from reference.config import PRESETS

    return list(PRESETS)


# Choices that are functions are asked for when a command is built: pytest starts without what they import.
OPTIONS: dict[str, Details] = {
    "--names": {"metavar": "FILE", "help": "text file with one document a line (default: the embedded names)"},
    "--steps": {
        "metavar": "N",
        "type": _positive,
        "default": STEPS,
        "help": "training steps to compare (default: %(default)s)",
    },
    "--num-steps": {"metavar": "N", "type": _positive, "help": "where the learning rate reaches 0 (default: 1000)"},
    "--batch-size": {
        "metavar": "N",
        "type": _positive,
        "default": 1,
        "help": "documents a step (default: %(default)s)",
    },
    "--seed": {
        "metavar": "N",
        "type": int,
        "default": 42,
        "help": "of weights and document order (default: %(default)s)",
    },
    "--preset": {
        "choices": _presets,
        "default": "microgpt_200",
        "help": "revision: microgpt_early has squared ReLU, cosine decay, block_size 8 and other betas "
        "(default: %(default)s)",
    },
    **{
        f"--{size.replace('_', '-')}": {"metavar": "N", "type": _positive, "help": f"{size} (default: the preset's)"}
        for size in CONFIG_SIZES
    },
    "--activation": {"choices": ["relu", "relu2"], "help": "relu2 is the square of relu (default: the preset's)"},
    "--learning-rate": {"metavar": "RATE", "type": _amount, "help": "before it falls (default: the preset's, 0.01)"},
    "--lr-schedule": {"choices": ["linear", "cosine"], "help": "how the rate falls to 0 (default: the preset's)"},
    **{
        f"--beta{number}": {"metavar": "BETA", "type": _beta, "help": f"of Adam's {moment} (default: the preset's)"}
        for number, moment in ((1, "m"), (2, "v"))
    },
    "--mode": {"choices": [*MODES, "both"], "default": "both", "help": "(default: %(default)s)"},
    "--only-case": {
        "action": "store_true",
        "help": "leave out the probes: small cases of other sizes, documents, weights and steps, checked besides",
    },
    "--sites": {"action": "store_true", "help": "compare every named intermediate and its gradient, too"},
    "--dtype": {
        "metavar": "FORMAT",
        "choices": _formats,
        "help": "number format for the subject: float64, float32, bfloat16, float16 (default: the subject's own)",
    },
    "--device": {"metavar": "DEVICE", "help": "device for the subject, as torch names it (default: the subject's own)"},
    "--false-alarm": {
        "metavar": "RATE",
        "type": _rate,
        "default": FALSE_ALARM,
        "help": "chance of refusing a correct subject, over all elements compared (default: %(default)s)",
    },
    "--oracle": {
        "choices": list(ORACLES),
        "default": ORACLES[0],
        "help": "compiled replay of the reference's graph, or the reference itself: the same bits "
        "(default: %(default)s)",
    },
    "--truth": {
        "action": "store_true",
        "help": "judge subject and reference by a certified enclosure of the exact result, in lock-step (needs "
        "python-flint: pip install 'microgpt-parity[truth]')",
    },
    "--isolate": {
        "action": "store_true",
        "help": "run a Python subject in a process of its own, as a COMMAND is: it may hang, crash or be killed; "
        "without it, code that is not Python's (a panic, exit() in C) ends the check as well, with its own status",
    },
    "--time-limit": {
        "metavar": "SECONDS",
        "type": _seconds,
        "default": 300,
        "help": "for each answer of the subject; what hangs outside of Python needs --isolate (default: %(default)s)",
    },
    "--memory-limit": {
        "metavar": "GIB",
        "type": _gibibytes,
        "default": 8,
        "help": "for a subject in a process of its own, a COMMAND or one with --isolate (default: %(default)s)",
    },
    "--json": {"metavar": "FILE", "help": "write the result as JSON; - is standard output, in place of the table"},
    "--markdown": {"metavar": "FILE", "help": "write the table as Markdown, too"},
    "--html": {"metavar": "FILE", "help": "write the result as one page for a browser, which needs no network"},
    "--verbose": {
        "action": "store_true",
        "help": "show every mode by itself, too, and of every tensor the smallest error that would be caught",
    },
    "--base": {"metavar": "REV", "default": "HEAD", "help": "git revision to compare with (default: %(default)s)"},
    "--rounds": {
        "metavar": "N",
        "type": _whole,
        "default": 30,
        "help": "timed pairs of steps, 0: none (default: %(default)s)",
    },
    "--fail-slower": {
        "metavar": "RATIO",
        "type": _amount,
        "help": "exit with 1 where a step at head takes more than RATIO times as long as at base, beyond doubt: where "
        "all of the 95 %% interval of the median of the pairs' ratios, by order statistics, lies above RATIO",
    },
    "--accept": {
        "metavar": "REASON",
        "help": "the change is intended: write what base and head compute, and why, to the file of accepted changes; a "
        "gate then passes for this change, on any machine, and for no other: `parity help accept`",
    },
    "--allow-new": {
        "action": "store_true",
        "help": "where base has no such subject, hold head against the reference alone, instead of leaving with status "
        "2",
    },
    "--accepted": {
        "metavar": "FILE",
        "help": "the file of accepted changes (default: parity-accepted.json beside the nearest pyproject.toml, or at "
        "the repository's root)",
    },
    "--against": {
        "metavar": "OTHER",
        "help": "a training's: the factory of another one, which it is to be the same function as",
    },
    "--names-map": {
        "metavar": "FILE",
        "help": "JSON: by a parameter's name, its name in the other training or at base, or a list of those stacked in "
        "it; .T is transposed, [0:8] some of the rows (default: NAMES in the factory's module, or the same names)",
    },
    "--ranks": {
        "metavar": "N",
        "type": _several,
        "help": "run the training in N processes, whose factory deals its documents out as under torchrun, and compare "
        "the tensors of all ranks, shards put together, with --against, a training of one process on all documents",
    },
    "--replicas": {
        "metavar": "N",
        "type": _positive,
        "help": "runs with every operation's rounding, whose spread is a training's noise floor (default: 16)",
    },
    "--mutant": {"metavar": "NAME", "nargs": "+", "help": "only these of the known mistakes (default: all of them)"},
    "--stage": {"metavar": "STAGE", "nargs": "+", "help": "only those of these stages of a step, as attention, Adam"},
    "--list": {
        "action": "store_true",
        "help": "list them instead: stage, place, what is wrong, and the issues and ports where somebody made it",
    },
    "--quick": {
        "action": "store_true",
        "help": "leave out what fixed tolerances would miss, and whether a check places the mistake",
    },
    "--seeds": {
        "metavar": "FIRST[:END]",
        "type": _seeds,
        "help": "from which seed on cases are drawn, 20 of each (200 where --guided), and before which to end, so that "
        "machines can share the work (default: from 0, as many as --cases needs)",
    },
    "--draw": {
        "nargs": "+",
        "metavar": "WAY",
        "choices": list(DRAWS),
        "default": list(DRAWS),
        "help": "which cases: edges are small ones that mostly lie at an edge of sizes, documents, weights or "
        "schedule; training are models of up to 6 layers whose weights were trained for a while (default: both)",
    },
    "--guided": {
        "action": "store_true",
        "help": "climb from case to case: towards the largest z of right subjects, and the smallest of mistakes that "
        "show; the case at the top is kept in the ledger",
    },
    "--workers": {
        "metavar": "N",
        "type": _positive,
        "help": "processes of this machine (default: one for each of its cores)",
    },
    "--ray": {
        "metavar": "ADDRESS",
        "help": "have a Ray cluster do it; auto: the one that this machine is part of (pip install "
        "'microgpt-parity[ray]')",
    },
    "--ledger": {
        "metavar": "FILE",
        "type": Path,
        "default": Path(".parity/campaign.db"),
        "help": "where what is done is noted, and found again (default: %(default)s)",
    },
    "--rungs": {"metavar": "NAMES", "help": "only these, separated by commas (default: every rung)"},
    "--threads": {
        "metavar": "N",
        "type": _positive,
        "help": "for batches; single steps take one (default: every core)",
    },
    "--subject": {
        "metavar": "NAME",
        "help": "path/to/file.py:make, package.module:make, or '-- COMMAND ...' (default: torch_twin.microgpt:make)",
    },
    "--profile": {
        "metavar": "NAME",
        "help": "Hypothesis profile for all properties: dev, ci, thorough (default: for parity.suite that of "
        "PARITY_PROFILE, ci where CI is set, dev otherwise)",
    },
    "--cases": {
        "metavar": "N|PATH",
        "action": "append",
        "default": [],
        "help": "N: how many cases every property draws; PATH: a stored case, or a folder of them, each a test of its "
        "own; may be given twice",
    },
    "--expectations": {
        "metavar": "FILE",
        "help": "lines of `skip PATTERN  # reason` or `xfail PATTERN  # reason`, PATTERN a test's id from its file's "
        "name on, with * and ?",
    },
}

_CASE = (
    "--names --steps --batch-size --seed --preset --n-layer --n-embd --n-head --block-size --activation "
    "--learning-rate --lr-schedule --num-steps --beta1 --beta2 --only-case"
)
_CHECK = "--mode --sites --dtype --device --false-alarm --oracle --truth --isolate --time-limit --memory-limit"
_REPORT = "--json --markdown --html --verbose"
_GROUPS = {
    "check": {
        "the case": _CASE,
        "the check": _CHECK,
        "a training (parity help training)": "--against --names-map --replicas --ranks",
        "the result": _REPORT,
    },
    "replay": {"the check": _CHECK, "the result": _REPORT},
    "gate": {
        "the case": _CASE,
        "the gate": "--base --allow-new --rounds --fail-slower --accept --accepted --markdown --html --dtype --device "
        "--false-alarm --memory-limit --json --time-limit",
        "a training (parity help training)": "--names-map --replicas",
    },
    "ladder": {"the ladder": "--rungs --names --steps --threads --json --markdown"},
    "mutants": {
        "which ones": "--mutant --stage --list",
        "the check": "--dtype --steps --quick",
        "the result": "--json --markdown",
    },
    **{
        f"campaign {action}": {
            "which cases": f"{which} --cases --seeds --draw --guided".strip(),
            "the check": checked,
            "who does it": "--workers --ray --ledger",
            "the result": "--json --markdown",
        }
        for action, which, checked in (
            ("check", "", "--dtype --time-limit"),
            ("calibrate", "", "--dtype --time-limit"),
            ("mutants", "--mutant --stage", "--dtype --time-limit"),
        )
    },
    "campaign show": {"the result": "--json --markdown --cases"},
    "vectors": {"the port": "--dtype"},
    "verify": {"the result": "--json"},
    "pytest": {"parity": "--subject --dtype --device --profile --cases --expectations"},
}
"""Who takes which options, and under which headings its help shows them."""

_DEVIATIONS: dict[tuple[str, str], Details] = {
    **{
        (command, "--steps"): {
            "default": None,
            "help": f"training steps to compare (default: {STEPS}; of a training 3, if its batches last for them)",
        }
        for command in ("check", "gate")
    },
    ("gate", "--time-limit"): {"help": "for each answer of the subject (default: %(default)s)"},
    ("gate", "--markdown"): {
        "help": "append a summary to FILE (default: $GITHUB_STEP_SUMMARY, where GitHub Actions sets it)"
    },
    ("ladder", "--steps"): {"default": 5, "help": "training steps to compare on a rung (default: %(default)s)"},
    ("ladder", "--json"): {
        "help": "write the result as JSON, anew after every rung; - is standard output, in place of the table"
    },
    ("mutants", "--dtype"): {
        "nargs": "+",
        "default": ["float64"],
        "help": "some of float64, float32, bfloat16, float16 (default: float64; all four take some four times as long)",
    },
    ("mutants", "--steps"): {"help": "training steps of the case (default: %(default)s)"},
    **{
        (f"campaign {action}", "--dtype"): {
            "nargs": "+",
            "metavar": "DTYPE",
            "default": None,
            "help": f"some of float64, float32, bfloat16, float16 ({by_itself})",
        }
        for action, by_itself in (
            ("check", "default: the subject's own"),
            ("calibrate", "default: float64 float32 bfloat16"),
            ("mutants", "default: float64"),
        )
    },
    **{
        (f"campaign {action}", "--cases"): {
            "action": "store",
            "metavar": "N",
            "type": _positive,
            "default": None,
            "help": "how many are drawn for each subject and format in each way, in twenties, with --guided in two "
            "hundreds (default: 200)",
        }
        for action in ("check", "calibrate", "mutants")
    },
    **{
        (f"campaign {action}", "--time-limit"): {"help": "for each answer of the subject (default: %(default)s)"}
        for action in ("check", "calibrate", "mutants")
    },
    ("campaign show", "--cases"): {
        "action": "store",
        "metavar": "DIR",
        "type": Path,
        "default": None,
        "help": "write the cases that failed, made small, and those that guided drawing ended at to this folder, for "
        "`parity replay` and pytest --cases DIR",
    },
    ("vectors", "--dtype"): {"help": "number format that the port computes in, float64 or float32 (default: float64)"},
    # An option of pytest that cannot be is refused by the plugin, in one sentence.
    ("pytest", "--dtype"): {"metavar": "DTYPE", "choices": None},
}
"""What an option of the table is to one command alone."""


def option_groups(command: str) -> dict[str, dict[str, Details]]:
    """The options of a command, or of "pytest": by heading and flag, what argparse is to be told."""
    groups = _GROUPS.get(command, {})
    return {heading: {flag: _details(command, flag) for flag in flags.split()} for heading, flags in groups.items()}


def options_of(command: str) -> dict[str, Details]:
    """The same without the headings."""
    return {flag: details for group in option_groups(command).values() for flag, details in group.items()}


def _details(command: str, flag: str) -> Details:
    details = {**OPTIONS[flag], **_DEVIATIONS.get((command, flag), {})}
    choices = details.pop("choices", None)
    return details if choices is None else {**details, "choices": choices() if callable(choices) else choices}
