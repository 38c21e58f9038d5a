"""What the check of a training costs: time and memory, beside the training's own state.

    python -m benchmarks.trainings [--json FILE]

Each case runs in a process of its own, in lock-step, for one step; memory is the largest resident set, less that of a
process that has only imported what the check needs.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

from parity.ladder.this_machine import machine

CASES = {
    "tiny, 64 replicas": ({"width": 32, "layers": 2, "length": 24}, 3, 17, 64),
    "tiny, 16 replicas": ({"width": 32, "layers": 2, "length": 24}, 3, 17, 16),
    "3.4 million parameters, 16 replicas": ({"width": 256, "layers": 4, "length": 64, "vocab_size": 256}, 1, 65, 16),
}
"""By name: sizes of the model, documents, tokens, replicas."""


def training(sizes, documents, tokens):
    """The worked example in other sizes."""
    import torch

    from parity.training import Training
    from tests.examples import training as example

    def make(dtype="float32", device="cpu"):
        torch.manual_seed(1)
        model = example.GPT(**sizes).to(device, getattr(torch, dtype))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
        generator = torch.Generator().manual_seed(2)
        batches = [torch.randint(0, 40, (documents, tokens), generator=generator)]
        return Training(model, optimizer, example.loss, batches, clip_grad_norm=1.0, autocast="bfloat16")

    return make


def measured(name, connection):
    """Check one case, and send what it took."""
    import torch

    from parity.oracle.shadows.execution import Execution
    from parity.training.checking import TrainingOptions, check_training
    from parity.training.running import Factory, Runs

    sizes, documents, tokens, replicas = CASES[name]
    make = training(sizes, documents, tokens)
    operations = 0
    run = Execution.run

    def counted(self, *arguments):
        nonlocal operations
        operations += 1
        return run(self, *arguments)

    runs = Runs(Factory(make), 1, sites=True)
    runs.natively(0, runs.start)
    Execution.run = counted
    runs.on(None, 0, None)
    Execution.run = run
    parameters = sum(p.numel() for p in runs.native.model.parameters())
    del runs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    options = TrainingOptions(steps=1, modes=("lock-step",), replicas=replicas)
    result = check_training(name, Factory(make), options)
    connection.send(
        {
            "verdict": result.verdict.value,
            "largest_z": max(row.largest_z.z for row in result.modes[0].quantities.values()),
            "parameters": parameters,
            "operations": operations,
            "replicas": replicas,
            "seconds": time.perf_counter() - start,
            "state_bytes": 16 * parameters,  # parameters, gradients and Adam's two moments in float32
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_bytes_before": before,
            "threads": torch.get_num_threads(),
        }
    )


def imported(connection):
    """What a process takes that has imported everything and run the smallest case."""
    from parity.training.checking import TrainingOptions, check_training
    from parity.training.running import Factory

    make = training({"width": 8, "layers": 1, "length": 8}, 1, 5)
    check_training("smallest", Factory(make), TrainingOptions(steps=1, modes=("lock-step",), replicas=2))
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def in_a_process(function, *arguments):
    """What a function sends from a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(*arguments, there))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=list(CASES))
    arguments = parser.parse_args(argv)
    nothing = in_a_process(imported)
    results = {}
    for name in [arguments.only] if arguments.only else CASES:
        found = results[name] = in_a_process(measured, name)
        times = (found["peak_bytes"] - nothing) / found["state_bytes"]
        found["bytes_over_state"] = times
        each = found["seconds"] / found["operations"] / found["replicas"]
        print(
            f"{name}: {found['verdict']}, {found['seconds']:.1f} s, {found['parameters']:,} parameters, "
            f"{found['operations']:,} operations a step, {each * 1e6:.0f} us an operation and replica, "
            f"{times:.1f} times the memory of the training's state"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "cases": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
