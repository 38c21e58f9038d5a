"""A repository with a training in it, and a gate's sides in this process."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

from parity.errors import SubjectError, UsageError
from parity.subjects.messages import decoded, encoded
from parity.training.worker import Worker

TRAINING = """\
import torch
from torch import nn
from torch.nn import functional as F

from parity.training import Training


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6, eps=1e-5)
        self.head = nn.Linear(6, 5)

    def forward(self, tokens):
        x = self.norm(self.hidden(self.embedding(tokens)))
        return self.head(torch.tanh(x))


def loss(model, batch):
    return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def step(model, optimizer, batch):
    optimizer.zero_grad()
    found = loss(model, batch)
    found.backward()
    optimizer.step()
    return found


def make(dtype="float32", device="cpu"):
    model = Model().to(device, getattr(torch, dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(3)
    batches = list(torch.randint(0, 5, (3, 2, 1, 4), generator=generator).unbind())
    return Training(model, optimizer, loss=loss, batches=batches)
"""


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT")}
    subprocess.run(["git", *identity, *arguments], capture_output=True, check=True, env=own)


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


class InThisProcess:
    """In place of the command that serves a training: the same messages, answered here."""

    def __init__(self, factory, limits, folder, arguments, environment, module):
        self.factory, self.folder = factory, folder
        self.worker = None

    def start(self):
        pass

    def ask(self, message, answer, doing, busy):
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            if self.worker is None:
                self.worker = Worker(self.factory, {}, SimpleNamespace(require=lambda: None), busy)
            found = decoded(encoded(self.worker.answer(decoded(encoded(message)))))
        except (SubjectError, UsageError) as error:
            raise type(error)(str(error)) from None
        finally:
            os.chdir(here)
        assert found["type"] == answer
        return found

    def close(self):
        self.worker = None
