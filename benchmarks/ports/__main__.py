"""Public ports of microGPT held to the reference, one row each.

    python -m benchmarks.ports CHECKOUTS [--only NAME] [--adapters FOLDER] [--json FILE] [--markdown FILE]

CHECKOUTS holds a folder for each port, named owner+name, with the files of the commit that its adapter names. Nothing
is downloaded: what is missing is said. An adapter (`adapters/`) describes a port (`port.Port`) and how its own training
loop is asked for a step; nothing is written into a checkout.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.ports.judging import PASSED, adapters, judged
from parity.files import write_whole
from parity.ladder import machine

ADAPTERS = Path(__file__).parent / "adapters"
STEPS = 10


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, those in parity first."""
    rows = sorted(rows, key=lambda row: (row["verdict"] not in PASSED, row["port"].lower()))
    head = "| port | language | verdict | what deviates | ms/step | × ref. | left unexercised |"
    lines = [head, "| --- | --- | --- | --- | ---: | ---: | --- |"]
    for row in rows:
        link = f"https://github.com/{row['port']}/blob/{row['commit']}/{row['file']}"
        seconds = row.get("seconds")
        speed = f"{1000 * seconds['step']:.3g} | {seconds['speed_up']:.3g}" if seconds else " | "
        verdict = f"{row['verdict']} {row.get('dtype', '')}".strip()
        told = row["reason"] if row["verdict"] == "not run" else row["deviates"] or why(row)
        told += f" (with that undone: {row['corrected_verdict']})" if row.get("corrected_verdict") in PASSED else ""
        cells = f"[{row['port']}]({link}) | {row['language']} | {verdict} | {told} | {speed} | {row['limits']}"
        lines.append(f"| {cells} |")
    return "\n".join(lines) + "\n"


def why(row: dict[str, Any]) -> str:
    """What the run itself says, where no person has said anything."""
    return "" if row["verdict"] in PASSED else str(row["reason"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ports",
        description=__doc__.partition("\n")[0],
        epilog="A port that lacks its checkout, its compiler or its code as it was read has a row that says so.",
    )
    parser.add_argument("checkouts", type=Path, help="a folder with the ports' files, each in owner+name")
    parser.add_argument("--only", metavar="NAME", help="one adapter, by its file's name")
    parser.add_argument("--adapters", metavar="FOLDER", type=Path, action="append", help="in place of this project's")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the check's case (%(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    folders = arguments.adapters or [ADAPTERS]
    for folder in (arguments.checkouts, *folders):
        if not folder.is_dir():
            parser.error(f"There is no folder {folder}.")
    found = {name: port for folder in folders for name, port in adapters(folder)}
    if arguments.only is not None and arguments.only not in found:
        parser.error(f"There is no adapter {arguments.only}; there are {', '.join(found)}.")
    rows = []
    for name, port in found.items():
        if arguments.only in (None, name):
            rows.append(judged(name, port, arguments.checkouts, arguments.steps))
            print(f"{name}: {rows[-1]['verdict']}: {rows[-1]['reason']}", file=sys.stderr)
    print(markdown(rows), end="")
    if arguments.json:
        write_whole(arguments.json, json.dumps({"machine": machine(), "ports": rows}, indent=1) + "\n")
    if arguments.markdown:
        write_whole(arguments.markdown, markdown(rows))


if __name__ == "__main__":
    main()
