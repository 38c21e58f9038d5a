"""A torch.nn.Module as a subject
=============================
Gradients come from autograd, the update from a torch.optim. A name map says where the reference's matrices lie in the
module (`parity help model`: what they are called, and what is computed with them). Hooks show what modules within it
give or are given, so that a divergence is placed:

    from my_gpt import GPT
    from parity.modules import ModuleSubject, stacked

    NAMES = {"wte.weight": "wte", "wpe.weight": "wpe", "lm_head.weight": "lm_head",
             "h.{i}.attn.qkv.weight": stacked("layer{i}.attn_wq", "layer{i}.attn_wk", "layer{i}.attn_wv"),
             "h.{i}.attn.proj.weight": "layer{i}.attn_wo",
             "h.{i}.mlp.up.weight": "layer{i}.mlp_fc1", "h.{i}.mlp.down.weight": "layer{i}.mlp_fc2"}
    SITES = {"h.{i}.mlp.up": "layer{i}.mlp.pre", "h.{i}.mlp.down.input": "layer{i}.mlp.post"}

    def make(config, hyper, dtype="float64", device="cpu"):
        return ModuleSubject(GPT(config), config, hyper, NAMES, sites=SITES, dtype=dtype, device=device)

The module must be able to compute the reference's function: RMSNorm, ReLU, learned positions, a norm right after the
embeddings and none after the layers. What the reference lacks is neutral and frozen: gains 1, biases 0, dropout 0.

    frozen=("*.ln_*.weight", "*.bias")      patterns of parameters that the reference does not have: their gradients are
                                            not taken, and a gain that is not 1 is a divergence
    "h.{i}.c_fc.weight": "layer{i}.mlp_fc1.T"                                     transposed, as in transformers' Conv1D
    stacked("layer{i}.attn_wq", "layer{i}.attn_wk", "layer{i}.attn_wv", heads=config.n_head)    q, k, v head by head

Sites
-----
Every site that a module can show, of a model as above; the more of them are named, the closer is the place. A module's
name stands for what it gives, with .input after it for what it is given:

    SITES = {"h.{i}.attn.qkv.input": "layer{i}.attn.norm",
             "h.{i}.attn.qkv": stacked("layer{i}.attn.q", "layer{i}.attn.k", "layer{i}.attn.v"),
             "h.{i}.attn.proj.input": "layer{i}.attn.heads",
             "h.{i}.mlp.up.input": "layer{i}.mlp.norm",
             "h.{i}.mlp.up": "layer{i}.mlp.pre", "h.{i}.mlp.down.input": "layer{i}.mlp.post",
             "lm_head": "logits"}

A model whose norms, activation and layers are modules shows the others as well:

    "ln.input": "embedding", "ln": "norm",                                 the norm after the embeddings
    "h.{i}.ln_2.input": "layer{i}.attn.residual", "h.{i}.ln_2": "layer{i}.mlp.norm",
    "h.{i}.act": "layer{i}.mlp.post", "h.{i}": "layer{i}.mlp.residual"

Another loss
------------
loss= is called with the module and the batch, a list of documents, each a list of int tokens with BOS at both ends. It
returns the loss to call backward on, or that and the logits: one (n, vocab_size) tensor for each document, where n =
min(block_size, len(document) - 1). Without the logits these are not checked. One that calls the module for a document
at a time, where it takes something else than a padded batch:

    import torch
    from torch.nn.functional import cross_entropy

    def loss(module, batch):
        losses, logits = [], []
        for document in batch:
            tokens = torch.tensor(document[: module.wpe.num_embeddings + 1])
            logits.append(module(tokens[None, :-1])[0])
            losses.append(cross_entropy(logits[-1], tokens[1:]))
        return torch.stack(losses).mean(), logits

    def make(config, hyper, dtype="float64"):
        return ModuleSubject(GPT(config), config, hyper, NAMES, sites=SITES, dtype=dtype, loss=loss)

Autocast
--------
The module is kept in float32 (dtype=), products are in bfloat16: the subject says so by `dtype` and `storage`, and the
noise floor is that of both. The factory has no parameter dtype, for it has but this format. With a GradScaler, write a
subject (`parity help subject`) that gives loss and gradients without the scale.

    import torch

    class Autocast(GPT):
        def forward(self, tokens):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(tokens).float()

    def make(config, hyper):
        subject = ModuleSubject(Autocast(config), config, hyper, NAMES, sites=SITES, dtype="float32")
        subject.dtype, subject.storage = "bfloat16", "float32"
        return subject
"""

from parity.subjects.modules import Arranged, ModuleSubject, stacked

__all__ = ["Arranged", "ModuleSubject", "stacked"]
