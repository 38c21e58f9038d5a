"""The page on modules: every piece of code in it runs as it stands, and is right."""

import re
from functools import cache

import pytest

from parity import Verdict, check
from parity.cli.help_pages import page
from parity.subjects.module_sites import site_widths
from tests.subjects.batch_modules import unlike_documents
from tests.subjects.torch_modules import GPT2_SITES
from torch_twin.tools.threads import threads

PAGE = page("module")


@cache
def pieces() -> list[str]:
    """Its blocks of code, but for the interface's."""
    return re.findall(r"```python\n(.*?)```", PAGE.partition("## The interface")[0], re.DOTALL)


def piece(*words: str) -> str:
    (found,) = [piece for piece in pieces() if all(word in piece for word in words)]
    return found


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """Writes pieces into a file, one after another, and gives its factory."""

    def written(*parts: str) -> str:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "my_gpt.py").write_text("from tests.subjects.torch_modules import NanoGPT as GPT\n")
        (tmp_path / "port_of_the_page.py").write_text("\n".join(parts), encoding="utf-8")
        return f"{tmp_path / 'port_of_the_page.py'}:make"

    return written


EXAMPLE = piece("NAMES = ")


def test_example_has_ten_lines_at_most_and_is_at_parity(factory):
    assert sum(bool(line.strip()) for line in EXAMPLE.splitlines()) <= 10
    result = check(factory(EXAMPLE), unlike_documents(), dtype="float32", device="cpu")
    assert result.verdict is Verdict.PARITY


def test_all_sites_of_the_example_are_compared(factory):
    make = factory(EXAMPLE.replace("SITES = ", "FEW = "), piece("SITES = ", "lm_head", "attn.norm"))
    # The example's factory reads SITES when it is called.
    result = check(make, unlike_documents(), sites=True, modes="lock-step", probes=False)
    assert result.verdict is Verdict.PARITY
    assert result.modes[0].quantities["site"].compared > 0
    missing = site_widths(unlike_documents().config).keys() - set(result.modes[0].quantities["site"].power)
    assert {re.sub(r"\d", "", site) for site in missing} == {
        "embedding",
        "norm",
        "layer.attn.residual",
        "layer.mlp.residual",
    }


def test_further_sites_are_those_of_a_model_that_has_these_modules():
    further = eval(f"{{{piece('ln_2.input')}}}")
    assert further.items() <= GPT2_SITES.items()
    assert {"embedding", "norm", "layer{i}.attn.residual", "layer{i}.mlp.residual"} <= set(further.values())


LOSS = piece("def loss(")


def test_loss_of_the_page_is_at_parity(factory):
    result = check(factory(EXAMPLE, LOSS), unlike_documents(), sites=True, probes=False)
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, [])


def test_mistake_in_the_loss_of_the_page_is_found(factory):
    assert LOSS.count(".mean()") == 1
    result = check(factory(EXAMPLE, LOSS.replace(".mean()", ".sum()")), unlike_documents(), probes=False)
    assert result.verdict is Verdict.DIVERGED


AUTOCAST = piece("torch.autocast")


def test_autocast_of_the_page_is_at_parity_and_says_both_formats(factory):
    result = check(factory(EXAMPLE, AUTOCAST), unlike_documents(), probes=False)
    assert result.verdict is Verdict.PARITY, result.reason
    assert (result.judge.form.name, result.judge.storage.name) == ("bfloat16", "float32")


def test_autocast_that_claims_to_be_float32_is_refused(factory):
    assert AUTOCAST.count('subject.dtype, subject.storage = "bfloat16", "float32"') == 1
    silent = AUTOCAST.replace('subject.dtype, subject.storage = "bfloat16", "float32"', "pass")
    result = check(factory(EXAMPLE, silent), unlike_documents(), modes="lock-step", probes=False)
    assert not result.verdict.passes
