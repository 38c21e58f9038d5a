"""A subject for microgpt-parity: fill in the three places marked TODO, then run `parity check my_port.py:make`.

`parity new-subject` wrote this file. What it must compute is defined by reference/microgpt.py of microgpt-parity, 200
lines of pure Python that read top to bottom. Until everything works, give back a Step with what you have: a Step
with nothing but logits is checked on its logits, and the result lists the rest as unchecked. So it does with single
tensors that grads, params, m or v leave out, the same ones at every step.
"""

from typing import Any

from parity import Config, Hyper, State, Step


class MyPort:
    """Your implementation, wrapped so that it can be asked for single steps."""

    # The number format you compute in: "float64", "float32", "bfloat16" or "float16". It sets what rounding may do.
    dtype = "float64"

    # True for an implementation that only computes forward: then weights are set before every step, and never updated.
    forward_only = False
    # The same for one that has gradients, and another optimizer than the reference's Adam, or none.
    without_update = False
    # True where lm_head is wte: then both are given alike before every step, and grads, params, m and v leave them out.
    tied_head = False

    def __init__(self, config: Config, hyper: Hyper) -> None:
        """Make a model.

        config: n_layer, n_embd, n_head, block_size, vocab_size (the last token is BOS), activation ("relu", or "relu2"
        for its square). hyper: learning_rate, beta1, beta2, eps_adam, num_steps, lr_schedule ("linear" to 0 at
        num_steps, or "cosine"). Raise an error for what you do not support: its text becomes the verdict's cause.
        """
        self.config, self.hyper = config, hyper

    def load(self, state: State) -> None:
        """Replace all weights, both Adam moments and the step number.

        state.params, state.m and state.v are dicts from tensor name to a list of rows of floats:
            wte                                (vocab_size, n_embd)    token embeddings
            wpe                                (block_size, n_embd)    position embeddings
            lm_head                            (vocab_size, n_embd)    not tied to wte
            layer0.attn_wq, _wk, _wv, _wo      (n_embd, n_embd)        and so on for layer1, ...
            layer0.mlp_fc1                     (4 * n_embd, n_embd)
            layer0.mlp_fc2                     (n_embd, 4 * n_embd)
        A matrix w is applied to a vector x as w·x: out[i] = sum over j of w[i][j] * x[j].
        """
        # TODO: convert them to your own tensors, for example {name: numpy.array(rows) for name, rows in ...}.
        self.params: dict[str, Any] = state.params
        self.m: dict[str, Any] = state.m
        self.v: dict[str, Any] = state.v
        self.step = state.step  # updates done so far: the learning rate and Adam's bias correction depend on it

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on a batch of documents.

        Each document is a list of tokens with BOS at both ends. It has n = min(block_size, len(document) - 1)
        positions: position i sees the tokens 0 to i and predicts token i + 1. A document's loss is the mean of
        -log p over its positions, the batch's loss the mean of its documents' losses.
        """
        # TODO: compute. Values may be nested lists, NumPy arrays or torch tensors.
        raise NotImplementedError("train_step is still to be written")
        # TODO: give back what you have; every field is optional.
        return Step(
            loss=...,  # a float
            logits=...,  # one matrix (n, vocab_size) for each document
            grads=...,  # dicts shaped like state.params: of the loss, before the update
            params=self.params,  # after the update, as are m and v
            m=self.m,
            v=self.v,
        )

    # Optional, for `pytest --pyargs parity.suite --parity-subject my_port.py:make`:
    # def decode(self, tokens): ...   (len(tokens), vocab_size) logits, one token at a time with a key/value cache
    # def sample(self, temperature, count, seed): ...   count documents without BOS, at most block_size tokens each


def make(config: Config, hyper: Hyper) -> MyPort:
    """The factory that `parity check my_port.py:make` calls; add dtype="float64" to have --dtype choose it."""
    return MyPort(config, hyper)
