"""Known mistakes: the reference with each of them, and how far rounding takes that."""
