# ruff: noqa: D100 - the docstring is that of parity.subjects.modules
from parity.subjects.modules import Arranged, ModuleSubject, stacked
from parity.subjects.modules import __doc__ as __doc__

__all__ = ["Arranged", "ModuleSubject", "stacked"]
