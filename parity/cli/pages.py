"""The page of a result, where one is asked for."""

import argparse
from pathlib import Path
from typing import Any

from parity.files import write_whole

_FILES = ("--json", "--markdown", "--html")


def write_page(arguments: argparse.Namespace, data: dict[str, Any]) -> None:
    """Write what `--html` asks for, if it does. data: what `--json` writes."""
    if arguments.html:
        from parity.page.result_page import result_page, without  # Jinja2 is needed for nothing else

        write_whole(Path(arguments.html), result_page(data, without(arguments.given, *_FILES)))
