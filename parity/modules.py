"""A torch.nn.Module as a subject: gradients come from autograd, the update from a torch.optim.

    def make(config, hyper, dtype="float64"):
        return ModuleSubject(GPT(config), config, hyper, {"wte.weight": "wte", ...}, dtype=dtype)

`parity help module` has a whole example, all sites, other losses, and autocast.
"""

from parity.subjects.modules import Arranged, ModuleSubject, stacked

__all__ = ["Arranged", "ModuleSubject", "stacked"]
