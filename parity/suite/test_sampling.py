"""Sampling: documents drawn from the model. For subjects with sample(temperature, count, seed).

The model is so small that the probability of every document that it can make is computed from the reference's logits.
"""

import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from parity.case import Case
from parity.errors import SubjectError
from parity.number_formats import Floats
from parity.subjects.calls import guarded
from parity.suite.bound import Bound
from parity.suite.laws import Questions, asking
from parity.verdict import FALSE_ALARM
from reference.config import Config, Hyper
from reference.microgpt import init_params, init_state

CONFIG = Config(n_layer=1, n_embd=8, n_head=2, block_size=3, vocab_size=4, init_std=0.5)
BOS = CONFIG.vocab_size - 1
SAMPLE_SIZE = 2000
"""Documents drawn: many enough to tell temperatures apart, few enough that bfloat16 is no other distribution."""
POOLED = 5.0
"""Documents expected less often are counted together, as is the custom for such tests."""

Document = tuple[int, ...]
DOCUMENTS = [inner for length in range(CONFIG.block_size + 1) for inner in product(range(BOS), repeat=length)]
"""All that the model can make: up to block_size tokens without BOS."""


def model(seed: int = 0) -> Case:
    """A case of one step on every document."""
    documents = [[BOS, *inner, BOS] for inner in DOCUMENTS]
    state = init_state(init_params(CONFIG, random.Random(seed)))
    return Case(CONFIG, Hyper(), state, documents, batch_size=len(documents), steps=1)


def expected_logits(questions: Questions) -> dict[Document, Floats]:
    """The reference's logits of every document, a row for each position."""
    step = questions.expected(next(questions.case.batches())).step
    return dict(zip(DOCUMENTS, map(np.asarray, step.logits)))


def probability(document: Document, rows: Floats, temperature: float) -> float:
    """Of drawing just this document: its tokens, and BOS after them if there is room for more."""
    ends = [*document, *([BOS] if len(document) < CONFIG.block_size else [])]
    return math.exp(sum(log_softmax(row / temperature)[token] for row, token in zip(rows, ends)))


def sampled(questions: Questions, temperature: float, count: int, seed: int) -> list[Document]:
    """Documents of the subject; SubjectError where they are not ones that this model could make."""
    questions.load()
    given = guarded("sample", questions.method("sample"), temperature, count, seed)
    try:
        documents = [tuple(int(token) for token in document) for document in given]
    except (TypeError, ValueError):
        raise SubjectError("sample gave something other than a list of documents, which are lists of tokens.") from None
    if len(documents) != count:
        raise SubjectError(f"sample gave {len(documents)} documents, not {count}.")
    strange = set(documents) - set(DOCUMENTS)
    if strange:
        raise SubjectError(
            f"sample gave the document {list(strange.pop())}; block_size is {CONFIG.block_size}, tokens are 0 to "
            f"{BOS - 1}, and BOS, {BOS}, is left out."
        )
    return documents


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_distribution(parity_subject: Bound, temperature: float) -> None:
    """Documents come as often as softmax(logits / temperature) says, by a G-test at the project's false-alarm rate."""
    with asking(parity_subject, model()) as questions:
        counts = Counter(sampled(questions, temperature, SAMPLE_SIZE, seed=1))
        logits = expected_logits(questions)
        expected = {
            document: SAMPLE_SIZE * probability(document, rows, temperature) for document, rows in logits.items()
        }
        rare = {document for document, often in expected.items() if often < POOLED}
        cells = [(counts[document], often) for document, often in expected.items() if document not in rare]
        if rare:
            cells.append((sum(counts[document] for document in rare), sum(expected[document] for document in rare)))
        observed, due = np.array(cells).T
        # The likelihood ratio keeps its distribution far out, where this false-alarm rate lies; Pearson's sum does not.
        chance = stats.power_divergence(observed, due * observed.sum() / due.sum(), lambda_="log-likelihood").pvalue
        if not chance > FALSE_ALARM:
            worst = max(expected, key=lambda document: abs(counts[document] - expected[document]))
            questions.broken(
                f"Sampling at temperature {temperature:g}",
                f"the document {list(worst)} came {counts[worst]} times of {SAMPLE_SIZE:,}, expected "
                f"{expected[worst]:.1f}; chance {chance:.1g} (limit {FALSE_ALARM:g}).",
            )


def test_temperature_0_takes_the_likeliest(parity_subject: Bound) -> None:
    """At temperature 0 every token is the likeliest one; where rounding decides which that is, either will do."""
    with asking(parity_subject, model()) as questions:
        logits = expected_logits(questions)
        sigma = questions.expected(next(questions.case.batches())).sigma
        spread = dict(zip(DOCUMENTS, map(np.asarray, sigma.logits)))
        for document in sampled(questions, 0.0, 3, seed=1):
            for place, token in enumerate([*document, BOS][: CONFIG.block_size]):
                row, floor = logits[document][place], spread[document][place]
                best = int(np.argmax(row))
                if row[best] - row[token] > questions.run.judge.limit * math.hypot(floor[best], floor[token]):
                    questions.broken(
                        "Sampling at temperature 0",
                        f"after {list(document[:place])} comes {token} with logit {row[token]:.17g}, not {best} with "
                        f"{row[best]:.17g}.",
                    )


def test_seed_decides(parity_subject: Bound) -> None:
    """The same seed gives the same documents, another one others."""
    with asking(parity_subject, model()) as questions:
        alike = sum(probability(document, rows, 1.0) ** 2 for document, rows in expected_logits(questions).items())
        count = math.ceil(math.log(FALSE_ALARM) / math.log(alike))  # by chance, so many agree this seldom
        first, again, other = (sampled(questions, 1.0, count, seed) for seed in (1, 1, 2))
        if first != again:
            questions.broken("Sampling twice with one seed", "the documents are not the same.")
        if first == other:
            questions.broken("Sampling with two seeds", "the documents are the same.")
