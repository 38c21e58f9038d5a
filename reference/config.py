"""What a run needs and what it yields: the vocabulary that the reference shares with every other implementation."""

import math
from dataclasses import dataclass
from typing import Any


def _require_whole(owner: object, names: tuple[str, ...]) -> None:
    for name in names:
        size = getattr(owner, name)
        if type(size) is not int or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {size!r}")


@dataclass(frozen=True)
class Config:
    """The shape of the model; ValueError where the sizes do not fit together."""

    n_layer: int = 1
    n_embd: int = 16
    n_head: int = 4
    block_size: int = 16
    vocab_size: int = 27  # the last token is BOS
    init_std: float = 0.08
    activation: str = "relu"  # or "relu2": relu(x)²
    zero_init_projections: bool = False  # attn_wo and mlp_fc2 start at zero

    def __post_init__(self) -> None:
        _require_whole(self, ("n_layer", "n_embd", "n_head", "block_size", "vocab_size"))
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} cannot be split evenly over {self.n_head} heads (n_head)")
        if not 0 <= self.init_std < math.inf:
            raise ValueError(f"init_std must be a finite number of at least 0, not {self.init_std!r}")
        if self.activation not in ("relu", "relu2"):
            raise ValueError(f"activation must be 'relu' or 'relu2', not {self.activation!r}")

    @property
    def head_dim(self) -> int:
        """The size of one attention head."""
        return self.n_embd // self.n_head

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(rows, columns) of every weight matrix by name, in the order in which they are drawn."""
        shapes = {
            "wte": (self.vocab_size, self.n_embd),
            "wpe": (self.block_size, self.n_embd),
            "lm_head": (self.vocab_size, self.n_embd),
        }
        for layer in range(self.n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                shapes[f"layer{layer}.{name}"] = (self.n_embd, self.n_embd)
            shapes[f"layer{layer}.mlp_fc1"] = (4 * self.n_embd, self.n_embd)
            shapes[f"layer{layer}.mlp_fc2"] = (self.n_embd, 4 * self.n_embd)
        return shapes

    def num_params(self) -> int:
        """How many weights the model has."""
        return sum(rows * columns for rows, columns in self.shapes().values())


@dataclass(frozen=True)
class Hyper:
    """Adam and its learning-rate schedule; ValueError for numbers that Adam cannot use."""

    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    eps_adam: float = 1e-8
    num_steps: int = 1000  # where the schedule reaches zero
    lr_schedule: str = "linear"  # or "cosine"

    def __post_init__(self) -> None:
        _require_whole(self, ("num_steps",))
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be a finite number of at least 0, not {self.learning_rate!r}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 and beta2 must lie in [0, 1), not {self.beta1!r} and {self.beta2!r}")
        if not 0 < self.eps_adam < math.inf:
            raise ValueError(f"eps_adam must be a finite number above 0, not {self.eps_adam!r}")
        if self.lr_schedule not in ("linear", "cosine"):
            raise ValueError(f"lr_schedule must be 'linear' or 'cosine', not {self.lr_schedule!r}")


PRESETS: dict[str, tuple[Config, Hyper]] = {
    "microgpt_200": (Config(), Hyper()),
    "microgpt_early": (
        Config(block_size=8, init_std=0.02, activation="relu2", zero_init_projections=True),
        Hyper(beta1=0.9, beta2=0.95, lr_schedule="cosine"),
    ),
}
"""The 200-line revision of microGPT and an earlier one."""


@dataclass
class State:
    """Where training stands.

    params, m, v: a dict from tensor name to a row-major matrix (a list of rows), shaped as `Config.shapes`
    says; m and v are Adam's first and second moments. step: updates done so far.
    """

    params: dict[str, Any]
    m: dict[str, Any]
    v: dict[str, Any]
    step: int = 0


@dataclass
class Step:
    """What one training step yields. A field left at None, or a matrix left out of one, is not exposed and not checked.

    loss: float. logits: one (n, vocab_size) matrix per document. grads, params, m, v: dicts as in `State`,
    the last three after the update. Values are nested lists, NumPy arrays or torch tensors.

    sites and site_grads: what a forward pass computes on the way, by the names of the tap calls in
    reference/microgpt.py, and the loss's gradients by that. A dict from site to a list with one entry for each
    position, the documents of the batch one after another; any of these, and the shapes of an entry:

        embedding, norm                     (n_embd,)
        layer0.attn.norm, .q, .k, .v        (n_embd,), the heads one after another; so for layer1, ...
        layer0.attn.scores, .weights        (n_head, positions so far)
        layer0.attn.heads, .residual        (n_embd,)
        layer0.mlp.norm, .residual          (n_embd,)
        layer0.mlp.pre, .post               (4 * n_embd,), before and after the activation
        logits, probs                       (vocab_size,)
        loss                                (), of one position
    """

    loss: Any = None
    logits: Any = None
    grads: Any = None
    params: Any = None
    m: Any = None
    v: Any = None
    sites: Any = None
    site_grads: Any = None
