"""Train microGPT on names and sample new ones, with nothing but the standard library."""

import argparse
import os
import random
import sys
from dataclasses import replace

from reference.config import PRESETS
from reference.data import DataError, load_documents
from reference.microgpt import Tokenizer, sample, train


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    parser.add_argument(
        "--names", metavar="FILE", help="a text file with one document a line (default: embedded names)"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: the preset's 1000)")
    parser.add_argument("--seed", type=int, default=42, help="of shuffling, weights and samples (default: 42)")
    parser.add_argument("--preset", choices=PRESETS, default="microgpt_200", help="(default: microgpt_200)")
    for size in ("n_layer", "n_embd", "n_head", "block_size"):
        parser.add_argument(f"--{size.replace('_', '-')}", type=int, help=f"{size} (default: the preset's)")
    parser.add_argument("--samples", type=int, default=20, help="how many names to sample at the end (default: 20)")
    parser.add_argument("--temperature", type=float, default=0.5, help="of sampling; 0 is greedy (default: 0.5)")
    arguments = parser.parse_args(argv)
    if arguments.temperature != 0 and not 1e-6 <= arguments.temperature <= 1e6:
        parser.error(f"--temperature must be 0, or between 1e-6 and 1e6, not {arguments.temperature}")
    if arguments.samples < 0:
        parser.error(f"--samples must be at least 0, not {arguments.samples}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Train, sample and print; exit status 0, 2 for bad input, 130 when interrupted."""
    arguments = parse_arguments(argv)
    config, hyper = PRESETS[arguments.preset]
    rng = random.Random(arguments.seed)
    try:
        docs = load_documents(arguments.names)
        tokenizer = Tokenizer(docs)
        sizes = {size: getattr(arguments, size) for size in ("n_layer", "n_embd", "n_head", "block_size")}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        config = replace(config, vocab_size=tokenizer.vocab_size, **sizes)
        hyper = hyper if arguments.steps is None else replace(hyper, num_steps=arguments.steps)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"These options do not fit together: {error}.", file=sys.stderr)
        return 2
    rng.shuffle(docs)
    print(f"{len(docs)} documents, vocabulary {config.vocab_size}, {config.num_params()} parameters")
    interrupted, state, step, losses = False, None, 0, []
    try:
        for state, step in train([tokenizer.encode(doc) for doc in docs], config, hyper, rng):
            losses.append(step.loss)
            if sys.stderr.isatty():
                print(
                    f"\rstep {state.step} of {hyper.num_steps}, loss {step.loss:.4f}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
    except KeyboardInterrupt:
        interrupted = True
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if state is None:
        print("Interrupted before the first step was done.", file=sys.stderr)
        return 130
    last = losses[-50:]
    print(
        f"{state.step} steps, loss {losses[0]:.4f} at the first, {sum(last) / len(last):.4f} over the last {len(last)}"
    )
    try:
        for _ in range(arguments.samples):
            print(tokenizer.decode(sample(state.params, config, rng, arguments.temperature)))
    except KeyboardInterrupt:
        interrupted = True
    return 130 if interrupted else 0


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:  # before there is anything to sample from
        status = 130
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)
