"""Bad input of a training: one sentence each, and whose fault it is."""

import pytest
import torch

from parity.errors import SubjectError, UsageError
from parity.training.checking import TrainingOptions, check_training
from parity.training.running import Factory
from parity.verdict import Verdict
from tests.training import bad_trainings as bad
from tests.training.tiny import make

USAGE = {
    bad.loss_of_many: r"The loss is a tensor of shape \(6, 3\); a Training's loss\(.*\) gives a scalar tensor",
    bad.loss_that_is_no_tensor: "The loss is a float",
    bad.with_closure: "called with a closure, which a check cannot take apart",
    bad.lbfgs_without_closure: "LBFGS calls for a closure",
    bad.no_training: "The factory makes a MLP, not a parity.training.Training",
    bad.other_parameters: "The factory makes other parameters when it is called again",
    bad.optimizer_of_another_model: "trains parameters that the model lacks",
    bad.no_batches: "batches are an empty list",
    bad.a_stream_of_batches: "batches are a list, to be gone through again, not a list_iterator",
    bad.too_few_batches: "do not last for one step",
    bad.unknown_autocast: "autocast is 'bfloat17'; it is a format such as bfloat16",
    bad.neither_loss_nor_step: "either a loss",
    bad.never_updating: "Step 0 never calls the optimizer's step",
    bad.sparse_gradients: r"The gradient of rows\.weight is sparse",
    bad.numbers_as_lists: r"\.tolist\(\) is not supported .*cannot follow where numbers leave torch",
    bad.numbers_in_numpy: r"\.numpy\(\) is not supported .*cannot follow where numbers leave torch",
}
FAILING = {
    bad.loss_without_gradient: "does not require grad",
    bad.nan_loss: "Step 0 comes to NaN even in exact arithmetic, first in loss",
    bad.nan_weight: "Step 0 comes to NaN even in exact arithmetic, first in site last",
    bad.second_backward: "Trying to backward through the graph a second time",
    bad.hidden_counter: "Asked again from the same state, step 0 gives another",
    bad.hidden_chance: "Asked again from the same state, step 0 gives another",
    bad.raising: r"FileNotFoundError: no weights here \(bad_trainings\.py, line \d+\) in making the training",
}


def checked(factory, **options):
    return check_training("the subject", Factory(factory), TrainingOptions(1, ("lock-step",), replicas=2, **options))


@pytest.mark.parametrize(("factory", "said"), USAGE.items(), ids=[f.__name__ for f in USAGE])
def test_what_cannot_be_checked_is_said_in_a_sentence(factory, said):
    with pytest.raises(UsageError, match=said) as raised:
        checked(factory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("factory", "said"), FAILING.items(), ids=[f.__name__ for f in FAILING])
def test_what_fails_is_the_subjects_fault(factory, said):
    with pytest.raises(SubjectError, match=said) as raised:
        checked(factory)
    assert "\n" not in str(raised.value)


def test_more_steps_than_batches_last_for():
    with pytest.raises(UsageError, match="The batches last for 3 steps, and --steps asks for 9"):
        check_training("the subject", Factory(make), TrainingOptions(9))


@pytest.mark.parametrize("factory", [bad.dropout, bad.dropout_within_attention])
def test_dropout_draws_the_same_and_is_mentioned(factory):
    result = checked(factory)
    assert result.verdict is Verdict.PARITY, result.reason
    assert any("draws random numbers (bernoulli" in remark for remark in result.remarks)


def test_dropout_within_a_fused_kernel_is_refused():
    from parity.oracle.shadows.execution import Execution
    from parity.oracle.shadows.shadow import Shadow

    q = Shadow(torch.ones(1, 2, 4, 8, dtype=torch.float64), torch.float32)
    with Execution(), pytest.raises(NotImplementedError, match="dropout within fused attention"):
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.5, False)


def test_outputs_that_are_no_tensors_leave_the_rest_to_be_compared():
    result = checked(bad.outputs_that_are_no_tensors)
    assert result.verdict is Verdict.PARITY, result.reason
    assert not any(row.compared for q, row in result.modes[0].quantities.items() if q == "output")
    assert result.modes[0].quantities["grad"].compared


def test_one_number_taken_out_of_a_tensor_is_known():
    assert checked(bad.one_number).verdict is Verdict.PARITY
