"""All steps of the ranks in one format, each beside what the single training makes of where they stood."""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from parity.errors import UsageError
from parity.quantities import TensorKey
from parity.ranks.by_rank import RanksMode
from parity.ranks.explanation import explain, sentences
from parity.ranks.gathered import Gathered, gather
from parity.ranks.losses import put_together
from parity.ranks.parts import Parts
from parity.ranks.processes import Ranks
from parity.ranks.sides import Sides
from parity.ranks.single import Single
from parity.training.checking import TrainingOptions, steps_of
from parity.training.comparison import TrainingJudge
from parity.training.names import Names
from parity.training.observation import Observed
from parity.training.other import Numbered
from parity.training.running import Factory
from parity.words import counted

_LOSS = TensorKey("loss", "loss")
_OF_RANK = re.compile(r"rank(\d+)\.")


class Run:
    """The ranks and the single training in one format. dtype: what the factories are asked for, or None."""

    def __init__(
        self,
        sides: Sides,
        dtype: str | None,
        replicas: int,
        ranks: Ranks,
        options: TrainingOptions,
        progress: Callable[[str], None],
    ) -> None:
        self.sides, self.dtype, self.replicas, self.ranks, self.options = sides, dtype, replicas, ranks, options
        self.progress = progress
        self.mode = RanksMode(dtype or "own format")
        self.judge = TrainingJudge.of_replicas(1, replicas, options.false_alarm)
        self.steps = 0
        self.explanation = ""
        self.explained: dict[int, str] = {}
        """By rank, what its wrong gradients are made of."""
        self.apart: set[str] = set()
        """Tensors of which ranks have other bits."""
        self.only_here: set[str] = set()
        self.only_there: set[str] = set()
        self.losses_fit = True
        """Whether the whole batch's loss is the mean of the ranks', or their sum, if nothing is declared."""
        self.dealt_out = False
        """Whether ranks ever computed anything that not all of them did."""

    def take(self, formats: int) -> None:
        """Take the steps, until one is wrong. formats: how many the false-alarm rate is shared out over."""
        given, factory = self.sides.factories(self.dtype)
        self.progress("starting the ranks")
        message = {"type": "make", "factory": self.sides.name, "options": given}
        made = self.ranks.ask(message, "made", "making the training")
        self.made: dict[str, Any] = made[0]
        self.formats = self.made["formats"] + ([f"autocast {self.made['autocast']}"] if self.made["autocast"] else [])
        self.mode.mode = "+".join(self.formats)
        self.begin = gather(self.ranks, made)
        self.single = self._single(factory)
        self.names = Names(self.sides.names, self.begin.shapes(), self.single.shapes, self.single.tied)
        self.parts = Parts(self.ranks, self.single, self.sides.single_name, self.names)
        stands = self.begin
        if self._starts_apart():
            return
        self.available = min([self.single.runs.native.steps, *(own["steps"] for own in made)])
        self.steps = steps_of(self.available, self.options.steps)
        for number in range(self.steps):
            stands = self._step(number, stands, formats)
            if self.mode.wrong:
                break
        self.mode.conclude(self.judge)

    def _single(self, factory: Factory) -> Single:
        own = self.made["formats"]
        single = Single(factory, self.replicas)
        if single.formats != own and len(own) == 1:
            with suppress(UsageError):  # it may have another format by default
                single = Single(Factory(self.sides.single, own[0], self.sides.device), self.replicas)
        if single.formats != own:
            raise UsageError(
                f"The ranks' parameters lie in {' and '.join(own)}, those of {self.sides.single_name} in "
                f"{' and '.join(single.formats)}: let its factory take a dtype, too, or ask for one by --dtype."
            )
        return single

    def _starts_apart(self) -> bool:
        """Whether the ranks begin with other parameters than each other, which nothing would bring together."""
        apart = {key: by_rank for key, by_rank in self.begin.others.items() if key.quantity == "param"}
        if not apart:
            return False
        actual, expected = Observed(), {}
        for key, by_rank in apart.items():
            for rank, tensor in by_rank.items():
                own = key._replace(name=f"rank{rank}.{key.name}")
                actual.tensors[own], actual.dtypes[own] = tensor, self.begin.dtypes[key]
                expected[own] = self.begin.tensors[key]
        self.mode.take(0, actual, expected, {key: torch.zeros_like(x) for key, x in expected.items()}, self.judge)
        self.mode.deal_out(self.ranks.count, self.begin.versions())
        self.mode.conclude(self.judge)
        of = sorted({rank for by_rank in apart.values() for rank in by_rank})
        self.explanation = (
            f"Before any step {counted(len(apart), 'parameter')} of rank {' and '.join(map(str, of))} differ from "
            "rank 0's: drawn from another seed, or not broadcast."
        )
        self.explained = dict.fromkeys(of, "before any step parameters differ from rank 0's")
        return True

    def _step(self, number: int, stands: Gathered, formats: int) -> Gathered:
        self.progress(f"{self.mode.mode}: step {number}")
        answers = self.ranks.ask({"type": "step", "number": number}, "step", f"step {number}")
        for rank, answer in enumerate(answers):
            if not answer["updates"]:
                raise UsageError(f"Step {number} never calls the optimizer's step() on rank {rank}.")
        found = gather(self.ranks, answers)
        start = self.names.to_other(stands.state(0))
        exact, wide = self.single.step(number, start, self._gradients(found, 0))
        expected, floor = self.names.to_own(exact.tensors), self.names.to_own(wide)
        short = self.made["reduces_in"]
        rounded = self.parts.rounded(number, start, expected, short) if short else {}
        by_rank = {}  # what a rank made of a state or gradients of its own is judged by these
        for rank in found.apart(gradients=True) | stands.apart(gradients=False):
            own = self.names.to_other(stands.state(rank))
            by_rank[rank] = self.names.to_own(self.single.exact(number, own, self._gradients(found, rank)).tensors)
        self.single.move_on()
        actual, stands_for = found.observed()
        right, sigma = {}, {}
        certain: dict[TensorKey, Tensor] = {}
        for name, (key, rank) in stands_for.items():
            of = by_rank.get(rank, expected)
            if key in of and of[key].shape == actual.tensors[name].shape:
                right[name], sigma[name] = of[key], floor[key]
                certain |= {name: rounded[key]} if key in rounded else {}
        elements = (1 + sum(x.numel() for x in right.values())) * self.steps * formats
        self.judge = TrainingJudge.of_replicas(elements, self.replicas, self.options.false_alarm)
        self._add_loss(found, actual, expected, floor, right, sigma)
        self.mode.take(number, actual, right, sigma, self.judge, certain)
        self.mode.deal_out(self.ranks.count, found.versions())
        self._note(found, actual, right, expected)
        self.dealt_out |= not found.inputs_alike
        self._explain(number, start, stands, found, expected)
        return found

    def _gradients(self, found: Gathered, rank: int) -> dict[str, Tensor]:
        """A rank's gradients, in the single training's names."""
        own = {TensorKey("grad", name): x.double() for name, x in found.of_rank(rank, "grad").items()}
        return {key.name: x for key, x in self.names.to_other(own).items()}

    def _note(self, found: Gathered, actual: Observed, right: Numbered, expected: Numbered) -> None:
        self.apart |= {key.described() for key in found.others}
        # Of parameters that nobody trains there is nothing to compare.
        self.only_here |= {key.described() for key in actual.tensors if key not in right and key.quantity != "param"}
        left = expected.keys() - found.tensors.keys() - {_LOSS}
        self.only_there |= {key.described() for key in left if key.quantity not in ("output", "buffer")}

    def _add_loss(
        self,
        found: Gathered,
        actual: Observed,
        expected: Numbered,
        floor: Numbered,
        right: dict[TensorKey, Tensor],
        sigma: dict[TensorKey, Tensor],
    ) -> None:
        """Have the whole batch's loss compared: as it is declared, or where nothing is, in the way that fits."""
        declared = self.made["ranks_loss"]
        together = put_together(found.losses, found.weights, declared)
        if _LOSS not in expected or not together:
            return
        most = self.judge.limit * float(floor[_LOSS])
        errors = {how: abs(loss - float(expected[_LOSS])) for how, loss in together.items()}
        how = min(errors, key=lambda how: errors[how])
        if not declared and math.isfinite(together[how]) and errors[how] > most:  # what is no number fits nothing
            self.losses_fit = False
            return
        actual.tensors[_LOSS] = torch.tensor(together[how], dtype=found.loss_dtype)
        actual.dtypes[_LOSS] = found.loss_dtype
        right[_LOSS], sigma[_LOSS] = expected[_LOSS], floor[_LOSS]

    def _explain(self, number: int, start: Numbered, stands: Gathered, found: Gathered, expected: Numbered) -> None:
        """Say what the wrong gradients are made of, or where no update was taken."""
        wrong: dict[int | None, dict[str, Tensor]] = {}
        unchanged: dict[int, int] = {}
        for entry in self.mode.wrong:
            match = _OF_RANK.match(entry.key.name)
            name, rank = (entry.key.name[match.end() :], int(match[1])) if match else (entry.key.name, None)
            quantity = entry.key.quantity
            if quantity not in ("grad", "param"):
                continue
            tensor = found.of_rank(rank or 0, quantity)[name]
            if quantity == "grad":
                wrong.setdefault(rank, {})[name] = tensor
            elif rank is not None and torch.equal(tensor, stands.tensors[entry.key._replace(name=name)]):
                unchanged[rank] = unchanged.get(rank, 0) + 1
        if wrong:
            known = self.parts.known(number, start, found, expected)
            clauses = explain(wrong, known, self.ranks.count)
            self.explanation = sentences(clauses, self.ranks.count)
            for clause, of in clauses.items():
                for rank in of:
                    self.explained[rank] = "; ".join(filter(None, (self.explained.get(rank), clause)))
        elif unchanged:
            parts = [f"rank {rank} keeps {counted(n, 'parameter')} as they were" for rank, n in unchanged.items()]
            self.explanation = f"After the step {', '.join(parts)}: another rank's update has not reached it."
            self.explained = dict.fromkeys(unchanged, "another rank's update has not reached it")
        elif [entry.key for entry in self.mode.wrong] == [_LOSS]:
            self.explanation = (
                f"Nothing else differs: the {self.made['ranks_loss']} of the ranks' losses is another loss."
            )
