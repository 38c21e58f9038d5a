"""`parity help`: every topic and command has its page, and what the pages say of the code is so."""

import re
from inspect import getsource
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from parity import Verdict, check
from parity.case import Case
from parity.cli import help_pages, main
from parity.cli.check_tables import overview
from parity.cli.command_line import _COMMANDS, _parsers
from parity.cli.help_pages import TOPICS, page
from parity.cli.help_rendering import THEME, Page
from parity.judging.element_errors import WRONG_ANSWERS
from parity.judging.probes import probes
from parity.oracle.noisy_replay import REPLICAS
from parity.plugin import PYTEST_OPTIONS
from parity.vectors.formulas import FORMULAS
from parity.verdict import FALSE_ALARM
from reference import microgpt
from reference.config import PRESETS, Config
from tests.faults import FAULTS, planted
from torch_twin.microgpt import Twin

PAGES = Path(help_pages.__file__).parent / "help"
ROOT = Path(__file__).parents[2]
"""Of the checkout: what pages link to is not part of the package."""


def flat(topic: str) -> str:
    return " ".join(page(topic).split())


def dead_links(text: str, folder: Path) -> list[str]:
    """The links of a Markdown file that lead to no file of the repository, nor to a page of the web."""
    links = re.findall(r"\]\(([^)]+)\)", text)
    return [link for link in links if not re.match(r"https?://\w", link) and not (folder / link).exists()]


def test_every_topic_is_listed_and_printed(capsys):
    assert main(["help"]) == 0
    listed = capsys.readouterr().out
    assert main([]) == 2
    assert listed in capsys.readouterr().out
    assert max(map(len, listed.splitlines())) <= 80
    for topic in TOPICS:
        assert re.search(rf"^  parity help {topic} +\w", listed, re.MULTILINE)
        assert main(["help", topic]) == 0
        printed = capsys.readouterr().out
        assert printed == page(topic)
        assert printed.startswith("# ")
        assert printed.endswith("\n")
        assert max(len(line) for line in printed.splitlines() if not line.startswith("|")) <= 120


def test_every_page_is_a_topic():
    assert {path.name for path in PAGES.iterdir()} == {f"{topic}.md" for topic in TOPICS}
    with pytest.raises(KeyError):
        page("../help_pages")


@pytest.mark.parametrize("topic", TOPICS)
def test_marks_and_links_of_a_file_are_resolved(topic):
    file = (PAGES / f"{topic}.md").read_text(encoding="utf-8")
    assert dead_links(file, ROOT / "parity" / "cli" / "help") == []
    assert "<!--" not in page(topic)
    assert not re.search(r"\]\((?!https?:)", page(topic))
    for marked in re.findall(r"<!-- from .*?<!-- end -->", file, re.DOTALL):
        assert f"`parity help {topic}` prints" in " ".join(marked.split())
        assert marked not in page(topic)


def test_dead_link_is_caught():
    assert dead_links("[a](floor.md) [b](flor.md) [c](https://arxiv.org) [d](../help_pages.py)", PAGES) == ["flor.md"]


@pytest.mark.parametrize("topic", TOPICS)
def test_page_is_laid_out_on_a_terminal_of_any_width(topic):
    for width in (60, 200):
        terminal = Console(file=StringIO(), width=width, theme=THEME, force_terminal=True, color_system=None)
        terminal.print(Page(page(topic)))
        shown = terminal.file.getvalue()
        assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
        assert "```" not in shown
        assert not re.search(r"\*\*\w+\*\*", shown)
        assert not re.search(r"^#", shown, re.MULTILINE)


def test_terminal_gets_another_layout_than_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["help", "floor"]) == 0
    shown = capsys.readouterr().out
    assert "The noise floor" in shown
    assert shown != page("floor")
    assert "\x1b[" in shown


def test_help_of_a_command_is_its_own(capsys):
    for name, parser in _parsers()[1].items():
        assert main(["help", name]) == 0
        assert capsys.readouterr().out == parser.format_help()


def test_topic_that_is_none_is_refused_with_what_was_meant(capsys):
    assert main(["help", "verdicts"]) == 2
    assert capsys.readouterr().err == (
        f"There is no topic 'verdicts' (did you mean 'verdict'?); there are {', '.join(TOPICS)}, and every command.\n"
    )
    assert not TOPICS.keys() & {command.name for command in _COMMANDS}


def test_every_command_points_to_every_topic(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert f"parity help TOPIC: {', '.join(TOPICS)}." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("topic", TOPICS)
def test_what_pages_tell_to_run_exists(topic):
    parsers = _parsers()[1]
    known = {flag for parser in parsers.values() for action in parser._actions for flag in action.option_strings}
    known |= {"--pyargs", "--help", *PYTEST_OPTIONS}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", page(topic))) <= known
    for words in re.findall(r"parity (help \w+|[a-z][\w-]*)", " ".join(re.findall(r"`(parity [^`]*)`", page(topic)))):
        name = words.split()[-1]
        assert name in {*parsers, *TOPICS}, words
    for module in re.findall(r"python -m (benchmarks\.\w+)", page(topic)):
        assert list(ROOT.glob(f"{module.replace('.', '/')}*")), module


def test_model_page_has_the_architecture_in_ten_items_and_the_formulas():
    short, _, formulas = page("model").partition("## In formulas\n\n")
    assert formulas.strip() == FORMULAS.strip()
    assert len(re.findall(r"^- \*\*\w+\*\*: ", short, re.MULTILINE)) == 10
    (eps,) = re.findall(r"\+ (1e-\d)\)", getsource(microgpt.rmsnorm))
    assert f"+ {eps})" in short
    assert f"+ {eps})" in FORMULAS
    for name in Config().shapes():
        assert re.search(rf"\b{name.removeprefix('layer0.')}\b", page("model")), name


def test_model_page_has_the_numbers_of_both_revisions():
    text = flat("model")
    config, hyper = PRESETS["microgpt_200"]
    assert f"learning rate {hyper.learning_rate} (1 - step / {hyper.num_steps})" in text
    assert f"betas {hyper.beta1} and {hyper.beta2}, eps {hyper.eps_adam} outside the root" in text
    sizes = (f"{size} {getattr(config, size)}" for size in ("n_layer", "n_embd", "n_head", "block_size", "vocab_size"))
    assert f"{', '.join(sizes)}: {config.num_params():,} weights, drawn with std {config.init_std}" in text
    config, hyper = PRESETS["microgpt_early"]
    assert f"block_size {config.block_size}, betas {hyper.beta1} and {hyper.beta2}." in text


def test_interface_is_that_of_the_docstrings():
    for name in (
        "### parity.check\n",
        "check(subject='torch_twin.microgpt:make', case=None, **options)",
        "- **documents**",
    ):
        assert name in page("python")
    assert "optimizer=Adam" in page("module")
    assert "- **grads, params, m, v**: " in page("subject")


def test_training_of_the_page_is_the_example():
    example = (Path(__file__).parents[1] / "examples" / "training.py").read_text(encoding="utf-8")
    shown = page("training").partition("```python\n")[2].partition("    return")[0]
    for line in shown.splitlines():
        assert line in example
    assert "optimizer = " in shown


def test_verdict_page_names_all_that_a_check_prints():
    text = flat("verdict")
    for verdict in Verdict:
        assert f"| {verdict.value} | {verdict.exit_status} | " in text
    case = Case.from_names(steps=1, config={"n_embd": 2, "n_head": 1, "block_size": 2})
    for column in overview(check(Twin, case, probes=False)).columns:
        assert re.search(rf"^- \*\*{column}\*\*: |a row for each {column}", page("verdict"), re.MULTILINE), column
    for remark in ("not exposed", "vacuous", "not exercised", *WRONG_ANSWERS):
        assert remark in text
    assert len(probes()) == 9
    assert "Probes are nine" in text
    assert f"{REPLICAS} replays" in text
    assert f"{FALSE_ALARM:.0e} over" in text


def test_mistake_shows_though_rounding_hides_some_elements():
    """As the page says of `at worst`: where it is above 1 in bfloat16, a mistake is found by the other elements."""
    case = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    options = {"modes": "lock-step", "probes": False, "dtype": "bfloat16"}
    result = check(Twin, case, **options)
    power = result.modes[0].quantities["grad"].power.values()
    assert result.verdict is Verdict.PARITY
    assert max(found.worst for found in power) > 1 > max(found.median for found in power)
    fault = next(fault for fault in FAULTS if fault.name == "no gradient flows through the keys")
    with planted(*fault.edits) as make:
        assert check(make, case, **options).verdict is Verdict.DIVERGED
