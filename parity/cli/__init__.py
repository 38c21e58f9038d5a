"""The command line: `parity.cli:main` is the script `parity`."""

from parity.cli.command_line import main

__all__ = ["main"]
