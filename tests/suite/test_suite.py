"""The suite of laws: what keeps them passes, and each of them is broken by a planted fault, alone or with its like."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

import parity.suite
import parity.suite.plugin
from tests.faults import FAULTS, planted
from tests.suite import subjects
from tests.warming import warm_up

ROOT = Path(__file__).parents[2]

pytest_plugins = "pytester"

CASES = 4
"""Drawn for each law, and always the same ones."""


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported():
    warm_up()


@pytest.fixture
def run(pytester, monkeypatch):
    """Run laws of the suite on a subject in this process; few cases, always the same, and none is shrunk."""

    def profile(name=None, cases=None):
        phases = (Phase.generate,)
        return settings(
            settings.get_profile("default"), max_examples=cases, derandomize=True, deadline=None, phases=phases
        )

    def run(selection, subject=None, *arguments):
        monkeypatch.setattr(parity.suite.plugin, "profile", profile)
        for variable in ("CI", "BUILD_NUMBER"):  # there pytest repeats every message in its summary, uncut
            monkeypatch.delenv(variable, raising=False)
        named = ["--parity-subject", subject] if subject else []
        arguments = ["-k", selection, "--parity-cases", str(CASES), *named, *arguments]
        plugins = ["-p", "parity.plugin", "-p", "no:cacheprovider"]
        return pytester.runpytest_inprocess(*plugins, "--pyargs", "parity.suite", *arguments)

    before = settings.get_current_profile_name()
    yield run
    settings.load_profile(before)


def ids(result, outcome: str) -> set[str]:
    """The tests with an outcome, from the function's name on."""
    return set(re.findall(rf"::(\S+) {outcome}", result.stdout.str()))


def collected(run) -> dict[str, list[str]]:
    """The laws by module."""
    found: dict[str, list[str]] = {}
    for module, law in re.findall(r"(test_\w+)\.py::(\w+)", run("", None, "--collect-only", "-q").stdout.str()):
        found.setdefault(module, []).append(law)
    return found


def test_laws_run_in_the_order_in_which_they_build_on_each_other(run):
    assert tuple(collected(run)) == parity.suite.MODULES


def test_twin_keeps_every_law_about_what_it_has(run):
    result = run("", None, "-v", "-rs", "--parity-cases", "2")
    skipped = ids(result, "SKIPPED")
    result.assert_outcomes(passed=20, skipped=6)
    assert {test.partition("[")[0] for test in skipped} == {
        "test_cached_decoding_equals_full_forward",
        "test_distribution",
        "test_temperature_0_takes_the_likeliest",
        "test_seed_decides",
    }
    result.stdout.fnmatch_lines_random(["*: The subject has no method decode.", "*: The subject has no method sample."])


def test_independent_port_keeps_every_law(run):
    result = run("not fixed_cases", "tests.examples.numpy_port:make")
    result.assert_outcomes(passed=20, deselected=6)


def test_laws_are_kept_in_bfloat16(run):
    """There, ReLUs fall to either side in the two answers that a law compares."""
    arguments = ["--parity-dtype", "bfloat16", "--parity-cases", "2"]
    result = run("adam or causality or order or load", "tests.suite.subjects:fused", *arguments)
    result.assert_outcomes(passed=6, deselected=20)


def test_subject_in_a_process_of_its_own_keeps_laws(run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = f"-- {shlex.quote(sys.executable)} -m parity.serve tests.examples.numpy_port:make"
    run("test_logits or decoding or sampling", command).assert_outcomes(passed=7, deselected=19)


def test_law_about_what_is_not_exposed_is_skipped(run):
    result = run("forward or backward or adam or causality or batches", "tests.suite.subjects:LossOnly", "-v", "-rs")
    kept = {"test_loss", "test_order_of_documents", "test_one_document_twice", "test_mean_of_documents"}
    assert ids(result, "PASSED") == kept
    result.assert_outcomes(passed=4, skipped=7, deselected=15)
    result.stdout.fnmatch_lines_random(
        ["*: The subject does not expose grad.", "*: The subject does not expose what this law is about."]
    )


@pytest.mark.parametrize("subject", ["Partial", "Tied"])
def test_subject_that_leaves_matrices_out_keeps_the_laws_about_the_others(run, subject):
    result = run("test_update or test_gradients", f"tests.suite.subjects:{subject}", "--parity-cases", "2")
    result.assert_outcomes(passed=4, deselected=22)


def test_wrong_update_is_caught_where_matrices_are_left_out(run):
    result = run("adam", "tests.suite.subjects:PartialWithWrongAdam", "-v", "--parity-cases", "2")
    assert ids(result, "FAILED") == {"test_update[v]"}


def test_subject_that_updates_nothing_has_no_trajectory(run):
    result = run("several_steps or one_token or state", "tests.suite.subjects:ForwardOnly", "-rs")
    result.assert_outcomes(passed=5, skipped=1, deselected=20)
    result.stdout.fnmatch_lines(["*: The subject says forward_only = True."])


def test_config_that_the_factory_refuses_is_passed_over(run):
    result = run("test_logits or test_update or causality or test_case", "tests.suite.subjects:relu_only", "-rs")
    result.assert_outcomes(passed=6, skipped=1, deselected=19)
    result.stdout.fnmatch_lines(["*NotImplementedError: no relu2*"])


def test_refusing_everything_is_no_pass(run):
    result = run("test_logits or causality or test_seed_decides", "tests.suite.subjects:refuses_everything")
    result.assert_outcomes(failed=2, skipped=1, deselected=23)


def test_subject_that_raises_fails_with_the_command_that_repeats_it(run):
    result = run("test_logits or causality or one_token", "tests.suite.subjects:Raises", "--parity-dtype", "float32")
    result.assert_outcomes(failed=4, deselected=22)
    errors = [line for line in result.outlines if line.startswith("ERROR: The subject raised RuntimeError: out of ide")]
    assert len(errors) == 4
    repeated = re.findall(r"Repeat with: (parity replay|pytest) .*-dtype float32", "\n".join(result.outlines))
    assert sorted(repeated) == ["parity replay", "parity replay", "parity replay", "pytest"]


def test_broken_law_names_the_command_that_repeats_it(run):
    result = run("causality", "tests.suite.subjects:non_causal", "--parity-dtype", "float32")
    (line,) = [line for line in result.outlines if line.startswith("DIVERGED: With other tokens after the position: ")]
    command = (
        "pytest --pyargs parity.suite -k test_later_tokens_cannot_change_earlier_logits --parity-subject "
        f"tests.suite.subjects:non_causal --parity-dtype float32 --parity-cases {CASES}"
    )
    assert line.endswith(f"Repeat with: {command}")


MATH = "forward or backward or adam"
UPDATE = "backward or adam"

BROKEN = {
    "LogitsOff": (MATH, "test_logits"),
    "LossOff": ("forward", "test_loss"),
    "gradients of a repeated token are overwritten": (UPDATE, "test_gradients"),
    "beta1 is 0.9": (UPDATE, "test_update[m] test_update[param]"),
    "beta2 is 0.999": (UPDATE, "test_update[v] test_update[param]"),
    "the moments have no bias correction": (UPDATE, "test_update[param]"),
    "ForgetsMoments": ("adam or several_steps", "test_several_steps"),
    "SmallVocabulary": ("loss or test_case", "test_case[microgpt_200] test_case[microgpt_early]"),
    "SmallBatches": ("test_loss or 32", "test_batch_of_32_documents"),
    "LastTokens": ("one_token or longer", "test_documents_longer_than_the_block"),
    "NoEmptyDocuments": ("longer or one_token", "test_documents_of_one_token[1]"),
    "non_causal": ("causality or batches", "test_later_tokens_cannot_change_earlier_logits"),
    "attention scores are not scaled": ("causality or batches or state", ""),
    "WeighsByPlace": ("causality or batches", "test_order_of_documents test_mean_of_documents"),
    "SumOfDocuments": ("causality or batches", "test_one_document_twice test_mean_of_documents"),
    "MeanOfTokens": ("causality or batches", "test_mean_of_documents"),
    "KeepsMoments": (
        "state",
        "test_load_replaces_everything test_same_question_same_answer test_contents_of_lists_count",
    ),
    "Dropout": ("same_question", "test_same_question_same_answer"),
    "CachesByIdentity": ("state", "test_contents_of_lists_count"),
    "StaleCache": ("decoding", "test_cached_decoding_equals_full_forward"),
    "TransposedDecode": ("decoding", "test_cached_decoding_equals_full_forward"),
    "IgnoresTemperature": ("distribution or seed", "test_distribution[0.5] test_distribution[2.0]"),
    "SamplesAtTemperature0": ("temperature or seed", "test_temperature_0_takes_the_likeliest"),
    "IgnoresSeed": ("temperature or seed", "test_seed_decides"),
    "NoSeed": ("temperature or seed", "test_seed_decides"),
}
"""A subject of tests.suite.subjects, or a fault of tests.faults; the laws put to it, and those that it breaks."""


@pytest.mark.parametrize("subject", BROKEN)
def test_fault_breaks_its_laws_and_no_other(run, monkeypatch, subject):
    selection, broken = BROKEN[subject]
    edits = next((fault.edits for fault in FAULTS if fault.name == subject), None)
    if edits is None:
        # A stale cache shows only where the first document leaves room in the block, and a mean over tokens only where
        # the documents have unlike lengths and losses.
        more = ["--parity-cases", "30"] if subject in ("StaleCache", "MeanOfTokens") else []
        result = run(selection, f"tests.suite.subjects:{subject}", "-v", *more)
    else:
        with planted(*edits) as make:
            monkeypatch.setattr(subjects, "with_planted_fault", make, raising=False)
            result = run(selection, "tests.suite.subjects:with_planted_fault", "-v")
    assert ids(result, "FAILED") == set(broken.split())
    assert not ids(result, "ERROR")


def test_every_law_is_broken_by_a_fault(run):
    broken = {test.partition("[")[0] for _, tests in BROKEN.values() for test in tests.split()}
    assert broken == {law for laws in collected(run).values() for law in laws}
