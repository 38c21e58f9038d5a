"""`parity new-subject`: a skeleton to fill in, or a worked example to start from."""

import argparse
from pathlib import Path

from parity.errors import UsageError

EXAMPLES = {
    "numpy": ("numpy_port.py", "Run: parity check {file}:make"),
    "module": ("module_port.py", "Run: parity check {file}:make"),
    "training": ("training.py", "Run: parity check {file}:make"),
    "c": ("port.c", "Run: cc -O2 -o port {file} -lm && parity check -- ./port"),
}
"""Worked examples of subjects: the file of each, and what to do with a copy."""


def new_subject_command(arguments: argparse.Namespace) -> int:
    """`parity new-subject`."""
    from rich.text import Text

    from parity.cli.terminal import show
    from parity.subjects import skeleton

    file: Path = arguments.file
    if arguments.example:
        name, advice = EXAMPLES[arguments.example]
        text, ending = _example(name), Path(name).suffix
    else:
        text, ending = Path(skeleton.__file__).read_text(encoding="utf-8").replace("my_port.py", str(file)), ".py"
        advice = "Fill in what is marked TODO, then run: parity check {file}:make"
    if file.suffix != ending:
        raise UsageError(
            f"new-subject writes a file whose name ends in {ending} here, not {file}. "
            "A subject in another language speaks the protocol of `parity help protocol`."
        )
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists already, and is left as it is.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    show(Text(f"Wrote {file}. {advice.format(file=file)}"))
    return 0


def _example(name: str) -> str:
    """A worked example: in an installed package beside it, in the repository among the tests, which run it."""
    home = Path(__file__).parents[1]
    places = (home / "examples" / name, home.parent / "tests" / "examples" / name)
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")
