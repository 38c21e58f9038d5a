"""What no element decides about a known mistake, all of them together may: how much of it there is."""

import pytest

from parity import Case, Step, check
from parity.catalogue.evidence import weigh
from parity.catalogue.exclusion import note_exclusion
from parity.catalogue.mutants import MUTANTS
from parity.cli.check_tables import undecided
from parity.judging.checking import TIED_HEAD
from parity.judging.excluded import Exclusion, Weighed
from parity.oracle.replay import Replay

CASE = Case.from_names(steps=10, config={"n_embd": 8, "n_head": 2, "block_size": 6})


def short(make):
    def made(config, hyper):
        subject = make(config, hyper)
        subject.dtype = "bfloat16"
        return subject

    return made


def test_right_answers_exclude_a_mistake_that_each_of_them_hides():
    result = check(short(Replay), CASE, modes="lock-step", probes=False)
    found = weigh(result, ["betas_in_bfloat16", "norm_without_eps"])
    assert found["betas_in_bfloat16"].excluded
    assert abs(found["betas_in_bfloat16"].alpha) < 0.1
    assert not found["norm_without_eps"].excluded


def test_answers_with_a_mistake_do_not_exclude_it():
    result = check(short(MUTANTS["betas_in_bfloat16"].make), CASE, modes="lock-step", probes=False)
    (found,) = weigh(result, ["betas_in_bfloat16"]).values()
    assert 0.5 < found.alpha < 1.5
    assert not found.excluded


def test_no_time_is_no_evidence():
    result = check(short(Replay), CASE, modes="lock-step", probes=False)
    assert weigh(result, ["betas_in_bfloat16"], seconds=-1) == {}


def test_more_documents_are_asked_for_where_they_would_decide():
    weighed = Weighed(alpha=0.0, sd=0.2, shared=0.0, limit=10.0, documents=20)
    assert (weighed.excluded, weighed.more_documents) == (False, 300)
    assert Weighed(0.0, 0.2, 1.0, 10.0, 20).more_documents is None
    told = undecided(Exclusion(2, {"a": "First.", "b": "Second."}, {"a": weighed}))
    assert told == [
        "First. (alpha 0 ± 0.2: some 300 more documents would decide)",
        "Second. (no alpha: these answers show nothing of it, made or not)",
    ]


def test_pass_in_a_short_format_excludes_by_all_elements_together():
    result = check(short(Replay), CASE, probes=True)
    note_exclusion(result)
    assert result.excluded.weighed["betas_in_bfloat16"].excluded
    assert "betas_in_bfloat16" not in result.excluded.undecided
    assert result.to_dict()["excluded"]["weighed"]["betas_in_bfloat16"]["excluded"] is True
    # What is kept in bfloat16 by right is no mistake.
    assert "moments_in_bfloat16" not in result.excluded.undecided


@pytest.mark.parametrize("fields", [("params",), ("loss",), ("params", "m", "v")])
def test_answers_of_few_quantities_are_weighed_by_what_is_there(fields):
    class Few(Replay):
        def train_step(self, batch):
            step = super().train_step(batch)
            return Step(**{field: getattr(step, field) for field in fields})

    result = check(short(Few), CASE, modes="lock-step", probes=False)
    assert weigh(result, ["betas_in_bfloat16"]) == {}


def test_mistake_that_is_seen_is_told_and_not_excluded():
    seen = Weighed(alpha=1.0, sd=0.01, shared=0.0, limit=8.0, documents=20)
    assert (seen.seen, seen.excluded) == (True, False)
    told = str(Exclusion(3, {"a": "First.", "b": "Second."}, {"a": seen}))
    assert told == "1 of 3 known mistakes; seen, as where it is made: a; undecided: b"


def test_large_effect_that_is_clipped_is_not_excluded():
    assert not Weighed(alpha=0.9, sd=0.001, shared=0.0, limit=8.0, documents=20).excluded


def test_of_a_tied_head_nothing_is_excluded_by_what_is_stored_of_others():
    result = check(short(Replay), CASE, probes=True)
    result.left_out += (TIED_HEAD,)
    note_exclusion(result)
    assert result.excluded is None
