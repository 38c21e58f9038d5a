"""The revision to compare with in every event of GitHub, found in clones as actions/checkout makes them."""

import subprocess

import pytest

from parity.errors import UsageError
from parity.gate.event import _fetched_if_possible, base_of, named_base
from tests.gate.refactors import git

NOWHERE = "f" * 40
NOTHING = "0" * 40


def repository(**fields) -> dict:
    return {"repository": {"default_branch": "main"}, **fields}


def test_base_of_a_pull_request_is_what_it_is_merged_into(hub, checkout):
    """And not where its branch left main: what main has got since is not the pull request's change."""
    clone = checkout(hub.merge)
    found = base_of("pull_request", hub.pull_request(stale_base=hub.start), clone)
    assert found == (hub.main, "the first parent of the pull request's merge commit")
    assert git("-C", str(clone), "cat-file", "-t", found.commit).strip() == "commit"


def test_base_of_a_pull_request_by_its_own_head_is_where_it_left(hub, checkout):
    found = base_of("pull_request", hub.pull_request(stale_base=hub.main), checkout(hub.topic))
    assert found == (hub.start, "where the pull request left its base branch")


def test_head_of_a_pull_request_that_is_a_merge_itself_is_not_taken_for_githubs(hub, checkout):
    hub.git("checkout", "--quiet", "topic")
    hub.topic = hub.merged(hub.intended)
    found = base_of("pull_request", hub.pull_request(stale_base=hub.main), checkout(hub.topic))
    assert found.commit == hub.intended


def test_pull_request_target_checks_out_no_change(hub, checkout):
    with pytest.raises(UsageError, match=r"^What is checked out is the pull request's base and not its change"):
        base_of("pull_request_target", hub.pull_request(stale_base=hub.main), checkout(hub.main))


def test_base_of_a_push_is_what_was_there_before(hub, checkout):
    event = repository(before=hub.start, forced=False, ref="refs/heads/main")
    assert base_of("push", event, checkout(hub.main)) == (hub.start, "what the branch was before the push")


def test_base_of_a_new_branch_is_where_it_left_the_default_one(hub, checkout):
    event = repository(before=NOTHING, forced=False, ref="refs/heads/topic", created=True)
    assert base_of("push", event, checkout(hub.topic)) == (hub.start, "where the branch left main")


def test_base_of_a_new_branch_without_commits_of_its_own_is_the_commit_before(hub, checkout):
    event = repository(before=NOTHING, forced=False, ref="refs/heads/copy", created=True)
    assert base_of("push", event, checkout(hub.main)) == (hub.intended, "the commit before")


def test_base_of_a_rebased_branch_is_where_it_leaves_the_default_one_now(hub, checkout):
    hub.git("checkout", "--quiet", "-b", "rebased", hub.main)
    rebased = hub.commit("rebased docs")
    event = repository(before=hub.topic, forced=True, ref="refs/heads/topic")
    assert base_of("push", event, checkout(rebased)) == (hub.main, "where the branch left main")


@pytest.mark.parametrize(("before", "base"), [("first", "first"), (NOWHERE, "intended")])
def test_base_of_a_forced_push_to_the_default_branch(hub, checkout, before, base):
    """It is what was there, if that can still be had."""
    event = repository(before=getattr(hub, before, before), forced=True, ref="refs/heads/main")
    assert base_of("push", event, checkout(hub.main)).commit == getattr(hub, base)


def test_base_of_a_merge_group_is_what_it_is_put_on(hub, checkout):
    """Of several queued pull requests, the first parent would be the one before."""
    hub.git("checkout", "--quiet", "-b", "gh-readonly-queue/main/pr-2", hub.merge)
    group = hub.commit("second pull request")
    event = repository(merge_group={"base_sha": hub.main, "head_sha": group})
    assert base_of("merge_group", event, checkout(group)) == (hub.main, "what the merge group is put on")


@pytest.mark.parametrize("name", ["workflow_dispatch", "schedule"])
def test_base_by_hand_is_as_of_a_new_branch(hub, checkout, name):
    assert base_of(name, repository(), checkout(hub.topic)).commit == hub.start


def test_by_hand_on_the_default_branch_the_commit_before_is_the_base(hub, checkout):
    assert base_of("workflow_dispatch", repository(), checkout(hub.main)).commit == hub.intended


def test_first_commit_has_no_base(hub, checkout):
    clone = checkout(hub.start)
    hub.git("update-ref", "refs/heads/main", hub.start)
    assert base_of("push", repository(before=NOTHING, ref="refs/heads/main"), clone) is None
    assert base_of("workflow_dispatch", {}, clone) is None


def test_base_that_is_named_is_fetched(hub, checkout):
    clone = checkout(hub.merge)
    hub.git("tag", "v1", hub.first)
    for name, commit in ((hub.intended, hub.intended), ("origin/topic", hub.topic), ("topic", hub.topic)):
        assert named_base(name, clone) == (commit, name)
    assert named_base("v1", clone).commit == hub.first
    for name in ("nonesuch", "--upload-pack=touch x", "origin/--upload-pack=touch x;", NOWHERE):
        with pytest.raises(UsageError, match=r"^There is no revision '.*' to compare with; "):
            named_base(name, clone)
    assert not (clone / "x").exists()
    assert _fetched_if_possible(clone, "--upload-pack=touch x;") == ""
    assert not (clone / "x").exists()


def test_base_that_cannot_be_had_is_said_to_be(hub, checkout):
    clone = checkout(hub.merge)
    with pytest.raises(UsageError, match=rf"^The base {NOWHERE} cannot be fetched; check out with fetch-depth: 0\.$"):
        base_of("merge_group", {"merge_group": {"base_sha": NOWHERE}}, clone)


def test_whole_clone_stays_whole(hub, checkout):
    clone = checkout(hub.topic)
    shallow = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=True
    ).stdout
    base_of("push", repository(before=hub.intended, ref="refs/heads/topic"), clone)
    assert git("-C", str(clone), "rev-parse", "--is-shallow-repository") == shallow
