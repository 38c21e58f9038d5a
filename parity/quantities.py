"""The quantities of a training step, in the order in which it computes them."""

FIELDS = {
    "sites": "site",
    "logits": "logits",
    "loss": "loss",
    "site_grads": "site grad",
    "grads": "grad",
    "m": "m",
    "v": "v",
    "params": "param",
}
"""The fields of a Step and the quantities that they hold, in the order in which a step computes them."""

SITES = ("site", "site grad")
"""Quantities of which a subject may expose some tensors and not others."""
