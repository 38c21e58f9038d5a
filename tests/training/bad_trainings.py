"""Factories of trainings that cannot be checked, or that fail, one for each way."""

import random

import torch
from torch import nn

from parity.training import Training
from tests.training.tiny import MLP, batches, loss, training


def _model():
    torch.manual_seed(3)
    return MLP(activation=nn.GELU)


def with_loss(one, model=None, **options):
    model = _model() if model is None else model
    return Training(model, torch.optim.AdamW(model.parameters()), one, batches(), **options)


def loss_of_many():
    return with_loss(lambda model, batch: model(batch[0]).square())


def loss_that_is_no_tensor():
    return with_loss(lambda model, batch: loss(model, batch).item())


def loss_without_gradient():
    return with_loss(lambda model, batch: loss(model, batch).detach())


def nan_loss():
    return with_loss(lambda model, batch: loss(model, batch) * float("nan"))


def nan_weight():
    model = _model()
    with torch.no_grad():
        model.last.weight[0, 0] = float("nan")
    return with_loss(loss, model)


class Text(nn.Module):
    """Gives words."""

    def __init__(self):
        super().__init__()
        self.inner = MLP(activation=nn.GELU)

    def forward(self, x):
        self.found = self.inner(x)
        return "words"


def outputs_that_are_no_tensors():
    def words(model, batch):
        model(batch[0])
        return model.found.square().mean()

    return with_loss(words, Text())


def with_closure():
    model = _model()
    optimizer = torch.optim.LBFGS(model.parameters())

    def step(model, optimizer, batch):
        def closure():
            optimizer.zero_grad()
            found = loss(model, batch)
            found.backward()
            return found

        return optimizer.step(closure)

    return Training(model, optimizer, batches=batches(), step=step)


def lbfgs_without_closure():
    model = _model()
    return Training(model, torch.optim.LBFGS(model.parameters()), loss, batches())


def second_backward():
    def twice(model, batch):
        found = loss(model, batch)
        found.backward()
        return found

    return with_loss(twice)


class Counting(nn.Module):
    """Scales its results by how often it was called."""

    def __init__(self, chance=None):
        super().__init__()
        self.inner, self.calls, self.chance = MLP(activation=nn.GELU), 0, chance

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (self.chance() if self.chance else self.calls)


def hidden_counter():
    return with_loss(loss, Counting())


def hidden_chance():
    return with_loss(loss, Counting(random.random))


class Dropping(nn.Module):
    """Drops some of what it gives, in a module of torch or within fused attention."""

    def __init__(self, fused):
        super().__init__()
        self.inner, self.fused = MLP(activation=nn.GELU), fused

    def forward(self, x):
        found = self.inner(x)
        if not self.fused:
            return nn.functional.dropout(found, 0.5)
        heads = found.view(1, 1, *found.shape)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.5).view(found.shape)


def dropout():
    return with_loss(loss, Dropping(fused=False))


def dropout_within_attention():
    return with_loss(loss, Dropping(fused=True))


def raising():
    raise FileNotFoundError("no weights here")


def no_training():
    return _model()


_made = []


def other_parameters():
    _made.append(0)
    return training(nn.Sequential(*(nn.Linear(4, 4) for _ in range(len(_made))), nn.Linear(4, 3)))


def other_weights():
    model = _model()
    with torch.no_grad():
        model.last.bias += random.random()
    return training(model)


def optimizer_of_another_model():
    return Training(_model(), torch.optim.AdamW(_model().parameters()), loss, batches())


def no_batches():
    return Training(model := _model(), torch.optim.AdamW(model.parameters()), loss, [])


def a_stream_of_batches():
    return Training(model := _model(), torch.optim.AdamW(model.parameters()), loss, iter(batches()))


def too_few_batches():
    return training(_model(), accumulation=4)


def unknown_autocast():
    return training(_model(), autocast="bfloat17")


def neither_loss_nor_step():
    return Training(model := _model(), torch.optim.AdamW(model.parameters()), batches=batches())


def never_updating():
    model = _model()
    return Training(
        model, torch.optim.AdamW(model.parameters()), batches=batches(), step=lambda model, optimizer, batch: None
    )


class Words(nn.Module):
    """Looks rows up, whose gradient may be sparse."""

    def __init__(self):
        super().__init__()
        self.rows, self.inner = nn.Embedding(5, 4, sparse=True), MLP(activation=nn.GELU)

    def forward(self, x):
        return self.inner(self.rows(x[:, 0].abs().long().clamp_max(4)))


def sparse_gradients():
    model = Words()
    return Training(model, torch.optim.SGD(model.parameters(), 0.1), loss, batches())


class Looking(nn.Module):
    """Looks at its numbers outside of torch."""

    def __init__(self, look):
        super().__init__()
        self.inner, self.look = MLP(activation=nn.GELU), look

    def forward(self, x):
        return self.inner(x) * self.look(self.inner.first(x).detach())


def numbers_as_lists():
    return with_loss(loss, Looking(lambda x: 1.0 + 0.0 * sum(x.flatten().tolist())))


def numbers_in_numpy():
    return with_loss(loss, Looking(lambda x: float(x.numpy().mean())))


def one_number():
    return with_loss(loss, Looking(lambda x: x.mean().item()))
