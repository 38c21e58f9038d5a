"""Running a campaign: what its ledger has is not done again, what failed before is done first, failures are shrunk."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace

from parity.campaign.item import Item, Plan, revision
from parity.campaign.ledger import Ledger
from parity.campaign.outcome import CaseOutcome, Outcome
from parity.campaign.workers import Workers
from parity.campaign.working import Task
from parity.progress import work

_MOST_TRIES = 2
"""How often an item is given to a worker: what kills two is not to be blamed on the machine."""
_IN_HAND = 2
"""Tasks for each worker that are handed out, so that none waits for the next one."""
_SHRUNK_AT_MOST = 20
"""Signatures of failures whose cases are made small: more of them are one mistake, most probably."""


def run(plan: Plan, ledger: Ledger, workers: Workers) -> list[Item]:
    """Do what of a plan is not in the ledger, and shrink what failed; the items of the plan, those first that failed.

    UsageError where there is no such subject.
    """
    items, known = plan.items(), ledger.keys()
    failed = list(_failed_before(plan, items, ledger))
    again = {item.key for item in failed}
    items = [*failed, *(item for item in items if item.key not in again)]
    missing = [item for item in items if item.key not in known]
    ledger.append_asked({item.subject: item for item in items}.values())
    with work("items", len(missing)) as item_is_done:
        for task, outcome in _done(workers, (Task(item) for item in missing)):
            ledger.append(task.item, outcome)
            item_is_done()
    failing = dict(_to_shrink(items, ledger))
    with work("making failing cases small", len(failing)) as case_is_done:
        for task, outcome in _done(workers, failing):
            found = outcome.cases[0] if outcome.cases else None  # None: it was not come by again, and stays as it is
            text = found.case if found else ledger.case_text(failing[task].digest)
            reason = (found or failing[task]).reason
            ledger.append_shrunk(task.item.failure(task.shrink), task.shrink, text, reason)
            case_is_done()
    return items


def _failed_before(plan: Plan, items: Iterable[Item], ledger: Ledger) -> Iterator[Item]:
    """What failed at any revision, as it is now; whatever its seed is, where its subject and format are asked for."""
    codes = {(item.subject, item.dtype): item.code for item in items}
    seen = set()
    for item, outcome, _ in ledger.entries():
        of_plan = (item.kind, item.guided) == (plan.kind, plan.guided) and item.draw in plan.draws
        asked = of_plan and (item.subject, item.dtype) in codes
        if asked and item.question not in seen and _fails(outcome):
            seen.add(item.question)
            yield replace(item, seconds=plan.seconds, code=codes[item.subject, item.dtype], revision=revision())


def _fails(outcome: Outcome) -> bool:
    return bool(outcome.died) or any(case.signature for case in outcome.cases)


def _to_shrink(items: Iterable[Item], ledger: Ledger) -> Iterator[tuple[Task, CaseOutcome]]:
    """Once for each signature of a subject in a format, with the first case that has it."""
    shrunk, keys = set(ledger.shrunk()), {item.key for item in items}
    found = Counter[tuple[str, str]]()
    for item, outcome, _ in ledger.entries():
        for case in outcome.cases if item.key in keys else ():
            key = item.failure(case.signature)
            if case.signature and key not in shrunk and found[item.subject, item.dtype] < _SHRUNK_AT_MOST:
                shrunk.add(key)
                found[item.subject, item.dtype] += 1
                yield Task(item, case.signature), case


def _done(workers: Workers, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
    """The tasks with their outcomes, as they are done."""
    waiting, left = iter(tasks), deque[Task]()
    in_hand: dict[Future[Outcome], Task] = {}
    tries = Counter[Task]()
    while True:
        while len(in_hand) < _IN_HAND * workers.number:
            task = left.popleft() if left else next(waiting, None)
            if task is None:
                break
            in_hand[workers.submit(task)] = task
        if not in_hand:
            return
        finished, _ = wait(in_hand, return_when=FIRST_COMPLETED)
        for future in sorted(finished, key=lambda future: future.exception() is not None):  # what is done is kept
            task = in_hand.pop(future)
            error = future.exception()
            if error is None:
                yield task, future.result()
                continue
            how = workers.died(error)
            if not how:
                raise getattr(error, "cause", None) or error  # which Ray wraps
            tries[task] += 1
            if tries[task] < _MOST_TRIES:
                left.append(task)
            else:
                yield task, Outcome(died=f"it ended its process {_MOST_TRIES} times, {how}")
