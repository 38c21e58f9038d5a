"""The harness tested the way it tests others: small mistakes put into its own code, and whether its tests notice.

    pip install '.[test,mutation]'
    python -m benchmarks.harness_mutation --json benchmarks/results/harness_mutation.json \\
        --markdown benchmarks/results/harness_mutation.md

Cosmic-ray makes the mutants (`harness_mutation_mutants`), of the rooms that decide a verdict: judging, oracle and
catalogue. Each is put into a copy of the checkout, and the tests that know its module best are run there
(`harness_mutation_tests`); so a survivor is one of these tests, and not yet of the whole suite. What is in the JSON is
not run again; `--again` runs survivors anew, after tests were written, but those that somebody read and let live: these
stand in `harness_mutation_judgements.json`, by the mutant's key: a class of JUDGEMENTS, and why.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .harness_mutation_mutants import ROOMS, Mutant, drawn, modules
from .harness_mutation_tests import COMPILING, Copy

ROOT = Path(__file__).parents[1]
JUDGED = Path(__file__).with_name("harness_mutation_judgements.json")
JUDGEMENTS = {
    "equivalent": "no input tells it from the original",
    "wording": "a sentence or its punctuation",
    "cost": "time, memory, or how hard is looked, not what is found",
    "harmless": "right verdicts stay right: a larger margin, a default that everybody sets",
    "hole": "no test noticed it",
}


def run(copy: Copy, mutants: list[Mutant], results: dict[str, dict[str, Any]], seconds: float, save: Any) -> None:
    """Try these mutants, as far as the time goes."""
    end = time.monotonic() + seconds
    for number, mutant in enumerate(mutants, 1):
        if time.monotonic() > end:
            return
        found = copy.judged(mutant)
        result = {"path": mutant.path, "line": mutant.line, "where": mutant.where, "operator": mutant.operator}
        result |= {"before": mutant.before, "after": mutant.after, **found._asdict()}
        known = results.get(mutant.key, {})
        results[mutant.key] = {**result, **({"at_first": known.get("at_first", known["outcome"])} if known else {})}
        save()
        print(f"{number} of {len(mutants)}, {found.seconds:.0f} s: {found.outcome} {mutant.key} {found.by}", flush=True)


def judgements() -> dict[str, dict[str, str]]:
    """By key what was made of survivors."""
    judged: dict[str, dict[str, str]] = json.loads(JUDGED.read_text(encoding="utf-8")) if JUDGED.exists() else {}
    if unknown := {judgement["class"] for judgement in judged.values()} - JUDGEMENTS.keys():
        raise SystemExit(f"{JUDGED.name} has classes that are none: {', '.join(unknown)}.")
    return judged


def table(results: dict[str, dict[str, Any]], judged: dict[str, dict[str, str]]) -> list[str]:
    """By room, what became of its mutants, and which survived."""
    columns = ["killed", "timed out", *JUDGEMENTS, "not read"]
    lines = [f"| room | mutants | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    rows = {room: Counter[str]() for room in (*ROOMS, "all")}
    for key, result in results.items():
        survived = result["outcome"] == "survived"
        column = judged.get(key, {"class": "not read"})["class"] if survived else result["outcome"]
        rows[result["path"].split("/")[1]][column] += 1
        rows["all"][column] += 1
    for room, row in rows.items():
        lines.append(f"| {room} | {row.total()} | {' | '.join(str(row[column]) for column in columns)} |")
    late = [result for result in results.values() if result.get("at_first", "") == "survived" != result["outcome"]]
    lines += ["", "What the tests that know its module best did not notice was read, and counts as:", ""]
    lines += [f"- {name}: {meaning};" for name, meaning in JUDGEMENTS.items()]
    lines += ["", f"Survived at first, and killed by tests that were written or chosen for that: {len(late)}.", ""]
    lines += [f"- `{said(result)}`: {result['by'].rpartition('::')[2]}" for result in late]
    lines += ["", "What survives:", ""]
    for key, result in sorted(results.items()):
        if result["outcome"] == "survived":
            judgement = judged.get(key, {"class": "not read", "why": ""})
            lines.append(f"- `{said(result)}`: {judgement['class']}. {judgement['why']}".rstrip())
    return lines


def said(result: dict[str, Any]) -> str:
    """Where a mutant is, and what it changes."""
    where = f"{result['path'].removeprefix('parity/')}:{result['line']}"
    return f"{where} {result['before']} → {result['after']}".replace("`", "'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=200, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="then no other is begun; 0: tables alone")
    parser.add_argument("--again", action="store_true", help="run survivors again, but those that were judged")
    parser.add_argument("--folder", type=Path, help="for the copy, whose machine code the next run finds there")
    parser.add_argument("--json", type=Path, help="where the results are, and are added")
    parser.add_argument("--markdown", type=Path, help="where to write them as a table")
    arguments = parser.parse_args()
    stored: dict[str, Any] = {"results": {}}
    if arguments.json and arguments.json.exists():
        stored = json.loads(arguments.json.read_text(encoding="utf-8"))
    results = stored["results"]
    judged = judgements()
    again = {key for key, found in results.items() if found["outcome"] == "survived" and key not in judged}
    again = again if arguments.again else set()

    def save() -> None:
        # Imported late: a process that runs tests comes from one like this, and must find no module of the checkout.
        from parity.files import write_whole
        from parity.ladder import machine

        head = {"machine": machine(), "revision": revision(), "mutants": arguments.mutants, "seed": arguments.seed}
        if arguments.json:
            write_whole(arguments.json, json.dumps({**head, "results": results}, indent=1) + "\n")
        if arguments.markdown:
            write_whole(arguments.markdown, "\n".join(table(results, judged)) + "\n")

    mutants = drawn(modules(ROOT), arguments.mutants, arguments.seed)
    waiting = [mutant for mutant in mutants if mutant.key in again]  # first, since somebody waits for them
    waiting += [mutant for mutant in mutants if mutant.key not in results]
    with tempfile.TemporaryDirectory() as folder:
        if waiting and arguments.minutes:
            copy = Copy(ROOT, arguments.folder or Path(folder))
            copy.pass_without_mutant(COMPILING)
            run(copy, waiting, results, 60 * arguments.minutes, save)
            copy.pass_without_mutant(sorted({result["by"] for result in results.values() if "::" in result["by"]}))
    save()
    print("\n".join(table(results, judged)))


def revision() -> str:
    """The commit of the checkout."""
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()


if __name__ == "__main__":
    main()
