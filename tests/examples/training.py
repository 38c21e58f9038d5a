"""A training: a small GPT of torch's own layers, in bfloat16 autocast with a fused optimizer."""

import torch
from torch import nn

from parity.training import Training


class GPT(nn.Module):
    """Causal, with norms before attention and MLP."""

    def __init__(self, vocab_size: int = 40, width: int = 32, layers: int = 2, length: int = 24, eps: float = 1e-5):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=eps, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width, eps), enable_nested_tensor=False)
        self.head = nn.Linear(width, vocab_size, bias=False)

    def forward(self, tokens):
        """tokens: (documents, n); gives logits, (documents, n, vocab_size)."""
        n = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n, device=tokens.device)
        x = self.wte(tokens) + self.wpe(torch.arange(n, device=tokens.device))
        return self.head(self.blocks(x, mask=mask, is_causal=True))


def loss(model, tokens):
    """Cross entropy of the next token."""
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1).float(), tokens[:, 1:].flatten())


def make(dtype="float32", device="cpu"):
    """The training: always the same model and batches, drawn from seeds."""
    torch.manual_seed(1)
    model = GPT().to(device, getattr(torch, dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randint(0, 40, (3, 17), generator=generator).to(device) for _ in range(4)]
    return Training(model, optimizer, loss, batches, clip_grad_norm=1.0, autocast="bfloat16")
