"""The parser of the command line: what is wrong in one sentence, with what was probably meant, and completion."""

import argparse
import sys
from typing import Any, NoReturn

from typing_extensions import override

from parity.cli.help_command import print_page
from parity.cli.streams import complain
from parity.errors import UsageError
from parity.words import did_you_mean

SHELLS = ("bash", "zsh", "tcsh")


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line, and points to the help of the command that was given."""

    @override
    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")

    @override
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Argparse has no public way to say what was probably meant.
        known = action.choices
        if known is not None and value not in known:
            near = did_you_mean(str(value), map(str, known))
            choices = ", ".join(map(str, known))
            raise argparse.ArgumentError(action, f"there is no {value!r}{near}; there are {choices}")

    @override
    def _print_message(self, message: str, file: Any = None) -> None:
        # Argparse's own hides that standard output is full.
        if file is sys.stdout:
            print(message, end="")
        else:
            complain(message.removesuffix("\n"))

    def refuse(self, rest: list[str]) -> NoReturn:
        """The error for words that nothing takes."""
        unknown = next((word for word in rest if word.startswith("-")), None)
        if unknown is None:
            self.error(f"unrecognized arguments: {' '.join(rest)}; a command stands after --")
        known = [flag for action in self._actions for flag in action.option_strings]
        self.error(f"there is no option {unknown}{did_you_mean(unknown.partition('=')[0], known)}")


class HelpProtocol(argparse.Action):
    """Print the protocol's page."""

    @override
    def __call__(self, *_: Any) -> None:
        """Leave as --help does."""
        print_page("protocol")
        raise SystemExit(0)


class Completion(argparse.Action):
    """Print a script that teaches a shell to complete the command line."""

    @override
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Leave as --help does; UsageError where shtab, which knows the shells, is not installed."""
        try:
            import shtab
        except ImportError:
            raise UsageError("Completion needs shtab: pip install 'microgpt-parity[completion]'.") from None
        _complete_files(parser, {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY})
        print(shtab.complete(parser, values))
        raise SystemExit(0)


def _complete_files(parser: argparse.ArgumentParser, kinds: dict[str, Any]) -> None:
    """Tell shtab which arguments are files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_files(subparser, kinds)
        elif isinstance(action.metavar, str):
            kind = "FILE" if action.metavar == "SUBJECT" or action.metavar.endswith(".json") else action.metavar
            if kind in kinds:
                action.complete = kinds[kind]  # type: ignore[attr-defined]
