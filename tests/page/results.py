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


def ranks() -> dict[str, Any]:
    """What `--json` writes of a training over two ranks, of which one has another gradient."""
    right = {"mode": "float64", "step": 0, "verdict": "PARITY", "z": 0.5, "elements": 6, "outside": 0, "bits_of": 0}
    right |= {"relative_error": None, "scale": None}
    wrong = {**right, "verdict": "DIVERGED", "z": 4e14, "outside": 3, "relative_error": 0.7, "scale": 2.0, "bits_of": 1}
    rank = {"verdict": "PARITY", "largest_z": 0.5, "explanation": ""}
    tensors = [{**right, "tensor": name} for name in ("grad w", "grad b")]
    own = [{**wrong, "tensor": "grad w"}, {**right, "tensor": "grad b"}, {**right, "tensor": "param w", "bits_of": 1}]
    said = "the gradient is the rank's own"
    return {
        "verdict": "DIVERGED",
        "reason": "Over 2 ranks it is another function.",
        "kind": "ranks",
        "ranks": 2,
        "subject": "spread.py:make",
        "against": "single.py:make",
        "model": "Model",
        "parameters": 6,
        "optimizer": "AdamW",
        "formats": ["float64"],
        "device": "cpu",
        "replicas": 16,
        "limit": 9.7,
        "modes": [],
        "not_exercised": [],
        "explanation": f"On rank 1 {said}.",
        "by_rank": [
            {**rank, "rank": 0, "tensors": tensors},
            {**rank, "rank": 1, "verdict": "DIVERGED", "largest_z": 4e14, "explanation": said, "tensors": own},
        ],
    }


def ranks_page() -> str:
    """Its page."""
    return result_page(ranks(), ["parity", "check", "--ranks", "2", "spread.py:make", "--against", "single.py:make"])


def page(*, fails: bool) -> str:
    """Its page."""
    return result_page(stored(fails=fails), COMMAND)
