"""Trainings over several ranks."""

from pathlib import Path

import parity.ladder.parallel

TECHNIQUES = Path(parity.ladder.parallel.__file__).parent
