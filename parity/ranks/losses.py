"""The loss of the whole batch, put together of those that the ranks give."""

from collections.abc import Sequence


def put_together(losses: Sequence[float | None], weights: Sequence[float], declared: str) -> dict[str, float]:
    """What it may be, by how it comes about; what the training declares alone, where it does.

    losses: of every rank, None where it gives none, as in a pipeline all but the last do. declared: mean, sum or
    weighted mean, or empty.
    """
    given = [(loss, weight) for loss, weight in zip(losses, weights, strict=True) if loss is not None]
    if not given:
        return {}
    values = [loss for loss, _ in given]
    total, weight = sum(values), sum(weight for _, weight in given)
    found = {"the loss of every rank that gives one": values[0]} if len(set(values)) == 1 else {}
    found |= {"mean": total / len(values), "sum": total}
    if declared == "weighted mean":
        found[declared] = sum(loss * own for loss, own in given) / weight if weight else float("nan")
    return {declared: found[declared]} if declared else found
