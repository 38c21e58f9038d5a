"""Results of small checks, as pages of tests are made of them."""

import json
from functools import cache
from typing import Any

from parity import Case, check
from parity.catalogue.mutants import MUTANTS
from parity.page.result_page import result_page
from tests.faults import planted

COMMAND = ["parity", "check", "port.py:make", "--steps", "3", "--n-embd", "4", "--mode=both"]
MISTAKE = "scores_not_scaled"
UNSCALED = (" / config.head_dim**0.5 for k_heads", " for k_heads")


@cache
def _stored(fails: bool) -> str:
    case = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 3})
    with planted(*([UNSCALED] if fails else [])) as make:
        result = check(make, case, probes=False)
    result.subject = "port.py:make"
    result.mistakes = {MISTAKE: MUTANTS[MISTAKE].mistake} if fails else {}
    return json.dumps(result.to_dict())


def stored(*, fails: bool) -> dict[str, Any]:
    """What `--json` writes of a twin, with a mistake or without."""
    return json.loads(_stored(fails))  # type: ignore[no-any-return]


def partly_right() -> str:
    """The page of a failure of which a tensor is right."""
    data = stored(fails=True)
    for mode in data["modes"]:
        mode["location"]["tensors"][2] |= {"right": True, "outside": 0, "relative_error": 0.0}
    return result_page(data, COMMAND)


def gate(**found: Any) -> dict[str, Any]:
    """What `parity gate --json` writes where head has a mistake that base has not."""
    head = stored(fails=True)
    mode = head["modes"][0]
    return {
        "subject": "port.py:make",
        "head_name": "HEAD with uncommitted changes",
        "base_name": "HEAD (123abc)",
        "verdict": "DIVERGED",
        "change": "the function changed",
        "reason": "First at head against base.",
        "head": head,
        "base": None,
        "first": mode["first_divergence"],
        "first_in_probe": None,
        "location": mode["location"],
        "changed": [],
        "lines": {"port.py": [[3, 3], [7, 9]]},
        "speed": None,
        "slower": False,
        "fail_slower": None,
        "wrong_alike": False,
        "accepted": None,
        "not_exercised": [],
        **found,
    }


def page(*, fails: bool) -> str:
    """Its page."""
    return result_page(stored(fails=fails), COMMAND)
