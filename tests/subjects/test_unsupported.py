"""A factory that raises NotImplementedError has no such model, which is told from all other failures."""

import pytest

from parity import Config, Hyper
from parity.errors import SubjectError, UnsupportedModel
from parity.subjects.messages import PROTOCOL
from parity.subjects.process import Limits
from parity.subjects.subject import find_factory, make_subject

FACTORY = """
from parity.oracle.python_reference import Reference

class Unwritten(Reference):
    def train_step(self, batch):
        raise NotImplementedError

def make(config, hyper):
    {making}
    return Reference(config, hyper)
"""
REFUSES = "raise NotImplementedError('no such vocabulary')"
FAILS = "raise ValueError('no such vocabulary')"
MODEL = Config(n_embd=4, n_head=2, block_size=3, vocab_size=4), Hyper(num_steps=10)


@pytest.fixture(params=[False, True], ids=["in this process", "isolated"])
def factory(request, tmp_path):
    """The factory of a file that does this when it is called."""

    def of(making: str):
        path = tmp_path / "subject.py"
        path.write_text(FACTORY.format(making=making))
        return find_factory(f"{path}:make", isolate=request.param, limits=Limits(seconds=30.0))

    return of


def test_not_implemented_error_of_a_factory_is_an_unsupported_model(factory):
    says = r"^The subject raised NotImplementedError: no such vocabulary \(subject\.py, line 9\) in making it\.$"
    with pytest.raises(UnsupportedModel, match=says):
        make_subject(factory(REFUSES), *MODEL)


def test_any_other_error_of_a_factory_is_not(factory):
    with pytest.raises(SubjectError, match="The subject raised ValueError: no such vocabulary") as error:
        make_subject(factory(FAILS), *MODEL)
    assert error.type is SubjectError


def test_not_implemented_error_in_a_step_is_a_failure(factory):
    subject = make_subject(factory("return Unwritten(config, hyper)"), *MODEL)
    with pytest.raises((SubjectError, NotImplementedError)) as error:
        subject.train_step([[3, 0, 3]])
    assert error.type is not UnsupportedModel


@pytest.mark.parametrize(
    ("flag", "expected"), [("true", UnsupportedModel), ("false", SubjectError), ("1", SubjectError)]
)
def test_command_says_that_it_lacks_a_model(flag, expected):
    answer = f'{{"type": "error", "message": "4 is too small", "unsupported": {flag}}}'
    with pytest.raises(SubjectError, match=r"^The subject says in the greeting: 4 is too small$") as error:
        make_subject(["sh", "-c", f"read line; echo '{answer}'"], *MODEL)
    assert error.type is expected


def test_command_cannot_refuse_the_model_once_it_has_it():
    ready, refusal = f'{{"type": "ready", "protocol": "{PROTOCOL}"}}', '{"type": "error", "unsupported": true}'
    script = f"read line; echo '{ready}'; read line; echo '{refusal}'"
    subject = make_subject(["sh", "-c", script], *MODEL)
    with pytest.raises(SubjectError) as error:
        subject.train_step([[3, 0, 3]])
    assert error.type is SubjectError
