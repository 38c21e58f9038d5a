"""Trainings over two ranks, right and wrong ones, held to the training of one process."""

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from parity.cli import main
from parity.cli.ladder_table import markdown, rendered
from parity.cli.terminal import console
from parity.errors import SubjectError, UsageError
from parity.ladder import RUNGS, Rung, chosen, climb
from parity.ladder.comparison import compared
from parity.ranks import checking, processes
from parity.ranks.checking import check_ranks
from parity.ranks.processes import Ranks
from parity.ranks.sides import Sides
from parity.subjects.imports import imported
from parity.subjects.process import Limits
from parity.training.checking import TrainingOptions
from parity.verdict import Verdict
from tests.ranks import TECHNIQUES
from tests.thinning import THOROUGH

MISTAKES = Path(__file__).with_name("mistakes.py")
_REDUCED_AGAIN = "    model.norm.weight.register_hook(lambda grad: torch.distributed.all_reduce(grad) or grad)\n"
STARTING = 200.0
"""Seconds for processes to import torch, even on a busy machine."""


class Warm:
    """Ranks that are started once for many checks, and again after one has ended them."""

    def __init__(self):
        self.ranks = None

    def started(self, count=2, limits=None):
        if self.ranks is None or not self.ranks.alive:
            self.ranks = Ranks(count, limits or Limits(STARTING))
        return self.ranks


@pytest.fixture(scope="module")
def warm():
    found = Warm()
    yield found
    if found.ranks is not None:
        found.ranks.close()


def checked(warm, name, against=f"{MISTAKES}:single", dtype="float64", device=None, **options):
    name = name if ":" in name else f"{MISTAKES}:{name}"
    against = against if ":" in against else f"{MISTAKES}:{against}"
    sides = Sides(name, imported(name), against, imported(against), dtype=dtype, device=device)
    return check_ranks(sides, TrainingOptions(**{"steps": 1, "replicas": 4, **options}), warm.started())


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:DeprecationWarning")  # torch's own, of ZeRO
@pytest.mark.parametrize(
    "rung", [rung for rung in RUNGS if rung.single and rung.ranks == 2], ids=lambda rung: rung.name
)
def test_technique_is_the_same_function(rung, warm):
    result = checked(warm, rung.factory, rung.single)
    assert result.verdict is Verdict.PARITY, result.reason
    compared = {name: row.compared for name, row in result.modes[0].quantities.items()}
    assert compared["loss"] == 1
    assert {compared[name] for name in ("grad", "param", "exp_avg", "exp_avg_sq")} == {result.parameters}
    assert result.parameters == (1920 if rung.name == "pipeline" else 1080)
    assert result.remarks == []
    assert not [phrase for phrase in result.not_exercised if "only one of the two" in phrase]


@pytest.mark.parametrize(
    ("technique", "edits", "against", "begins", "said"),
    [
        (
            "uneven_data_parallel",
            [("single.loss(model, documents) * share", "single.loss(model, documents)")],
            "single.py:make",
            "loss",
            "the mean of the ranks' own means, as if they had equally many documents",
        ),
        (
            "no_sync",
            [("if number == len(batches)", "if number < len(batches)")],
            "single.py:accumulated",
            "grad rank0.wte.weight",
            "reduced but for the last batch that is accumulated, of which it is the rank's own",
        ),
        (  # NVIDIA-NeMo/RL#3788, ROCm/TransformerEngine#715
            "sharded_clipping",
            [("hypot(shards, alike)", "hypot(shards, alike * torch.distributed.get_world_size() ** 0.5)")],
            "single.py:make",
            "grad wte.weight",
            "clipped by a norm in which every rank counts the gradients that all have alike",
        ),
        (
            "sharded_clipping",
            [("hypot(shards, alike)", "hypot(shards - shards, alike)")],
            "single.py:make",
            "grad wte.weight",
            "clipped by a norm of the gradients that all have alike, without the shards",
        ),
        (
            "sharded_clipping",
            [
                ("[grad for grad in gradients if isinstance", "[grad.to_local() for grad in gradients if isinstance"),
                (".full_tensor()", ""),
            ],
            "single.py:make",
            "grad rank0.wte.weight",
            "On rank 0 the gradient is clipped by a norm of rank 0's gradients alone",
        ),
        (
            "fully_sharded",
            [
                ("import loss, own", "import own"),
                ("own(documents)", "own(documents)[0]"),
                ("loss, b", "single.loss, b"),
            ],
            "single.py:make",
            "loss",
            "the mean of the ranks' own means, as if they had equally many documents",
        ),
        (
            "tensor_parallel",
            [("    optimizer =", f"{_REDUCED_AGAIN}    optimizer =")],
            "single.py:unclipped",
            "grad norm.weight",
            "summed over the ranks where their mean is due, or reduced twice",
        ),
        (
            "sequence_parallel",
            [('    plan |= {name: SequenceParallel() for name in ("norm", "mlp_norm")}\n', "")],
            "single.py:unclipped",
            "grad rank0.blocks.0.norm.weight",
            "the gradient is a part whose sum over the ranks is right: that reduction is missing",
        ),
        (
            "pipeline",  # pytorch/torchtitan#2972
            [("loss_fn=loss)", "loss_fn=loss, scale_grads=False)")],
            "pipeline.py:of_one_process",
            "grad wte.weight",
            "(factor 2;",
        ),
        (  # pytorch/torchtitan#1733: in two goes, the first one's gradient is scaled once more by the second
            "pipeline",
            [
                ("schedule.step(batch[:, :-1])", "[schedule.step(half[:, :-1]) for half in batch.chunk(2)]"),
                ("schedule.step(target=batch[:, 1:]", "[schedule.step(target=half[:, 1:]"),
                ("losses=losses)", "losses=losses) for half in batch.chunk(2)]"),
            ],
            "pipeline.py:of_one_process",
            "grad wte.weight",
            "",
        ),
    ],
)
def test_mistake_of_a_technique_is_located(technique, edits, against, begins, said, warm, tmp_path):
    text = (TECHNIQUES / f"{technique}.py").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / f"{technique}_edited.py"
    file.write_text(text)
    result = checked(warm, f"{file}:make", f"{TECHNIQUES}/{against}")
    assert result.verdict is Verdict.DIVERGED
    assert result.located[0].startswith(f"{begins}:")
    assert said in result.explanation


def test_own_format_is_compared_beside_float64(warm):
    result = checked(warm, "right", dtype=None, steps=2)
    assert result.verdict is Verdict.PARITY, result.reason
    assert [mode.mode for mode in result.modes] == ["float64", "float32"]
    assert [mode.steps for mode in result.modes] == [2, 2]


@pytest.mark.parametrize(
    ("name", "against", "begins", "said"),
    [
        ("not_reduced", "single", "grad rank0.first.weight", "On every rank the gradient is the rank's own, and"),
        ("one_not_reduced", "single", "grad rank0.norm.weight", "On rank 1 the gradient is the rank's own, and"),
        ("summed", "single", "grad first.weight", "On every rank the gradient is summed over the ranks"),
        ("divided_twice", "single", "grad first.weight", "divided by the number of ranks once too often, or"),
        ("averaged_by_rank", "single", "grad first.weight", "the mean of the ranks' own means, as if"),
        ("same_documents", "single", "grad first.weight", "of documents that every rank has alike"),
        ("other_weights", "single", "param rank1.first.weight", "parameters of rank 1 differ from rank 0's"),
        ("not_broadcast", "single", "param rank1.first.weight", "rank 1 keeps 3 parameters as they were"),
        ("no_sync_at_last", "single_of_four", "grad rank0.first.weight", "reduced but for the last batch"),
        ("sync_flag_after_forward", "single_of_four", "grad rank0.first.weight", "reduced but for the last batch"),
        ("never_in_sync", "single_of_four", "grad rank0.first.weight", "and the reduction is missing"),
        ("clipped_by_shard", "single_clipped", "grad first.weight", "clipped by that shard's own norm"),
        ("not_clipped", "single_clipped", "grad first.weight", "not clipped"),
        (
            "summed_and_clipped",
            "single_clipped",
            "grad first.weight",
            "or reduced twice before it is clipped, which hides",
        ),
        (
            "divided_twice_and_clipped",
            "single_clipped",
            "grad first.weight",
            "too often, or not summed before it is clip",
        ),
        ("scaled_and_clipped", "single_clipped", "grad first.weight", "but for its scale before it was clipped, which"),
        ("tied_gradients_mix", "single_tied", "grad rank0.weight", "a part whose mean over the ranks is right"),
        ("loss_declared_as_mean", "single", "loss", "Nothing else differs: the mean of the ranks' losses is"),
        ("split_norm_of_sums", "single_normed", "grad 0.weight", ""),
        ("fused_projections_cut_across", "single_fused", "grad qkv.weight", ""),
    ],
)
def test_mistake_is_located_and_explained(name, against, begins, said, warm):
    result = checked(warm, name, against)
    assert result.verdict is Verdict.DIVERGED
    assert result.located[0].startswith(f"{begins}:")
    assert said in result.explanation
    assert result.explanation in result.reason


def test_what_each_rank_has_is_told_tensor_by_tensor(warm):
    ranks = checked(warm, "one_not_reduced").to_dict()["by_rank"]
    assert [rank["verdict"] for rank in ranks] == ["DIVERGED", "DIVERGED"]
    for number, rank in enumerate(ranks):
        assert len(rank["tensors"]) == 5 * 6  # gradient, moments, step count and parameter of six tensors
        outside = {row["tensor"]: row["bits_of"] for row in rank["tensors"] if row["outside"]}
        assert outside == {"grad norm.weight": number}
        assert {row["bits_of"] for row in rank["tensors"] if row["name"] == "first.bias"} == {0}
    kept = checked(warm, "not_broadcast").to_dict()["by_rank"]
    assert [rank["explanation"] for rank in kept] == ["another rank's update has not reached it"] * 2


@pytest.mark.parametrize(
    ("name", "against"),
    [
        ("no_sync_but_at_last", "single_of_four"),
        ("clipped", "single_clipped"),
        ("wrapped", "single_frozen"),
        ("split_norm", "single_normed"),
        ("loss_weighed_by_documents", "single"),
    ],
)
def test_right_one_beside_a_mistake_passes(name, against, warm):
    result = checked(warm, name, against)
    assert result.verdict is Verdict.PARITY, result.reason
    compared = {name: row.compared for name, row in result.modes[0].quantities.items()}
    assert compared["grad"] == {"wrapped": 57, "split_norm": 51}.get(name, 63)
    assert compared.get("loss", 0) == (name != "no_sync_but_at_last")
    assert not [phrase for phrase in result.not_exercised if "only one of the two" in phrase]


def test_ranks_that_rounding_sets_apart_are_each_judged_by_their_own_gradients(warm):
    result = checked(warm, "rounded_apart", steps=2)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.modes[0].quantities["param"].compared > 2 * 63  # more than one version of some
    assert result.remarks[0].startswith("ranks differ in bits, within the noise floor: exp_avg first.bias")
    result = checked(warm, "rounded_apart_and_not_updated")
    assert result.located[0].startswith("param rank1.last.bias:")
    assert "rank 1 keeps 1 parameter as they were" in result.reason


@pytest.mark.parametrize(
    ("name", "against"),
    [
        ("reduced_in_bfloat16", "single"),
        ("reduced_in_float8_and_declared_as_bfloat16", "single"),
        ("accumulated_in_bfloat16", "single_of_four"),
    ],
)
def test_what_is_lost_in_the_ranks_own_format_is_no_other_function(name, against, warm):
    result = checked(warm, name, against, dtype=None)
    assert result.verdict is Verdict.PRECISION_LOSS, result.reason
    assert [bool(mode.wrong) for mode in result.modes] == [False, True]


@pytest.mark.parametrize("name", ["reduced_in_bfloat16_as_declared", f"{TECHNIQUES}/bfloat16_reduction.py:make"])
def test_reduction_in_a_short_format_passes_where_it_is_declared(name, warm):
    against = "single" if ":" not in name else f"{TECHNIQUES}/single.py:make"
    result = checked(warm, name, against, dtype=None)
    assert result.verdict is Verdict.PARITY, result.reason
    assert 0.5 < result.modes[1].quantities["grad"].largest_z.z < 5


def test_loss_that_is_no_number_is_judged_though_nothing_is_declared(warm):
    result = checked(warm, "loss_without_a_number")
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].wrong[0].key.quantity == "loss"


def test_loss_that_is_not_declared_and_does_not_fit_is_said_not_to_be_compared(warm):
    result = checked(warm, "loss_of_its_own")
    assert result.verdict is Verdict.PARITY, result.reason
    assert "loss" not in result.modes[0].quantities
    assert any(phrase.startswith("the loss: that of the whole batch is neither") for phrase in result.not_exercised)


def test_scale_that_clipping_hides_is_said_not_to_be_seen(warm):
    result = checked(warm, "summed_and_clipped_in_float32", "single_clipped_in_float32", dtype=None)
    assert result.verdict is Verdict.PARITY, result.reason
    assert any(phrase.startswith("the scale of gradients before they are clipped") for phrase in result.not_exercised)


def test_training_that_is_not_dealt_out_is_remarked(warm):
    result = checked(warm, "not_dealt_out")
    assert result.verdict is Verdict.PARITY, result.reason
    assert [remark.partition(",")[0] for remark in result.remarks] == [
        "nothing is dealt out: every rank's model was given all documents"
    ]


def test_other_format_is_refused(warm):
    with pytest.raises(UsageError, match=r"lie in float32, those of .* in float64: let its factory take a dtype"):
        checked(warm, "right_in_float32", "single_in_float64", dtype=None)


def test_command_prints_the_verdict_and_writes_the_result(warm, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(processes, "Ranks", warm.started)
    monkeypatch.setattr(Ranks, "close", lambda self: None)
    few = ["--steps", "1", "--replicas", "4", "--dtype", "float64"]
    files = ["--json", str(tmp_path / "result.json"), "--markdown", str(tmp_path / "result.md")]
    files += ["--html", str(tmp_path / "result.html")]
    command = ["check", "--ranks", "2", f"{MISTAKES}:summed", "--against", f"{MISTAKES}:single", *few, *files]
    assert main(command) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("DIVERGED: Over 2 ranks it is another function than ")
    assert "in float64, on 2 ranks of cpu" in out
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["kind"], found["ranks"], found["verdict"]) == ("ranks", 2, "DIVERGED")
    assert found["explanation"].startswith("On every rank the gradient is summed")
    assert [rank["rank"] for rank in found["by_rank"]] == [0, 1]
    for rank in found["by_rank"]:
        assert rank["explanation"].startswith("the gradient is summed over the ranks")
        first = rank["tensors"][0]
        assert (first["tensor"], first["verdict"], first["bits_of"]) == ("grad first.weight", "DIVERGED", 0)
        assert (first["outside"], first["elements"], first["scale"]) == (24, 24, pytest.approx(2))
    assert "begins at: grad first.weight" in (tmp_path / "result.md").read_text()
    page = (tmp_path / "result.html").read_text()
    assert "Rank by rank" in page
    assert '<th scope="row" class="mono">grad first.weight</th><td class="miss"' in page


def test_training_over_ranks_is_a_rung_with_a_verdict_and_no_speed(warm, monkeypatch):
    monkeypatch.setattr(processes, "Ranks", warm.started)
    monkeypatch.setattr(Ranks, "close", lambda self: None)
    monkeypatch.setattr(checking, "REPLICAS", 4)
    wrong = Rung("wrong", "tests.ranks.mistakes:summed", title="Wrong: summed.", single="tests.ranks.mistakes:single")
    unfit = replace(
        wrong, factory="tests.ranks.mistakes:right_in_float32", single="tests.ranks.mistakes:single_in_float64"
    )
    right, diverged, broken = climb([*chosen("uneven_data_parallel"), wrong, unfit], case=None)
    assert (right.verdict, diverged.verdict, broken.verdict) == (Verdict.PARITY, Verdict.DIVERGED, Verdict.ERROR)
    assert [found.timing for found in (right, diverged, broken)] == [None] * 3
    assert (right.dtype, right.results[0].modes[0].mode) == ("float32", "float64")
    assert 0 < right.power < 1
    assert "On every rank the gradient is summed" in diverged.reason
    assert broken.reason.startswith("The ranks' parameters lie in float32")
    row = right.to_dict()
    assert (row["ranks"], row["against"]) == (2, "parity.ladder.parallel.single:make")
    assert markdown(compared([row], RUNGS)).splitlines()[-1].startswith("| **Uneven data parallel**: ")
    shown = console()
    with shown.capture() as capture:
        shown.print(rendered(compared([row], RUNGS)))
    assert "are held to one process and not timed" in " ".join(capture.get().split())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--ranks", "1", "--against", f"{MISTAKES}:single"], 2, "a whole number of at least 2, not '1'"),
        (["--ranks", "2"], 2, "--ranks needs --against, the training of one process"),
        (["--ranks", "2", "--against", f"{MISTAKES}:nothing"], 2, "has no 'nothing'"),
        (["--ranks", "2", "--against", "torch_twin.microgpt:make"], 2, "makes no parity.training.Training"),
        (["--ranks", "2", "--against", f"{MISTAKES}:single", "--isolate"], 2, "without --isolate"),
        (["--ranks", "2", "--against", f"{MISTAKES}:single", "--mode", "free-running"], 2, "step by step"),
        (["--ranks", "2", "--against", f"{MISTAKES}:single", "--dtype", "float64", "--seed", "3"], 2, "--seed is for"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arguments, status, said, capsys):
    try:
        found = main(["check", f"{MISTAKES}:right", *arguments])
    except SystemExit as error:
        found = error.code
    assert found == status
    assert said in " ".join(capsys.readouterr().err.split())


def test_subject_of_microgpt_is_no_training(capsys):
    assert main(["check", "torch_twin.microgpt:make", "--ranks", "2", "--against", f"{MISTAKES}:single"]) == 2
    assert "--ranks are for trainings, and torch_twin.microgpt:make is none" in " ".join(
        capsys.readouterr().err.split()
    )


def started(ranks):
    return [command.process.popen.pid for command in ranks.commands]


def test_rank_that_dies_is_named_and_the_other_one_ends(warm):
    ranks = warm.started()
    with pytest.raises(SubjectError, match=r"^Rank 1 was killed by SIGKILL in step 0; its last words: about") as raised:
        checked(warm, "dies", "single_in_float64", dtype=None)
    assert any("about to die" in line for line in raised.value.last_words)
    assert not ranks.alive
    assert [command.process for command in ranks.commands] == [None, None]
    assert not ranks.folder.exists()


def test_rank_that_hangs_is_named_with_the_line_that_it_is_at(warm):
    ranks = warm.started()
    name = f"{MISTAKES}:hangs"
    ranks.ask({"type": "make", "factory": name, "options": {}}, "made", "making the training")
    pids, ranks.seconds = started(ranks), 2.0
    with pytest.raises(SubjectError, match=r"^Rank 1 did not answer within 2 s in step 0: rank 1 is at mist") as raised:
        ranks.ask({"type": "step", "number": 0}, "step", "step 0")
    assert "; rank 0 is in torch's " in str(raised.value)
    assert "rank 1: waiting for the loader" in raised.value.last_words
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.skipif(not THOROUGH, reason="starts ranks anew; the one above says most of it")
def test_rank_that_takes_part_in_fewer_reductions_is_told_from_the_one_that_waits(warm):
    ranks = warm.started()
    ranks.ask({"type": "make", "factory": f"{MISTAKES}:out_of_step", "options": {}}, "made", "making the training")
    ranks.seconds = 3.0
    with pytest.raises(SubjectError, match=r"^Rank 0 did not answer within 3 s in step 0: rank 0 is in torch's all_r"):
        ranks.ask({"type": "step", "number": 0}, "step", "step 0")


@pytest.mark.skipif(not THOROUGH, reason="starts ranks anew; the one that dies says most of it")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", r"^Rank 1 raised ValueError: the loader has no documents left \(mistakes.py, line \d+\) in step 0"),
        ("makes_its_own_group", r"^Rank \d raised .* make one only if not torch.distributed.is_initialized\(\)"),
    ],
)
def test_rank_that_raises_is_named_with_its_line(name, said, warm):
    with pytest.raises(SubjectError, match=said):
        checked(warm, name, "single_in_float64", dtype=None)


def test_rank_beyond_the_limit_of_memory_is_named():
    ranks = Ranks(2, Limits(60.0, memory=1 << 20))
    with pytest.raises(SubjectError, match=r"^Rank \d used .* GiB of memory in making the training, more than the lim"):
        ranks.ask({"type": "make", "factory": f"{MISTAKES}:right", "options": {}}, "made", "making the training")
    assert not ranks.alive


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="nccl takes a GPU for each rank")
@pytest.mark.parametrize("rung", chosen("uneven_data_parallel,fully_sharded,zero"), ids=lambda rung: rung.name)
def test_technique_is_the_same_function_over_nccl(rung, warm):
    result = checked(warm, rung.factory, rung.single, device="cuda")
    assert result.verdict is Verdict.PARITY, result.reason
