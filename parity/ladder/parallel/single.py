"""The training of one process that the others here spread over ranks: a small GPT, on batches of uneven documents."""

import torch
from torch import nn
from torch.nn import functional

from parity.training import Training

VOCABULARY, WIDTH, HEAD, LENGTH = 11, 8, 4, 6
PADDING = -100


class Block(nn.Module):
    """Attention and MLP, each with a norm before it and a residual around it."""

    def __init__(self):
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        """x: (documents, n, width)."""
        h = self.norm(x)
        q, k, v = (w(h).unflatten(-1, (-1, HEAD)).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.wo(heads.transpose(1, 2).flatten(2))
        return x + self.fc2(functional.gelu(self.fc1(self.mlp_norm(x))))


class GPT(nn.Module):
    """Logits of the next token; tokens that are padding are taken for token 0, and not counted."""

    def __init__(self, layers=1):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens):
        """tokens: (documents, n); gives (documents, n, vocabulary)."""
        x = self.wte(tokens.clamp(min=0)) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def loss(model, documents):
    """The mean over documents, of which each is the mean over its tokens."""
    targets = documents[:, 1:]
    losses = functional.cross_entropy(
        model(documents[:, :-1]).transpose(1, 2), targets, ignore_index=PADDING, reduction="none"
    )
    return (losses.sum(1) / (targets != PADDING).sum(1)).mean()


def model(dtype="float32", device="cpu", layers=1):
    """Always the same weights."""
    torch.manual_seed(1)
    return GPT(layers).to(device, getattr(torch, dtype))


def batches(steps=3, documents=5, device="cpu"):
    """An uneven number of documents of unequal length: (documents, LENGTH + 1) tokens, padded at the end."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, VOCABULARY, (steps, documents, LENGTH + 1), generator=generator)
    lengths = torch.randint(3, LENGTH + 2, (steps, documents, 1), generator=generator)
    return list(tokens.where(torch.arange(LENGTH + 1) < lengths, torch.tensor(PADDING)).to(device))


def make(dtype="float32", device="cpu", clip_grad_norm=0.5, accumulation=1):
    """The training."""
    gpt = model(dtype, device)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    documents = batches(3 * accumulation, device=device)
    return Training(gpt, optimizer, loss, documents, clip_grad_norm=clip_grad_norm, accumulation=accumulation)


def unclipped(dtype="float32", device="cpu"):
    """The same without clipping."""
    return make(dtype, device, clip_grad_norm=None)


def accumulated(dtype="float32", device="cpu"):
    """The same with two batches a step."""
    return make(dtype, device, accumulation=2)
