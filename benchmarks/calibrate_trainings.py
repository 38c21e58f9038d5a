"""How often the noise floor of tensors cries wolf: correct trainings of models by other hands.

    python -m benchmarks.calibrate_trainings --comparisons 200 --json benchmarks/results/calibration_trainings.json

A comparison is a training (`tests.training.models`) in one to three steps, in lock-step and free-running, held to its
own exact arithmetic, or the exact runs of two ways to compute the same, held to each other. Models, formats,
optimizers, initial weights, batches and numbers of replicas are drawn.
"""

import argparse
import json
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from parity.errors import SubjectError, UsageError
from parity.files import write_whole
from parity.ladder import machine
from parity.training import comparison
from parity.training.checking import Against, TrainingOptions, check_training
from parity.training.comparison import TrainingMode
from parity.training.other import OtherHere
from parity.training.running import Factory
from tests.training import models

MODELS = {
    "gpt2": models.gpt2,
    "llama": models.llama,
    "encoder": models.encoder,
    "recurrent": models.recurrent,
    "convolutional": models.convolutional,
}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "float64": ("float64", {}),
    "float32": ("float32", {}),
    "autocast bfloat16": ("float32", {"autocast": "bfloat16"}),
    "autocast float16": ("float32", {"autocast": "float16", "scaled": True, "clip_grad_norm": 0.5}),
    "bfloat16": ("bfloat16", {}),
}
TAILS = (5.0, 7.0, 10.0)


@dataclass
class Tail:
    """Elements compared, the largest z, and how many lie beyond each of TAILS."""

    elements: int = 0
    largest: float = 0.0
    where: str = ""
    beyond: list[int] = field(default_factory=lambda: [0] * len(TAILS))

    def add(self, z: Any, where: str) -> None:
        """Take in the z of some elements."""
        self.elements += len(z)
        self.beyond = [number + int((z > tail).sum()) for number, tail in zip(self.beyond, TAILS)]
        if len(z) and z.max() > self.largest:
            self.largest, self.where = float(z.max()), where


class Tallied(TrainingMode):
    """A mode that keeps the tails of z, by quantity."""

    tails: defaultdict[tuple[str, str], Tail]
    now: tuple[str, str] = ("", "")

    @override
    def take(self, number: int, actual: Any, expected: Any, floor: Any, judge: Any) -> None:
        form, subject = self.now
        form = "exact" if self.mode == "exact arithmetic" else form
        for key in (key for key in actual.tensors if key in expected):
            dtype = comparison._form(actual.dtypes[key])
            pairs = comparison._pairs(number, key, actual.tensors[key], expected[key], floor[key], dtype, judge)
            away = np.abs(pairs.actual - pairs.expected)
            with np.errstate(divide="ignore", invalid="ignore"):
                z = np.where(away == 0, 0.0, away / pairs.sigma)
            self.tails[form, key.quantity].add(z, f"{subject}, {self.mode}, step {number}: {key.described()}")
        super().take(number, actual, expected, floor, judge)


def drawn(chance: random.Random) -> tuple[str, str, Any, str, dict[str, Any], dict[str, Any], TrainingOptions]:
    """A correct training: its name, format, factory, dtype, options, those of another way, and how it is checked."""
    name = chance.choice(list(MODELS))
    form = chance.choice(list(FORMATS))
    if name == "recurrent" and form == "autocast float16":  # there is no such kernel for CPUs
        form = "float32"
    dtype, options = FORMATS[form]
    seed, size = chance.randrange(1000), chance.choice([1, 2, 3, 5])
    options = {**options, "seed": seed, "optimizer": chance.choice(["for-loop", "foreach", "fused", "sgd", "amsgrad"])}
    options["scheduled"] = chance.random() < 0.3
    ways = ("for-loop", "foreach", "fused")
    others = {**options, "optimizer": chance.choice(ways) if options["optimizer"] in ways else options["optimizer"]}
    if name in ("gpt2", "llama"):
        options["data"] = others["data"] = models.batches(size=size, seed=seed)
        options["attention"] = chance.choice(["eager", "sdpa"])
        options["checkpointing"] = chance.random() < 0.2
    else:
        options["size"] = others["size"] = size + 1
    replicas = 64 if chance.random() < 0.25 else 16
    check = TrainingOptions(steps=chance.choice([1, 1, 2, 3]), replicas=replicas)
    return name, form, MODELS[name], dtype, options, others, check


def calibrate(comparisons: int, seconds: float, seed: int) -> dict[str, Any]:
    """Tails of z over so many comparisons, or as many as there is time for."""
    chance, began = random.Random(seed), time.monotonic()
    tails: defaultdict[tuple[str, str], Tail] = defaultdict(Tail)
    comparison_mode, verdicts, alarms, done = TrainingMode, defaultdict(int), [], 0
    Tallied.tails = tails
    check_training.__globals__["TrainingMode"] = Tallied
    try:
        while done < comparisons and time.monotonic() - began < seconds:
            name, form, make, dtype, options, others, check = drawn(chance)
            shown = ", ".join(f"{k} {x}" for k, x in options.items() if k != "data")
            subject = f"{name} in {form} ({shown}, replicas {check.replicas})"
            Tallied.now = (form, subject)
            against = None
            if done % 3 == 0 and dtype != "float64":
                other = Factory(partial(make, **others), dtype)
                against = Against("the other", lambda n, sites, other=other: OtherHere(other, replicas=n, sites=sites))
            done += 1
            try:
                result = check_training(subject, Factory(partial(make, **options), dtype), check, against=against)
            except (UsageError, SubjectError) as error:
                verdicts[form, "ERROR"] += 1
                alarms.append({"subject": subject, "verdict": "ERROR", "reason": str(error), "located": []})
                print(alarms[-1], flush=True)
                continue
            verdicts[form, result.verdict.value] += 1
            if result.verdict.value not in ("IDENTICAL", "PARITY"):
                alarms.append({"subject": subject, "verdict": result.verdict.value, "reason": result.reason})
                alarms[-1]["located"] = result.located[:3]
                print(alarms[-1], flush=True)
    finally:
        check_training.__globals__["TrainingMode"] = comparison_mode
    return {
        "machine": machine(),
        "comparisons": done,
        "alarms": alarms,
        "verdicts": [{"format": form, "verdict": v, "number": n} for (form, v), n in sorted(verdicts.items())],
        "tails": [
            {"format": form, "quantity": q, **vars(tail), "beyond": dict(zip(map(str, TAILS), tail.beyond))}
            for (form, q), tail in sorted(tails.items())
        ],
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    found = calibrate(arguments.comparisons, arguments.seconds, arguments.seed)
    for tail in found["tails"]:
        print(
            f"{tail['format']:20} {tail['quantity']:14} {tail['elements']:10,} {tail['largest']:8.2f} {tail['beyond']}"
        )
    print(found["comparisons"], "comparisons,", len(found["alarms"]), "alarms")
    if arguments.json:
        write_whole(arguments.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
