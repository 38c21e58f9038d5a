"""Edits for mistakes of programs that compute all positions at once, and mix up which number is whose."""

_STEPS = '''def in_step(runs, config):
    """Run generators side by side: what all of them yield is mixed, and each is sent its part."""
    sent, results = [None] * len(runs), []
    while not results:
        yielded = []
        for run, row in zip(runs, sent):
            try:
                yielded.append(run.send(row))
            except StopIteration as end:
                results.append(end.value)
        sent = mixed(yielded, config) if yielded else []
    return results


def gpt('''
_POSITIONS = "    for position in range(n):\n"
_CALL = "gpt(tokens[position], position, keys, values, params, config, tap)"


def mixing(mixed: str, *places: str) -> tuple[tuple[str, str], ...]:
    """Edits that compute a document's positions side by side, and mix the vectors that they have at these places.

    mixed: a body for `mixed(rows, config)`, which takes one vector for each position and returns as many. places:
    expressions of `gpt`, each once in the reference's source.
    """
    return (
        ("def gpt(", f"def mixed(rows, config):\n{mixed}\n\n\n{_STEPS}"),
        (_POSITIONS, f"    rows = in_step([{_CALL} for position in range(n)], config)\n{_POSITIONS}"),
        (_CALL, "rows[position]"),
        *((place, f"(yield {place})") for place in places),
    )
