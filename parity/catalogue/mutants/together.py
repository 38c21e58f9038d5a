"""Edits for mistakes of programs that compute all positions at once, and mix up which number is whose."""

VIEWED_AS_HEADS = """    flat, n, size = [a for row in rows for a in row], len(rows), config.head_dim
    starts = [[(head * n + position) * size for head in range(config.n_head)] for position in range(n)]
    return [[a for start in row for a in flat[start : start + size]] for row in starts]"""
"""Of vectors for each position: they are taken, in the order in which they lie, for heads by positions."""

VIEWED_AS_POSITIONS = """    heads = range(config.n_head)
    flat = [a for head in heads for row in rows for a in split_heads(row, config)[head]]
    return [flat[start : start + config.n_embd] for start in range(0, len(flat), config.n_embd)]"""
"""The other way round: heads by positions, in the order in which they lie, are taken for a vector for each position."""

SOFTMAX_OF_COLUMNS = """    at, heads = range(len(rows)), range(config.n_head)
    columns = [[softmax([row[head][key] for row in rows[key:]]) for key in at] for head in heads]
    return [[[columns[head][key][query - key] for key in at[: query + 1]] for head in heads] for query in at]"""
"""Of scores by head and position so far: attention weights, whose sums over the queries are 1."""

TRANSPOSED = """    heads = range(config.n_head)
    return [[[row[head][query] for row in rows[query:]] for head in heads] for query in range(len(rows))]"""
"""Of attention weights by head and position so far: those by head and position from here on."""

NORMALISED_TOGETHER = """    flat = rmsnorm([a for row in rows for a in row])
    return [flat[start : start + config.n_embd] for start in range(0, len(flat), config.n_embd)]"""
"""Of vectors for each position: all of them divided by one root mean square."""

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

    mixed: a body for `mixed(rows, config)`, as above, which takes what there is for each position and returns as
    much. places: expressions of `gpt`, each once in the reference's source.
    """
    return (
        ("def gpt(", f"def mixed(rows, config):\n{mixed}\n\n\n{_STEPS}"),
        (_POSITIONS, f"    rows = in_step([{_CALL} for position in range(n)], config)\n{_POSITIONS}"),
        (_CALL, "rows[position]"),
        *((place, f"(yield {place})") for place in places),
    )
