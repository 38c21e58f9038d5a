"""A torch.nn.Module as a subject: see `parity.subjects.modules`."""

from parity.subjects.modules import Arranged, ModuleSubject, stacked

__all__ = ["Arranged", "ModuleSubject", "stacked"]
