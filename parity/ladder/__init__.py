"""The efficiency ladder: every rung's verdict, and its speed and memory where the verdict allows to speak of them.

`rungs` is the table of techniques, `climbing` checks and times them, `comparison` holds each against the rung below,
and `this_machine` says what the figures depend on.
"""

from parity.ladder.climbing import RungResult, climb
from parity.ladder.rungs import RUNGS, Rung, chosen
from parity.ladder.this_machine import machine, missing

__all__ = ["RUNGS", "Rung", "RungResult", "chosen", "climb", "machine", "missing"]
