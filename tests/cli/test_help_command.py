"""`parity help`: every topic and command has its page, and what the pages say of the code is so."""

import re
from inspect import getsource

import pytest

from parity import Verdict, check
from parity.case import Case
from parity.cli import main
from parity.cli.check_tables import overview
from parity.cli.command_line import _COMMANDS, _parsers
from parity.cli.help_pages import TOPICS
from parity.judging.element_errors import WRONG_ANSWERS
from parity.judging.probes import probes
from parity.oracle.noisy_replay import REPLICAS
from parity.vectors.formulas import FORMULAS
from parity.verdict import FALSE_ALARM
from reference import microgpt
from reference.config import Config
from tests.faults import FAULTS, planted
from torch_twin.microgpt import Twin


def page(topic: str) -> str:
    return TOPICS[topic].page()


def flat(topic: str) -> str:
    return " ".join(page(topic).split())


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
        assert printed.endswith("\n")
        assert "$" not in printed
        assert max(map(len, printed.splitlines())) <= 120


def test_help_of_a_command_is_its_own(capsys):
    for name, parser in _parsers()[1].items():
        assert main(["help", name]) == 0
        assert capsys.readouterr().out == parser.format_help()


def test_topic_that_is_none_is_refused_with_what_was_meant(capsys):
    assert main(["help", "verdicts"]) == 2
    assert capsys.readouterr().err == (
        "There is no topic 'verdicts' (did you mean 'verdict'?); there are model, subject, module, training, protocol, "
        "verdict, accept, and every command.\n"
    )
    assert not TOPICS.keys() & {command.name for command in _COMMANDS}


def test_every_command_points_to_every_topic(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert f"parity help {{{', '.join(TOPICS)}}}" in capsys.readouterr().out


@pytest.mark.parametrize("topic", TOPICS)
def test_what_pages_tell_to_run_exists(topic):
    parsers = _parsers()[1]
    known = {flag for parser in parsers.values() for action in parser._actions for flag in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", page(topic))) <= known
    for words in re.findall(r"parity (help \w+|[a-z][\w-]*)", page(topic).replace("parity help {", "")):
        name = words.split()[-1]
        assert name in {*parsers, *TOPICS}, words


def test_model_page_has_the_architecture_in_ten_items_and_the_formulas():
    short, _, formulas = page("model").partition("In formulas\n-----------\n")
    assert formulas == FORMULAS
    assert len(re.findall(r"^  \w+  ", short, re.MULTILINE)) == 10
    (eps,) = re.findall(r"\+ (1e-\d)\)", getsource(microgpt.rmsnorm))
    assert f"+ {eps})" in short
    assert f"+ {eps})" in FORMULAS
    for name in Config().shapes():
        assert re.search(rf"\b{name.removeprefix('layer0.')}\b", page("model")), name


def test_verdict_page_names_all_that_a_check_prints():
    text = flat("verdict")
    for verdict in Verdict:
        assert f" {verdict.value} {verdict.exit_status} " in text
    case = Case.from_names(steps=1, config={"n_embd": 2, "n_head": 1, "block_size": 2})
    for column in overview(check(Twin, case, probes=False)).columns:
        assert re.search(rf"^  {column}  |a row for each {column}", page("verdict"), re.MULTILINE), column
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
