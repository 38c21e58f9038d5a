"""`parity help`: a page on a topic, the help of a command, or the list of topics."""

import argparse
import shutil
import textwrap

from parity.cli.help_pages import TOPICS, page
from parity.cli.terminal import console
from parity.errors import UsageError
from parity.words import did_you_mean


def help_command(arguments: argparse.Namespace) -> int:
    """Print what was asked for; arguments.commands holds the parser of every command, by name.

    Raises UsageError where there is neither such a topic nor such a command.
    """
    topic, commands = arguments.topic, arguments.commands
    if topic is None:
        print(topics_listed())
    elif topic in TOPICS:
        print_page(topic)
    elif topic in commands:
        commands[topic].print_help()
    else:
        near = did_you_mean(topic, [*TOPICS, *commands])
        raise UsageError(f"There is no topic {topic!r}{near}; there are {', '.join(TOPICS)}, and every command.")
    return 0


def print_page(topic: str) -> None:
    """Print a page, laid out on a terminal, and as the Markdown that it is elsewhere."""
    terminal = console()
    if terminal.is_terminal:
        from parity.cli.help_rendering import THEME, Page

        with terminal.use_theme(THEME):
            terminal.print(Page(page(topic)))
    else:
        print(page(topic), end="")


def topics_listed() -> str:
    """A line for each topic, and one for the commands."""
    listed = TOPICS | {"COMMAND": "as parity COMMAND --help"}
    wide, width = max(map(len, listed)), max(shutil.get_terminal_size().columns - 2, 40)
    lines = []
    for name, summary in listed.items():
        label = f"  parity help {name:{wide}}  "
        lines.append(textwrap.fill(summary, width, initial_indent=label, subsequent_indent=" " * len(label)))
    return "\n".join(lines)
