"""A module is given whole batches, padded: mistakes that only a batch shows are found, and what refuses one is said."""

import pytest
import torch

from parity import Verdict, check
from parity.cli import main
from parity.modules import ModuleSubject
from tests.subjects import batch_modules
from tests.subjects.batch_modules import unlike_documents
from tests.subjects.torch_modules import NANO, NanoGPT
from torch_twin.tools.threads import threads


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from several threads, and lose much where the cores are busy."""
    with threads(1):
        yield


def module_subject(kind, subjects=None):
    def make(config, hyper, dtype="float64"):
        subject = ModuleSubject(kind(config), config, hyper, NANO, dtype=dtype)
        if subjects is not None:
            subjects.append(subject)
        return subject

    return make


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", [NanoGPT, batch_modules.Masked])
def test_module_is_at_parity_on_documents_of_unlike_length(kind, dtype):
    subjects = []
    result = check(module_subject(kind, subjects), unlike_documents(), dtype=dtype)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.unchecked == []
    assert subjects[0].not_exercised == ()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_module_is_called_once_with_all_documents(batch_size):
    shapes = []

    class Counting(NanoGPT):
        def forward(self, tokens):
            shapes.append(tuple(tokens.shape))
            return super().forward(tokens)

    subject = module_subject(Counting)(unlike_documents().config, unlike_documents().hyper)
    subject.load(unlike_documents().state)
    step = subject.train_step(unlike_documents().documents[-batch_size:])
    assert shapes == [{1: (1, 5), 3: (3, 8)}[batch_size]]
    assert [len(rows) for rows in step.logits] == [8, 8, 5][-batch_size:]


def test_module_that_asks_for_it_is_told_which_tokens_are_padding():
    masks = []

    class Telling(batch_modules.Masked):
        def forward(self, tokens, attention_mask):
            masks.append((attention_mask.tolist(), attention_mask.dtype, tokens[attention_mask == 0].tolist()))
            return super().forward(tokens, attention_mask)

    subject = module_subject(Telling)(unlike_documents().config, unlike_documents().hyper)
    subject.load(unlike_documents().state)
    subject.train_step([[26, 3, 26], [26, 26], [26, 1, 2, 26]])
    assert masks == [([[1, 1, 0], [1, 0, 0], [1, 1, 1]], torch.int64, [0, 0, 0])]


MISTAKES = [
    batch_modules.PaddingSeen,
    batch_modules.OthersMask,
    batch_modules.BatchStatistics,
    batch_modules.PositionsRunOn,
    batch_modules.PositionsFromTheEnd,
    batch_modules.DocumentsSeeEachOther,
]


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_that_only_a_batch_shows_is_found_in_one(kind):
    assert check(module_subject(kind), unlike_documents(1)).verdict is Verdict.PARITY
    result = check(module_subject(kind), unlike_documents(), modes="lock-step")
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.quantity == "logits"


@pytest.mark.usefixtures("unnamed")
@pytest.mark.parametrize(("kind", "status"), [("Masked", 0), ("PaddingSeen", 1), ("BatchStatistics", 1)])
def test_command_finds_it_with_a_batch_size(tmp_path, kind, status):
    (tmp_path / "my_module.py").write_text(
        "from parity.modules import ModuleSubject\n"
        "from tests.subjects import batch_modules\n"
        "from tests.subjects.torch_modules import NANO\n\n"
        "def make(config, hyper):\n"
        f"    return ModuleSubject(batch_modules.{kind}(config), config, hyper, NANO)\n",
        encoding="utf-8",
    )
    options = ["--n-embd", "8", "--n-head", "2", "--block-size", "8", "--steps", "1", "--mode", "lock-step"]
    subject = f"{tmp_path / 'my_module.py'}:make"
    assert main(["check", subject, *options, "--only-case"]) == 0
    assert main(["check", subject, *options, "--only-case", "--batch-size", "3"]) == status
    assert main(["check", subject, *options]) == status  # by its probes


@pytest.mark.parametrize("kind", [batch_modules.OnlyOne, batch_modules.OnlyFirst])
def test_module_that_refuses_a_batch_is_given_documents_one_by_one_and_says_so(kind):
    subjects = []
    assert check(module_subject(kind, subjects), unlike_documents(1)).verdict is Verdict.PARITY
    assert subjects[0].not_exercised == ()  # the case says it itself
    assert check(module_subject(kind, subjects), unlike_documents()).verdict is Verdict.PARITY
    assert subjects[1].not_exercised == ("batches of several documents",)
    assert set(subjects[1].not_exercised) <= set(unlike_documents(1).not_exercised())


def test_module_that_took_a_batch_and_refuses_another_fails():
    class Tired(NanoGPT):
        calls = 0

        def forward(self, tokens):
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("no more")
            return super().forward(tokens)

    result = check(module_subject(Tired), unlike_documents())
    assert result.verdict is Verdict.ERROR
    assert "no more" in result.reason
