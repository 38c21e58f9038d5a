"""`parity report`."""

import argparse
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

from parity.cli.streams import complain
from parity.errors import UsageError
from parity.files import require_folder, require_writable, write_whole

RUNS = {"twin": "about a minute", "ladder": "some ten minutes", "mutants": "some fifteen minutes"}
"""The stored results that the command can make, and how long that takes on two cores."""


def report_command(arguments: argparse.Namespace) -> int:
    """Write the page of the stored evidence, of which some is made first if that is asked for."""
    from parity.page.evidence_page import evidence_page
    from parity.page.stored import read

    if arguments.names and arguments.run_results is None:
        raise UsageError("--names is for --run: stored results have had their documents.")
    if arguments.run_results is not None:
        if arguments.results is None:
            raise UsageError("--run needs --results DIR, a folder that what is made is kept in.")
        require_writable(arguments.results / "twin.json")
        require_folder(arguments.results)
        arguments.results.mkdir(exist_ok=True)
        wanted = [name for name in RUNS if name in (arguments.run_results or ["twin"])]
        for number, name in enumerate(wanted, 1):
            complain(f"Making {name}.json, {number} of {len(wanted)}, which takes {RUNS[name]}.")
            _make(name, arguments)
    stored = read(arguments.results)
    page = evidence_page(stored)
    write_whole(arguments.out, page)
    names = ", ".join(f"{name}.json" for name in stored.results)
    print(f"Wrote {arguments.out} ({len(page.encode()) / 2**10:,.0f} KiB) from {names} in {stored.folder}.")
    return 0


def _make(name: str, arguments: argparse.Namespace) -> None:
    """One of the results, into the folder of the others."""
    file: Path = arguments.results / f"{name}.json"
    if name == "twin":
        from parity.cli.bars import progress
        from parity.ladder.line_by_line import line_by_line

        with progress() as phase:
            found = line_by_line(arguments.names, progress=phase)
        write_whole(file, json.dumps(found, indent=1, allow_nan=False) + "\n")
        return
    from parity.cli.command_line import run  # which knows this command, too

    names = ["--names", arguments.names] if arguments.names and name == "ladder" else []
    with redirect_stdout(io.StringIO()):  # the page has its table
        run([name, "--json", str(file), *names])
