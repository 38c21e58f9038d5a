"""The page of one result, of a check or a gate, of a microGPT subject or of a training: from its JSON alone."""

import base64
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from parity.judging.sentences import behaves_like
from parity.page.evidence_view import evidence_view
from parity.page.mistakes import mistakes
from parity.page.modes import ModeView, mode_views
from parity.page.quantities import overview, power_chart, power_table, truth_table
from parity.page.ranks_view import ranks_view
from parity.page.rendering import render
from parity.page.tables import Table
from parity.verdict import Verdict
from parity.words import counted

_TRAININGS = ("training", "ranks")
"""Kinds of results that are of no microGPT subject."""


def result_page(data: dict[str, Any], command: Sequence[str]) -> str:
    """One file of HTML.

    data: what `--json` writes of a check, a gate, or either of a training. command: the words of the command line that
    repeats it.
    """
    view = _gate(data, command) if "head_name" in data else _check(data, command)
    return render("result.html", **view)


def _check(data: dict[str, Any], command: Sequence[str]) -> dict[str, Any]:
    probe = data.get("decided_by_probe")
    deciding = probe or data
    modes = [*([data["link"]] if data.get("link") else []), *deciding["modes"]]
    return {
        "kind": "check" if "ranks" not in data else f"check over {data['ranks']} ranks",
        "verdict": data["verdict"],
        "reason": data["reason"],
        "leads": _leads(data),
        "alarm": not Verdict(data["verdict"]).passes,
        "facts": _facts(data),
        "probe": probe,
        "modes": mode_views(modes, deciding["limit"], deciding.get("config") or {}),
        "truths": [(mode["truth_says"], truth_table(mode)) for mode in data["modes"] if mode.get("truth")],
        "overview": overview([*([data["link"]] if data.get("link") else []), *data["modes"]], data["limit"]),
        "mistakes": mistakes(data.get("mistakes", [])),
        "last_words": (data.get("failure") or {}).get("last_words", []),
        "remarks": [*data.get("warnings", ()), *data.get("remarks", ())],
        "unchecked": data.get("unchecked", []),
        "not_exercised": data["not_exercised"],
        "probes": data.get("probes", []),
        "evidence": evidence_view(modes, data.get("excluded")),
        "ranks": ranks_view(data),
        "case": _smallest(data),
        "power": power_table(data["modes"]),
        "power_chart": power_chart(data["modes"]),
        "limit": data["limit"],
        "command": shlex.join(command),
        "shorter": _shorter(data, command),
        "gate": None,
    }


def _leads(data: dict[str, Any]) -> list[str]:
    """What a check says beside its verdict: the mistakes that it names or excludes, those named without their lines."""
    known = mistakes(data.get("mistakes", []))
    if known and len(known) == len(data["mistakes"]):
        return [behaves_like([mistake.said for mistake in known])]
    excluded = data.get("excluded")
    if excluded and not data.get("named"):
        return [f"Excludes {excluded['excluded']} of {excluded['known']} known mistakes."]
    return [data["named"]] if data.get("named") else []


def _smallest(data: dict[str, Any]) -> dict[str, Any] | None:
    """The smallest case that shows a failure, with its file, and the command that replays it; None where none is kept.

    The file is part of the page, so that no other one is needed.
    """
    text = data.get("smallest_case")
    if not text:
        return None
    case = json.loads(text)
    steps, subject = counted(case["steps"], "step"), data["subject"]
    named = ["--", *shlex.split(subject[3:])] if subject.startswith("-- ") else [subject]
    return {
        "says": f"{steps} of {counted(case['batch_size'], 'document')}, from the state of step {case['state']['step']}",
        "documents": [" ".join(map(str, tokens)) for tokens in case["documents"]],
        "settings": [(kind, ", ".join(f"{k} {v}" for k, v in case[kind].items())) for kind in ("config", "hyper")],
        "file": base64.b64encode(text.encode()).decode(),
        "command": shlex.join(["parity", "replay", "case.json", *named]),
    }


def _gate(data: dict[str, Any], command: Sequence[str]) -> dict[str, Any]:
    """A gate's own findings first, then what head is by itself."""
    found = data.get("training") if data.get("kind") == "training" else data["head"]
    within = _check(found, command) if found else _nothing(command)
    own = {
        "kind": "gate",
        "verdict": data["verdict"],
        "reason": data["reason"],
        "leads": _gate_leads(data) + within["leads"],
        "alarm": bool(data["slower"]) or not (Verdict(data["verdict"]).passes or data.get("accepted")),
        "remarks": [*data.get("stale", ()), *within["remarks"]],
        "not_exercised": data.get("not_exercised", within["not_exercised"]),
        "shorter": "",
        "modes": [*_between(data), *(_of_head(view) for view in within["modes"])],
    }
    return {**within, **own, "facts": _gate_facts(data), "gate": _gate_view(data)}


def _gate_leads(data: dict[str, Any]) -> list[str]:
    """What the verdict alone does not say, and ought to be seen first."""
    leads = []
    if data["slower"]:
        least = float(data["speed"]["interval"][0])
        limit = f"the limit is {data['fail_slower']:g}"
        leads.append(f"SLOWER: a step at head takes at least {least:.2f} of the time at base; {limit}.")
    if data["wrong_alike"]:
        leads.append("Both wrong alike: base and head differ from the reference in the same way.")
    accepted = data.get("accepted")
    if accepted:
        reason = accepted["reason"] if isinstance(accepted, dict) else accepted
        leads.append(f"Accepted as intended: “{reason}”.")
    return leads


def _of_head(view: ModeView) -> ModeView:
    return replace(view, title=f"head, {view.title}")


def _between(data: dict[str, Any]) -> list[ModeView]:
    """Where head and base differ by more than rounding for the first time, as a mode of its own."""
    if not data.get("first"):
        return []
    probe = f", in the probe {data['first_in_probe']}" if data["first_in_probe"] else ""
    mode = {
        "mode": f"head (actual) against base (expected){probe}",
        "verdict": data["verdict"],
        "first_divergence": data["first"],
        "location": data["location"],
        "quantities": [],
    }
    return mode_views([mode], data["head"]["limit"], data["head"]["config"])


def _nothing(command: Sequence[str]) -> dict[str, Any]:
    """What the view of a check is where a gate made none: the answers were the same bits."""
    empty = {"verdict": "IDENTICAL", "reason": "", "modes": [], "limit": 0.0, "not_exercised": [], "kind": "training"}
    return _check(empty, command)


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    """What was checked: labels, and what stands beside them."""
    if data.get("kind") in _TRAININGS:
        return _training_facts(data)
    config, run = data["config"], data["run"]
    sizes = ("n_layer", "n_embd", "n_head", "block_size", "vocab_size", "activation")
    steps = counted(run["steps"], "step")
    storage = "" if data["storage"] == data["dtype"] else f", weights and moments in {data['storage']}"
    facts = [
        ("subject", data["subject"]),
        ("computes in", data["dtype"] + storage),
        ("model", ", ".join(f"{name} {config[name]}" for name in sizes)),
        ("run", f"{steps} of {counted(run['batch_size'], 'document')}, from step {run['first_step']}"),
        ("limit", f"z {data['limit']:.1f}, for false alarms of {data['false_alarm']:g} over all elements"),
    ]
    excluded = data["excluded"]
    if excluded:
        left = f"; undecided: {', '.join(excluded['undecided'])}" if excluded["undecided"] else ""
        facts.append(("excludes", f"{excluded['excluded']} of {excluded['known']} known mistakes{left}"))
    chain = data["chain"] or {}
    facts += [(str(name), str(value)) for name, value in chain.items() if isinstance(value, str)]
    return facts


def _training_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    if "subject" not in data:
        return []
    against = [("against", data["against"])] if data["against"] else []
    return [
        ("training", data["subject"]),
        *against,
        ("model", f"{data['model']}, {data['parameters']:,} parameters"),
        ("optimizer", data["optimizer"]),
        ("formats", f"{', '.join(data['formats'])} on {data['device']}"),
        ("noise floor", f"{data['replicas']} replicas, limit z {float(data['limit']):.1f}"),
    ]


def _gate_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    inside = data.get("training") or data.get("head") or {}
    facts = [("subject", data["subject"]), ("head", data["head_name"]), ("base", data["base_name"])]
    return [*facts, *(fact for fact in _facts(inside) if fact[0] not in ("subject", "training"))] if inside else facts


def _gate_view(data: dict[str, Any]) -> dict[str, Any]:
    """What a gate says besides: what changed, where in the files, and how fast it is now."""
    table = Table(["quantity", "compared", "other bits", "beyond rounding", "largest z"], ["quantity"])
    for row in data.get("changed", ()):
        largest = row["largest"] and f"{float(row['largest']['z']):.2g}"
        counts = (f"{row[name]:,}" for name in ("compared", "different", "outside"))
        table.rows.append([row["quantity"], *counts, largest or "-"])
    return {
        "change": data["change"],
        "changed": table,
        "first": data.get("first"),
        "lines": data.get("lines") or {},
        "speed": data["speed"],
        "head": (data.get("head") or {}).get("verdict"),
        "base": (data.get("base") or {}).get("verdict") if isinstance(data.get("base"), dict) else None,
    }


def _shorter(data: dict[str, Any], command: Sequence[str]) -> str:
    """The same command for the fewest steps that show the failure; empty where there is none."""
    first = data["modes"][0].get("first_divergence") if data["modes"] else None
    known = data.get("kind") not in _TRAININGS and data["modes"] and data["modes"][0]["mode"] == "lock-step"
    if not known or first is None or [*command[:2]] != ["parity", "check"] or "--" in command:
        return ""
    steps = first["step"] - data["run"]["first_step"] + 1
    return shlex.join(
        [*without(command, "--steps", "--mode"), "--steps", str(steps), "--mode", "lock-step", "--only-case"]
    )


def without(words: Sequence[str], *flags: str) -> list[str]:
    """A command line without options that each take a value."""
    kept: list[str] = []
    of_option = False
    for place, word in enumerate(words):
        if word == "--":
            return [*kept, *words[place:]]
        takes, of_option = of_option, word in flags
        if not takes and not of_option and not word.startswith(tuple(f"{flag}=" for flag in flags)):
            kept.append(word)
    return kept
