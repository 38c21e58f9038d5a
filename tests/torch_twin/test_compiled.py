"""The compiled rungs of the ladder, and those for a GPU.

Compiling takes seconds, so a few cases are compiled, and many more run what is compiled as plain torch.
"""

import importlib
from functools import cache

import pytest
import torch
from torch._dynamo.utils import counters

from parity import Hyper, Verdict, check
from parity.ladder import RUNGS as LADDER
from parity.ladder import Rung, missing
from parity.testing import assert_parity
from tests.torch_twin.small_cases import CASES, SMALL, agree_on_drawn_cases, name, small
from torch_twin import cuda_graph
from torch_twin.batched_step import BatchedStep
from torch_twin.bfloat16 import BFloat16
from torch_twin.chunks import Chunks
from torch_twin.compiled import Compiled
from torch_twin.cuda_graph import CudaGraph
from torch_twin.documents_last import DocumentsLast
from torch_twin.tools.threads import threads
from torch_twin.whole_step import WholeStep

needs_compiler = pytest.mark.skipif(bool(lacking := missing(Rung("", "", compiled=True))), reason=lacking)

RUNGS = ("compiled", "whole_step", "documents_last", "chunks", "batched_step", "bfloat16")
COMPILED = (
    ("compiled", "float64"),
    ("whole_step", "float32"),
    ("documents_last", "float32"),
    ("chunks", "float32"),
    ("batched_step", "float32"),
    ("bfloat16", "bfloat16"),
)
ON_GPU = ("cuda", "cuda_graph")


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other take longer than such small models."""
    with threads(1):
        yield


@pytest.fixture
def _eager():
    """Run what is compiled as plain torch."""
    with torch.compiler.set_stance("force_eager"):
        yield


def one_layer():
    return small(Hyper(lr_schedule="cosine"), n_layer=1, activation="relu2", batch_size=3, steps=3)


@cache
def compiled(rung: str, dtype: str):
    """One subject for all tests, which share what is compiled for it; chunks have two threads."""
    case = one_layer()
    torch.set_num_threads(2 if rung == "batched_step" else 1)
    return importlib.import_module(f"torch_twin.{rung}").make(case.config, case.hyper, dtype)


@needs_compiler
@pytest.mark.parametrize(("rung", "dtype"), COMPILED)
def test_compiled_rung_agrees_with_the_reference(rung, dtype, tmp_path):
    result = assert_parity(compiled(rung, dtype), one_layer(), store=tmp_path)
    assert result.unchecked == []
    assert [mode.mode for mode in result.modes][:2] == ["lock-step", "free-running"]


@needs_compiler
@pytest.mark.parametrize(("rung", "dtype"), COMPILED)
def test_one_graph_serves_all_lengths_and_steps(rung, dtype):
    case, subject = one_layer(), compiled(rung, dtype)
    subject.load(case.state)
    subject.train_step(case.documents[:3])
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for batch in ([case.documents[1]] * 3, [case.documents[2]] * 3, case.documents[2:]):
        subject.train_step(batch)
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.usefixtures("_eager")
def test_what_is_compiled_agrees_with_the_reference(rung, case, tmp_path):
    assert assert_parity(name(rung), case, store=tmp_path).unchecked == []


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.usefixtures("_eager")
def test_what_is_compiled_agrees_in_every_format(rung, dtype, tmp_path):
    assert_parity(name(rung), small(steps=1), dtype=dtype, store=tmp_path)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.usefixtures("_eager")
def test_what_is_compiled_agrees_on_drawn_cases(rung):
    agree_on_drawn_cases(name(rung))


@pytest.mark.parametrize("rung", [rung for rung in LADDER if not rung.single], ids=lambda rung: rung.name)
@pytest.mark.usefixtures("_gpu_on_cpu", "_eager")
def test_ladder_knows_which_rungs_are_compiled(rung):
    module, _, factory = rung.factory.partition(":")
    options = {"dtype": rung.dtype} if rung.dtype else {}
    subject = getattr(importlib.import_module(module), factory)(SMALL, Hyper(), **options)
    assert rung.compiled == (isinstance(subject, Compiled) and not rung.cuda)
    assert rung.static == (isinstance(subject, Compiled) and not isinstance(subject, Chunks))


@pytest.mark.parametrize(("threads", "width"), [(1, 2), (2, 128), (3, 1)])
@pytest.mark.parametrize("kind", [Chunks, BatchedStep])
@pytest.mark.usefixtures("_eager")
def test_chunks_add_up_to_the_batch(kind, threads, width, tmp_path):
    torch.set_num_threads(threads)
    subject = kind(SMALL, Hyper())
    subject.width = width
    assert_parity(subject, small(), store=tmp_path)


def test_chunks_hold_documents_of_like_length_and_hardly_any_padding():
    subject = Chunks(SMALL, Hyper())
    subject.width = 4
    documents = [[6, *range(1 + i % 5), 6] for i in range(20)]
    order, chunks = subject.prepare(documents)
    assert sorted(order) == list(range(20))
    assert [tuple(tokens.shape) for tokens, *_ in chunks] == [(6, 4), (5, 4), (4, 4), (3, 4), (2, 4)]
    assert torch.stack([weights.sum() for *_, weights in chunks]).sum().item() == pytest.approx(1)


def test_every_thread_has_a_chunk_of_a_small_batch():
    subject = BatchedStep(SMALL, Hyper())
    subject.threads, subject.width = 3, 4
    documents = [[6, *range(1 + i % 5), 6] for i in range(20)]
    for number, widths in ((20, [4] * 5), (7, [3] * 3), (2, [1] * 2)):
        _, chunks = subject.prepare(documents[:number])
        assert [tokens.shape[1] for tokens, *_ in chunks] == widths


def test_weights_of_bfloat16_keep_what_it_would_round_away():
    subject = BFloat16(SMALL, Hyper())
    subject.load(small().state)
    _, params, m, v = subject.flat
    assert {params.dtype, m.dtype, v.dtype} == {torch.float32}
    _, _, weights = subject.prepare(small().documents)
    assert weights.dtype == torch.float32
    assert weights.sum().item() == pytest.approx(1, rel=1e-6)
    assert subject.dtype == "bfloat16"


@pytest.mark.usefixtures("_eager")
def test_number_of_threads_is_what_it_was():
    torch.set_num_threads(3)
    for kind in (WholeStep, BatchedStep):
        subject = kind(SMALL, Hyper())
        subject.load(small().state)
        subject.train_step(small().documents)
        assert torch.get_num_threads() == 3


@pytest.fixture
def _without_cpp(monkeypatch):
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, options, **others: compiler(function, backend="eager", **others)
    )


@pytest.mark.usefixtures("_without_cpp")
def test_every_subject_may_have_graphs_of_its_own():
    graph = Compiled(SMALL, Hyper()).compiled(lambda x: x + 1)
    for n in range(2, 14):
        assert graph(torch.zeros(n)).tolist() == [1] * n


@pytest.mark.usefixtures("_without_cpp")
def test_chunks_of_every_width_may_have_graphs_of_their_own():
    case = small(n_layer=1)
    subject = BatchedStep(case.config, case.hyper)
    for size in range(1, 10):
        subject.load(case.state)
        subject.train_step([case.documents[0]] * size)
    assert subject.widths == set(range(1, 10))


def recorded_on_cpu(function):
    """What `recorded` gives on a GPU: results in fixed places, which are filled anew each time."""
    places = function()

    def replay():
        for place, tensor in zip(places, function(), strict=True):
            place.copy_(tensor)

    return replay, places


@pytest.fixture
def _gpu_on_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_graph, "recorded", recorded_on_cpu)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.usefixtures("_gpu_on_cpu", "_eager")
def test_recorded_step_agrees_apart_from_the_gpu(batch_size, tmp_path):
    assert_parity(name("cuda_graph"), small(batch_size=batch_size, steps=3), device="cpu", store=tmp_path)


@pytest.mark.usefixtures("_gpu_on_cpu", "_eager")
def test_recorded_step_serves_batches_of_other_sizes():
    case, losses = small(), []
    for kind in (CudaGraph, WholeStep):
        subject = kind(case.config, case.hyper, device="cpu")
        subject.load(case.state)
        losses.append([subject.train_step(case.documents[:n]).loss for n in (2, 3, 3, 2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.usefixtures("_gpu_on_cpu", "_eager")
def test_earlier_step_is_not_changed_by_a_later_one():
    case = small()
    subject = CudaGraph(case.config, case.hyper, device="cpu")
    subject.load(case.state)
    first = subject.train_step(case.documents)
    fields = ("grads", "params", "m", "v")
    kept = [tensor.clone() for field in fields for tensor in getattr(first, field).values()]
    subject.train_step(case.documents[::-1])
    now = [tensor for field in fields for tensor in getattr(first, field).values()]
    assert all(torch.equal(*pair) for pair in zip(kept, now, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("rung", ON_GPU)
def test_missing_gpu_is_an_error_in_a_sentence(rung):
    result = check(name(rung), small())
    assert result.verdict is Verdict.ERROR
    assert "This rung needs a CUDA device, and torch finds none." in result.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rung", ON_GPU)
def test_rung_on_a_gpu_agrees_with_the_reference(rung, dtype, tmp_path):
    assert_parity(name(rung), one_layer(), dtype=dtype, store=tmp_path)


class LengthsForgotten(Compiled):
    """Padding counts as much as what precedes it."""

    def prepare(self, batch):
        tokens, targets, weights = super().prepare(batch)
        return tokens, targets, torch.full_like(weights, 1 / weights.numel())


class StepNumberCompiledIn(WholeStep):
    """What happens to a Python number that a graph is made with, if nothing guards it."""

    def adam(self, count, *others):
        self.first = getattr(self, "first", count.clone())
        after = super().adam(self.first, *others)
        return count + 1, *after[1:]


class MomentsExchanged(WholeStep):
    def adam(self, count, params, m, v, gradient):
        return super().adam(count, params, v, m, gradient)


class HeadsMixed(DocumentsLast):
    """As if the features of a head were not next to each other."""

    def attention(self, x, w):
        order = torch.arange(len(x)).view(self.config.n_head, -1).T.flatten()
        return super().attention(x, w)[order]


class LossOfOneDocument(DocumentsLast):
    def loss(self, inputs, params):
        tokens, targets, weights = inputs
        return super().loss((tokens, targets[:, :1].expand_as(targets), weights), params)


class LastChunkForgotten(Chunks):
    width = 2

    def run(self, chunks):
        *results, (gradient, loss, logits) = super().run(chunks)
        return [*results, (torch.zeros_like(gradient), loss, logits)]


class MeanOfEveryChunk(Chunks):
    width = 2

    def run(self, chunks):
        means = [(tokens, targets, weights / weights.sum() / len(chunks)) for tokens, targets, weights in chunks]
        return super().run(means)


class FillingCounts(Chunks):
    width = 2

    def prepare(self, batch):
        order, chunks = super().prepare(batch)
        least = min(weights[weights > 0].min() for *_, weights in chunks)
        return order, [(tokens, targets, weights.clamp(min=least)) for tokens, targets, weights in chunks]


class OrderTakenForItsInverse(Chunks):
    def update(self, inputs):
        order, chunks = inputs
        return super().update(([order.index(i) for i in range(len(order))], chunks))


class LossLeftScaled(BFloat16):
    """As for float16, whose small gradients need it, but not undone."""

    def loss(self, inputs, params):
        loss, logits = super().loss(inputs, params)
        return loss * 1024 - loss.detach() * 1023, logits


FAULTS = {
    HeadsMixed: "step 7: logits document 0[",
    LossOfOneDocument: "step 7: loss: ",
    LengthsForgotten: "step 7: loss: ",
    StepNumberCompiledIn: "step 8: param lm_head[",
    MomentsExchanged: "step 7: m lm_head[",
    LastChunkForgotten: "step 7: grad lm_head[",
    MeanOfEveryChunk: "step 7: loss: ",
    FillingCounts: "step 7: loss: ",
    OrderTakenForItsInverse: "step 7: logits document ",
    LossLeftScaled: "step 7: grad lm_head[",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
@pytest.mark.usefixtures("_eager")
def test_planted_fault_is_caught_and_placed(fault, reason):
    result = check(lambda config, hyper: fault(config, hyper), small(), modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith(reason), result.reason


@pytest.mark.usefixtures("_gpu_on_cpu", "_eager")
def test_recorded_batch_that_is_never_replaced_is_caught():
    class SameBatchForever(CudaGraph):
        def update(self, inputs):
            self.first = getattr(self, "first", inputs)
            return super().update(self.first)

    case = small(batch_size=2)
    result = check(lambda config, hyper: SameBatchForever(config, hyper, device="cpu"), case, modes=["lock-step"])
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("step 8: "), result.reason
