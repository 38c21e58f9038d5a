"""A subject to refactor, prepared edits of it, and git."""

import os
import subprocess
from pathlib import Path

MODEL = (Path(__file__).parents[1] / "examples" / "numpy_port.py").read_text(encoding="utf-8")
PORT = "from model import make\n"
NEUTRAL = ("return x @ w.T", "product = x @ w.T\n    return product")
REORDERING = ("return x @ w.T", "return x[..., 1::2] @ w[:, 1::2].T + x[..., ::2] @ w[:, ::2].T")
WRONG = ("scores = q @ k.swapaxes(1, 2) / config.head_dim**0.5", "scores = q @ k.swapaxes(1, 2)")
WRONG_LINE = next(number for number, line in enumerate(MODEL.splitlines(), 1) if WRONG[0] in line)
UNSTABLE = ("keepdims=True) + 1e-5)", "keepdims=True) + 1e5 - 1e5 + 1e-5)")
FLOAT32 = ('make(config: Config, hyper: Hyper, dtype: str = "float64")', 'make(config, hyper, dtype: str = "float32")')
SILENT = ("return Step(loss, all_logits, grads,", "return Step(loss, all_logits, None,")
BROKEN = ("return x @ w.T", "return x @ y.T")


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT")}
    done = subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True, env=own)
    return done.stdout


def refactor(*edits: tuple[str, str], file: str = "model.py") -> None:
    text = Path(file).read_text(encoding="utf-8")
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path(file).write_text(text, encoding="utf-8")
