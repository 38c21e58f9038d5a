"""Numbers in sentences."""


def counted(number: int, what: str) -> str:
    """A number of things, in words: `1 step`, `1,000 steps`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
