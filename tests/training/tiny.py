"""Trainings small enough for tests, and variants of them."""

import torch
from torch import nn

from parity.training import Training


class MLP(nn.Module):
    """A norm between two layers; with ReLU, gates that rounding may turn."""

    def __init__(self, width=8, activation=nn.ReLU, eps=1e-5):
        super().__init__()
        self.first, self.norm = nn.Linear(4, width), nn.LayerNorm(width, eps)
        self.activation, self.last = activation(), nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.activation(self.norm(self.first(x))))


def loss(model, batch):
    return (model(batch[0]).float() - batch[1]).square().mean()


def batches(number=3, documents=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return [tuple(torch.randn(documents, n, generator=generator).to(dtype) for n in (4, 3)) for _ in range(number)]


def training(model=None, lr=1e-3, of=batches, **options):
    torch.manual_seed(3)
    model = MLP(nn.GELU) if model is None else model
    return Training(model, torch.optim.AdamW(model.parameters(), lr=lr), loss, of(), **options)


def make(dtype="float32", device="cpu"):
    form = getattr(torch, dtype)
    torch.manual_seed(3)
    return training(MLP(activation=nn.GELU).to(device, form), of=lambda: batches(dtype=form))


def autocast():
    torch.manual_seed(3)
    return training(MLP(activation=nn.GELU), autocast="bfloat16")


def other_eps():
    torch.manual_seed(3)
    return training(MLP(activation=nn.GELU, eps=1.1e-5), autocast="bfloat16")


def relus(documents=400):
    """So many inputs of ReLUs that some lie within bfloat16's noise floor of zero."""
    torch.manual_seed(3)
    return training(MLP(width=64), of=lambda: batches(2, documents), autocast="bfloat16")


def steeper():
    """Twice the gradient of the last layer."""
    made = make()
    made.model.last.weight.register_hook(lambda grad: 2 * grad)
    return made


class Renamed(nn.Module):
    """The same function as MLP with the first layer transposed, and under other names."""

    def __init__(self):
        super().__init__()
        of = MLP(activation=nn.GELU)
        self.inwards = nn.Parameter(of.first.weight.detach().T.clone())
        self.bias, self.norm, self.outwards = nn.Parameter(of.first.bias.detach()), of.norm, of.last

    def forward(self, x):
        x = self.norm(x @ self.inwards + self.bias)
        return self.outwards(nn.functional.gelu(x))


RENAMED = {
    "inwards": "first.weight.T",
    "bias": "first.bias",
    "outwards.weight": "last.weight",
    "outwards.bias": "last.bias",
}


def renamed():
    torch.manual_seed(5)  # other weights: it starts from those of the one that it is held to
    return training(Renamed())
