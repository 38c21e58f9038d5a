"""Who does items: processes of this machine, each of which may die alone, or tasks of a Ray cluster."""

import logging
import multiprocessing
import signal
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from parity.campaign.outcome import Outcome
from parity.errors import UsageError


class Workers(Protocol):
    """A context in which tasks are done elsewhere. number: how many at a time."""

    number: int

    def submit(self, task: Any) -> "Future[Outcome]":
        """Have it done: the future's result is the outcome."""

    def died(self, error: BaseException) -> str:
        """How its worker died, in words; empty where a future's exception says something else."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...


class LocalWorkers:
    """Processes of this machine; where one dies another takes its place, and only the item in hand is lost."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number or psutil.cpu_count() or 1

    def __enter__(self) -> Self:
        from pebble import ProcessPool

        self.pool: Any
        # Not forked: what this process has loaded may have threads, which no fork survives.
        self.pool = ProcessPool(max_workers=self.number, context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.pool.close()
        else:
            self.pool.stop()
        self.pool.join()

    def submit(self, task: Any) -> "Future[Outcome]":
        """As the protocol says."""
        from parity.campaign.working import do

        future: Future[Outcome] = self.pool.schedule(do, args=(task,))
        return future

    def died(self, error: BaseException) -> str:
        """As the protocol says."""
        from pebble import ProcessExpired

        if not isinstance(error, ProcessExpired):
            return ""
        status = error.exitcode if isinstance(error.exitcode, int) else 0
        return f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"


class RayWorkers:
    """Tasks of a Ray cluster. address: of the cluster; "auto" finds the one that this machine is part of.

    Every machine of it must have this package and its subjects where this one has them. UsageError where there is no
    such cluster, or no Ray.
    """

    def __init__(self, address: str) -> None:
        self.address, self.number = address, 1

    def __enter__(self) -> Self:
        try:
            import ray
        except ModuleNotFoundError:
            raise UsageError("--ray needs Ray: pip install 'microgpt-parity[ray]'.") from None
        self.ray: Any = ray
        self.ours = not ray.is_initialized()
        if self.ours:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
                raise UsageError(f"There is no Ray cluster at {self.address}: {said}.") from None
        self.number = max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        self.remote = ray.remote(max_retries=0, num_cpus=1)(_work_elsewhere)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.ours:
            self.ray.shutdown()

    def submit(self, task: Any) -> "Future[Outcome]":
        """As the protocol says."""
        return self.remote.remote(task).future()

    def died(self, error: BaseException) -> str:
        """As the protocol says."""
        known = self.ray.exceptions
        died = isinstance(error, known.RayError) and not isinstance(error, known.RayTaskError)
        return f"in Ray's words {type(error).__name__}" if died else ""


def _work_elsewhere(task: Any) -> Outcome:
    from parity.campaign.working import do

    return do(task)
