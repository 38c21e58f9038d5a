"""Modules that are right about one document, and wrong about a batch or refuse it; and documents that show that."""

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from parity import Case, Config
from tests.subjects.torch_modules import EPS, NanoGPT


@cache
def unlike_documents(batch_size: int = 3) -> Case:
    """Documents of one position, of some, and of more than the block has."""
    config = {"n_embd": 8, "n_head": 2, "block_size": 8, "n_layer": 2}
    named = Case.from_names(steps=2, config=config, hyper={"num_steps": 4})
    documents = [[26, *tokens, 26] for tokens in ([], [3, 1, 4], [5], range(8), range(11), [2, 7, 1, 8])]
    return replace(named, documents=documents, batch_size=batch_size)


class Masked(NanoGPT):
    """Is told which tokens are padding, and hides these from the others, as transformers' modules do."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for block in self.h:
            block["attn"] = MaskedAttention(config)

    def hidden(self, is_token):
        """(documents, positions, positions), True where a position must not look."""
        positions = torch.arange(is_token.shape[1])
        return (positions[None] > positions[:, None]) | ~is_token[:, None, :]

    def forward(self, tokens, attention_mask):
        self.is_token = attention_mask.bool()
        hidden = self.hidden(self.is_token)
        for block in self.h:
            block["attn"].hidden = hidden
        return super().forward(tokens)


class MaskedAttention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head = config.n_head

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=~self.hidden[:, None])
        return self.proj(heads.transpose(1, 2).flatten(2))


class PaddingSeen(Masked):
    """The mask that is added to the causal one opens what it should hide."""

    def hidden(self, is_token):
        positions = torch.arange(is_token.shape[1])
        return (positions[None] > positions[:, None]) & is_token[:, None, :]


class OthersMask(Masked):
    """The mask of the first document is taken for all of them."""

    def hidden(self, is_token):
        return super().hidden(is_token)[:1].expand(len(is_token), -1, -1)


class BatchStatistics(NanoGPT):
    def norm(self, x):
        return x * (x.square().mean(dim=(0, 2), keepdim=True) + EPS) ** -0.5


class PositionsRunOn(NanoGPT):
    def positions(self, tokens):
        return torch.arange(tokens.numel()).view_as(tokens) % self.wpe.num_embeddings


class PositionsFromTheEnd(Masked):
    """Every document ends at the same position, as if it were padded in front."""

    def positions(self, tokens):
        lacking = tokens.shape[1] - self.is_token.sum(dim=1, keepdim=True)
        return (torch.arange(tokens.shape[1]) + lacking) % tokens.shape[1]


class DocumentsSeeEachOther(NanoGPT):
    """All documents are laid end to end, each with its own positions, and nothing parts them."""

    def forward(self, tokens):
        self.longest = tokens.shape[1]
        return super().forward(tokens.view(1, -1)).view(*tokens.shape, -1)

    def positions(self, tokens):
        return torch.arange(tokens.shape[1]) % self.longest


class OnlyOne(NanoGPT):
    """Refuses several documents."""

    def forward(self, tokens):
        if len(tokens) > 1:
            raise ValueError("one document at a time")
        return super().forward(tokens)


class OnlyFirst(NanoGPT):
    """Answers with the logits of the first document alone."""

    def forward(self, tokens):
        return super().forward(tokens[:1])
