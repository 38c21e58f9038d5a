"""The pages of `parity help`, on what several commands have in common."""

import inspect
from collections.abc import Callable
from string import Template
from typing import NamedTuple

_MODEL = Template("""\
The model and its training step
===============================
Andrej Karpathy's microGPT of 200 lines. reference/microgpt.py defines it; in short:

  documents  tokens with BOS, the last of the vocabulary, at both ends; n = min(block_size, len - 1)
             positions count
  embedding  wte[token] + wpe[position], both learned; then a norm, before the first layer
  norm       RMSNorm x / sqrt(mean(x²) + $eps_norm), no gain; before attention and before the MLP,
             and none after the last layer
  attention  causal; n_head heads of n_embd / n_head; scores / sqrt(n_embd / n_head); softmax;
             attn_wo; residual
  MLP        mlp_fc1 to 4 n_embd, ReLU, mlp_fc2; residual
  head       lm_head, a matrix of its own, not tied to wte
  nowhere    biases, gains, dropout, weight decay, clipped gradients
  loss       cross entropy of the next token: the mean over a document's positions, then over documents
  Adam       with bias correction; learning rate $learning_rate (1 - step / $num_steps), betas $beta1 and
             $beta2, eps $eps_adam outside the root
  sizes      n_layer $n_layer, n_embd $n_embd, n_head $n_head, block_size $block_size, vocab_size $vocab_size:
             $num_params weights, drawn with std $init_std

The sizes, Adam's numbers and the schedule are options of `parity check`. Sizes that the reference's scalar
graph does not reach are judged by torch_twin.positions in exact arithmetic, which is first held to the
reference in smaller ones; weights are then NumPy arrays, not lists. An earlier revision, --preset
microgpt_early, has squared ReLU, cosine decay, block_size $early_block_size, betas $early_beta1 and $early_beta2.

In formulas
-----------
$formulas""")

_VERDICT = """\
How to read a verdict
=====================
  verdict         exit  what it means
  IDENTICAL       0     every bit is the same
  PARITY          0     rounding in your number format explains every difference
  PRECISION LOSS  1     the right function, computed in an unstable way: the error shrinks in a wider
                        format, z stays
  DIVERGED        1     another function; the first divergence says where
  ERROR           1     the subject raised, hung, died, or answered what cannot be compared
  INCONCLUSIVE    3     nothing could be decided: nothing compared, a wrong answer would have passed as
                        well, or rounding may turn too many ReLUs
  (none)          2     bad usage or bad input, named in one sentence

The table has a row for each quantity: logits, loss, gradients, Adam's m and v, updated parameters.

  compared     elements, over all steps of a mode
  z lock-step  the largest error over the noise floor σ, in lock-step: before every step your side is
               set to the reference's state, so this is the error of one step
  z free       the same where both sides start equal and run on (free-running): errors accumulate
  would catch  the smallest relative error that this very check would have caught, in the median
               element: how sharp the check is
  at worst     the same in the one element in which rounding hides most

Your subject is PyTorch in this process and computes in a shorter format than float64? Then its own program
is run once more in exact arithmetic: each tensor says that it has the format that you gave it, and holds
float64 inside. What rounding hides shows there, and `would catch` is what that catches:

  z exact      the largest error of that run, over the noise floor of float64
  of its run   what your run itself would have caught, which is less; that it is what its code says, as
               far as rounding lets one tell, is what the other columns say

Where it is right there and its own run is outside, its operations round farther than your format (as
under autocast): PRECISION LOSS; or what runs is not what its code says (a compiler, a kernel): DIVERGED.

σ is the spread of 64 replays of the reference's own scalar operations, each result moved at random by up
to one unit roundoff of your number format. The limit is no knob: it is the quantile of Student's t for
the chance of a false alarm (1e-09 over all elements, --false-alarm). Where σ is 0, equality is due.

"At worst 2e+02" is neither an error of your subject nor a tolerance. There is one element whose value
is so near 0 that an error of 200 times that value would still be within rounding: where numbers of size 1
add up to 0.0001 in bfloat16, which has two to three digits, what is left is rounding. Of that element
alone the check can say nothing. A mistake goes unseen only where it moves no element of any quantity by
more than that element's own bound, and `would catch` is the bound of the median one. --verbose shows both
for every tensor. A wider format sees more: in float64 they are about 1e-14 and 1e-9.

Below the table:

  not exposed    what the subject's Step leaves out; not checked
  vacuous        zeros, negated, reversed or shuffled values in place of a tensor would have passed; this
                 supports no verdict
  not exercised  what neither the case nor a probe does, and the option that does it

Probes are nine small models that a check runs besides its case: other sizes, batches, documents longer
than the block, large, saturated and vanishing weights, other hyper-parameters, the end of the schedule.

When it diverged
----------------
The verdict's line names the first element outside. Below it stands, tensor by tensor in the order of
computation (forward, then backward from the loss), what is right and what is wrong. `begins at` names
what is wrong though nothing that it is computed from is seen to be: look there. More is placed where the
subject shows intermediates: Step.sites, or for a torch.nn.Module sites= (`parity help module`); one that
is outside while what is computed from it is not is suspected to be called by a wrong name. Known mistakes
that the answer fits are named. --truth encloses the exact result in certified bounds, and says which side
is wrong.

In bfloat16 and float16
-----------------------
A ReLU whose input lies within the noise floor of 0 may go either way, and both are right. In short
formats there are many, so the subject is asked for its own: by its sites (layer0.mlp.post), or, for
PyTorch in this process, by watching what its ReLUs are given. Without either they are searched for, and
where that would take too long the verdict is INCONCLUSIVE.

dtype is what products are computed in. With autocast, weights and moments lie in float32: say
storage = "float32" as well, which makes the check of m, v and param sharper.
"""

_SUBJECT = """\
What is tested: a subject
=========================
`parity new-subject my_port.py` writes a commented skeleton, `--example numpy` one that is filled in. A factory
make(config, hyper) gives an object with the methods load(state) and train_step(batch). With a parameter dtype or device
it takes --dtype and --device. What the tensors are called and what is computed with them: `parity help model`. A
torch.nn.Module needs no class of its own: `parity help module`. Another language: `parity help protocol`.
"""


_ACCEPT = """\
Intended changes in a gate
==========================
A change of the function is DIVERGED in `parity gate`, whoever meant it, until somebody accepts it.

Accept   Add --accept "why" to the very command that fails. That writes an entry to parity-accepted.json: sums of what
         base and head answer, not their code or commits. So it knows the change on any machine, rebased, squashed or
         rounded otherwise, and no other one. It is of one subject, one case (--steps, sizes, --only-case and the like)
         and one --dtype, and a gate that it is not of says so.
Review   Commit the file with the change; the entry says why, and what the gate found. Committed or not, this change
         passes from now on, with exit status 0 and the verdict DIVERGED, accepted as intended.
Change   If head or base computes something else than then, the gate fails, and says in which quantities head is not
         what was accepted. Accept anew.
Merge    Now base has the change. Head is compared with base as ever: other rounding passes, another change does not.
         A quiet line names the entry.
Delete   The next --accept for this subject, case and format takes its place. You may delete it earlier: then a gate
         warns first of all that base and head differ from the reference in the same way.

A subject that base does not have cannot be compared with it: --allow-new holds it against the reference alone.
"""


_TRAINING = """\
Any PyTorch training step
=========================
A factory make(dtype="float32", device="cpu"), all of whose parameters have defaults, gives a
parity.training.Training; `parity new-subject training.py --example training` writes one that works.
Whatever it draws is to be drawn from seeds, so that it makes the same each time.

  model, optimizer   a torch.nn.Module and a torch.optim of its parameters: for-loop, foreach or fused
  loss               loss(model, batch) -> a scalar tensor
  batches            a list; a step takes one, or `accumulation` of them, whose losses it averages
  clip_grad_norm     as torch.nn.utils.clip_grad_norm_ takes it
  autocast           "bfloat16" or "float16"
  grad_scaler        torch.amp.GradScaler; gradients are unscaled, clipped, then read by the optimizer
  schedule           a torch.optim.lr_scheduler
  step               step(model, optimizer, batch) -> loss: all of it, in place of loss, autocast,
                     accumulation and clipping. It moves a schedule or scaler on by itself; give them as
                     well, for every step that is compared begins from their state

What is compared with what
--------------------------
The step is run as it is, and on shadows: tensors that say they have the program's formats and hold float64,
so that autocast, casts and fused kernels are what they are, but nothing is rounded. Replicas in which every
operation's result is moved at random by what its own format rounds give the noise floor. There is nothing to
declare. Compiled code runs as it is, and on shadows as it was written.

  parity check training.py:make                        its own run beside its own exact arithmetic: do kernels,
                                                       compiler and fused operations compute what is written?
  parity check training.py:make --against other.py:make  and its exact arithmetic beside another training's,
                                                       from the same weights, between which there is only the
                                                       rounding of float64: what bfloat16 hides shows here
  parity gate training.py:make --base origin/main      the same beside itself at another revision, and speed

The optimizer reads the run's own gradients on shadows too: near a gradient of zero an update of Adam's is
little but a sign. So a wrong gradient is outside in `grad`, and a wrong optimizer in its state and `param`.
Free-running, all steps follow each other, and gradients are the run's own where rounding decides them. A
ReLU lets pass on shadows what it let pass in the run; a gate that differs must lie near zero.

Where the other training has other names, NAMES in the factory's module or --names-map FILE (JSON) map them:

  {"h.{i}.attn.weight": ["layers.{i}.q.weight", "layers.{i}.k.weight"],   stacked
   "head.weight": "out.weight.T", "up.weight": "mlp.weight[0:64]"}        transposed, some of the rows

Parameters and what the optimizer keeps of them are mapped; of modules those are compared that bear the same
name on both sides. The training starts from the other one's weights, rounded to its own formats.

Reading it
----------
  site, site grad  what each named module gives, and the gradient of that; modules of PyTorch by hooks
  output, loss     of the model itself
  grad             as the optimizer reads it: accumulated, unscaled, clipped
  exp_avg, ...     whatever the optimizer keeps, by its own names; param and buffer: after the step
  z exact          against another training, both in exact arithmetic
  would catch      the smallest relative error that this check would have caught, in the median element:
                   with --against in the function, `of its run` in the run itself
  begins at        the first tensor outside, in the order of computation; modules before what contains them

PRECISION LOSS: the same function, but its run loses more than its formats must, or its formats round more
than the other's: a noise floor four times as wide.

A step is compared as far as it is exercised: a clipping that no gradient reaches, a parameter that gets no
gradient and the schedule after the last step are named under `not exercised`.

Random layers draw the same on both sides as long as the order of draws is the same; dropout within fused
attention is refused. An operation without a model of its own is taken as what it decomposes to, or as
elementwise, and named. A floor is known from 16 replicas, and moderated by that of like elements; --replicas
64 sees somewhat more and takes four times as long.
"""


class Topic(NamedTuple):
    """A page, made only where it is asked for."""

    summary: str
    page: Callable[[], str]


def _model() -> str:
    from parity.vectors.formulas import FORMULAS
    from reference.config import PRESETS

    config, hyper = PRESETS["microgpt_200"]
    early, of_early = PRESETS["microgpt_early"]
    return _MODEL.substitute(
        vars(config) | vars(hyper),
        eps_norm="1e-5",  # which the reference has no name for
        eps_adam=f"{hyper.eps_adam:.0e}",
        num_params=f"{config.num_params():,}",
        early_block_size=early.block_size,
        early_beta1=of_early.beta1,
        early_beta2=of_early.beta2,
        formulas=FORMULAS,
    )


def _subject() -> str:
    from parity import State, Step, Subject

    described = [("Subject", Subject), ("load(state)", Subject.load), ("train_step(batch)", Subject.train_step)]
    described += [("State", State), ("Step", Step)]
    return "\n".join([_SUBJECT, *(f"{name}: {inspect.getdoc(what)}\n" for name, what in described)])


def _module() -> str:
    import parity.modules  # imports torch

    return f"{inspect.getdoc(parity.modules)}\n\nModuleSubject: {inspect.getdoc(parity.modules.ModuleSubject)}\n"


def _protocol() -> str:
    from parity.subjects.messages import HELP

    return HELP


TOPICS = {
    "model": Topic("what the reference computes, in words and formulas", _model),
    "subject": Topic("what a subject in Python has, gives, may leave out", _subject),
    "module": Topic("a torch.nn.Module: names, sites, loss=, autocast", _module),
    "training": Topic("any PyTorch training step, held to another one", lambda: _TRAINING),
    "protocol": Topic("a subject in any other language: its messages", _protocol),
    "verdict": Topic("what a check prints: z, would catch, a failure", lambda: _VERDICT),
    "accept": Topic("an intended change in a gate, from accepting to merging", lambda: _ACCEPT),
}
