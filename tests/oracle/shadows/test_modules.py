"""Training steps of torch's own modules on shadows: nothing in them is without a model, or beyond the limit."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import checkpoint

from parity.oracle.shadows.shadow import exchangeable, in_shadow
from tests.oracle.shadows.measuring import measured, rms

REPLICAS = 6


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.batch_norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, stride=2)
        self.group_norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.batch_norm(self.first(x))), 2)
        x = functional.avg_pool2d(functional.silu(self.group_norm(self.second(x))), 2)
        return self.head(x.mean((2, 3)))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8, padding_idx=0)
        self.head = nn.Linear(8, 10, bias=False)

    def forward(self, words):
        hidden = checkpoint(lambda i: functional.gelu(self.embedding(i)), words, use_reentrant=False)
        logits = self.head(hidden).flatten(0, 1)
        return functional.cross_entropy(logits, words.flatten(), ignore_index=0, label_smoothing=0.1)


class Attention(nn.Module):
    def __init__(self, need_weights):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.attention(x, x, x, need_weights=self.need_weights, attn_mask=mask, is_causal=True)[0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind(16, 8, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.layers(x[:, :3])[0]


def encoder(**options):
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, **options)


MODULES = {
    "encoder": encoder,
    "encoder with norms first": lambda: encoder(norm_first=True, activation="gelu"),
    "attention": lambda: Attention(False),
    "attention that shows its weights": lambda: Attention(True),
    "images": Images,
    "words": Words,
    "long short-term memory": lambda: Recurrent(nn.LSTM),
    "gated recurrent units": lambda: Recurrent(nn.GRU),
    "compiled encoder": lambda: torch.compile(encoder()),
}


def step_of(make, dtype, autocast):
    def program(in_shadows):
        with _disable_current_modes():
            torch.manual_seed(5)
            module = make().to(dtype)
            x = torch.randn(4, 3, 12, 12) if make is Images else torch.randn(4, 6, 16)
            x = torch.randint(0, 10, (4, 12)) if make is Words else x.to(dtype)
        with exchangeable(module):
            for tensor in [*module.parameters(), *module.buffers(), x] if in_shadows else ():
                in_shadow(tensor)
        optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = module(x)
        (out.square().mean() if out.dim() else out).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        torch.nn.utils.clip_grad_value_(module.parameters(), 0.3)
        optimizer.step()
        results = [out, *(p.grad for p in module.parameters()), *module.parameters(), *module.buffers()]
        return [x.detach() for x in results if x.is_floating_point()]

    return program


@pytest.fixture
def _as_known_operations():
    """Recurrent layers without a kernel of their own, and compiled code as it was written."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch.compiler.set_stance("force_eager")
    yield
    torch._C._set_mkldnn_enabled(before)
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("_as_known_operations")
@pytest.mark.parametrize("kind", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("name", MODULES)
def test_training_steps_of_modules_need_no_other_operation(name, kind):
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    found = measured(step_of(MODULES[name], dtype, kind == "autocast"), REPLICAS)
    assert not found.execution.elementwise
    assert not found.execution.random
    assert found.largest <= found.limit
    assert 0.2 <= rms(found.z) <= 2  # of quantities that have errors in common
