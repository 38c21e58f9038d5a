"""Which parameters of a torch.nn.Module are trained, and what those that are not do to the function."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn

from parity.errors import UsageError
from parity.words import in_few

_GAINS, _BIASES = ("weight", "gain", "scale", "gamma"), ("bias", "beta")
"""What vectors that a norm multiplies by are called, and those that are added."""


def trained(module: nn.Module, frozen: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, once those that a pattern of frozen fits are not."""
    named = module.named_parameters(remove_duplicate=False)
    parameters = {name.replace("_orig_mod.", ""): parameter for name, parameter in named}  # torch.compile's
    for pattern in frozen:
        fitting = [name for name in parameters if fnmatchcase(name, pattern)]
        if not fitting:
            raise UsageError(f"No parameter of the module fits {pattern!r}, which is to be frozen.")
        for name in fitting:
            parameters[name].requires_grad_(False)
    return {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}


def odd_constants(module: nn.Module) -> Iterator[str]:
    """A sentence for gains other than 1 and biases other than 0 that are not trained, which the reference has not."""
    gains, biases = list[str](), list[str]()
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        if parameter.requires_grad or parameter.ndim != 1:
            continue
        if last in _BIASES and parameter.count_nonzero():
            biases.append(name)
        elif last in _GAINS and not torch.all(parameter == 1):
            gains.append(name)
    kinds = (("gain", "gains", "1", gains), ("bias", "biases", "0", biases))
    said = [
        f"{in_few(names)} {f'is a {one}' if len(names) == 1 else f'are {many}'} other than {usual}"
        for one, many, usual, names in kinds
        if names
    ]
    if said:
        yield (
            f"Frozen, {', and '.join(said)}, which the reference does not have: the module computes another function "
            "for that alone."
        )
