"""The page that explains a folder of conformance vectors to whoever has no Python at hand."""

import json
from collections.abc import Sequence
from string import Template

from parity.catalogue.mutants import MUTANTS
from parity.vectors.format import Vector
from parity.vectors.formulas import FORMULAS

TITLE = "# Conformance vectors of microgpt-parity"


README = Template("""\
$title: $dtype

These files tell whether an implementation of microGPT's training step, in any language, computes the same function as
the reference, without a line of Python on its side. Each holds a small model, documents, and what a correct
implementation in $dtype gives at every step, element by element, with the deviation that rounding explains.

$cases

## What to do

For each file, `NAME.json` (its `name`, what it `exercises`, and all `cases` of the set are named in it as well):

1. Make the model of `config` (n_layer, n_embd, n_head, block_size, vocab_size, activation) and the optimizer of
   `hyper`. `init_std` and `zero_init_projections` do not matter: the weights are given.
2. Load `state`: the tensors `params`, and Adam's moments `m` and `v`, each a list of rows, and `step`, the number of
   updates done so far, on which the learning rate and the bias correction depend.
3. For every entry of `batches`, in order, do one training step (forward, backward, Adam) on the mean loss of these
   documents, and keep what it gives. An entry is a list of documents, a document a list of tokens with BOS at both
   ends; n = min(block_size, length - 1) of its positions count. Never load the state again: steps follow each other.
4. Write down each step as an object with these fields, all of which are optional (what is left out is not checked):

   | field | value |
   | --- | --- |
   | `loss` | a number, before the update |
   | `logits` | for each document a list of n rows of vocab_size numbers, before the update |
   | `grads` | the gradients, by tensor name, shaped as `state.params` |
   | `m`, `v`, `params` | by tensor name, after the update |

5. Put all of them into one file, for each case the list of its steps:

```json
$example
```

   Give numbers enough digits to read back as the same bits ($digits for $dtype). JSON has no NaN and no
   infinities: write null for NaN, "Infinity" and "-Infinity" for those.

Then, wherever Python is at hand, `parity verify FOLDER RESULTS.json` says the verdict and names the mistake.

   A port whose sizes are fixed writes "unsupported" in place of the list of steps for a case that it has no model for;
   `default` is there for one with microGPT's own. The case then counts as not exercised, and not against the port.

## What to compute

$formulas
## To judge it yourself

`expected` and `allowed` hold a step each for every entry of `batches`, with the fields above. An element is right if

    |actual - expected| <= allowed

and where `allowed` is 0 it must be equal. Not a number is never right. The answers pass if every element of every step
of every case is right; then a correct implementation is refused with a chance of one in a billion (`false_alarm` is
the share of one case).

`allowed` is no tolerance that somebody chose: it is `limit` (a quantile of Student's t) times the standard deviation of
the element when every operation of the reference is moved at random by the rounding of $dtype. In no case does a ReLU
or the sign of an update depend on rounding.

## What must not fit

`mistakes` holds what the reference gives with a mistake that people make: `values` and `allowed` as above, of the
losses and of the first quantity that is wrong, at its step. No right answer fits one of them; an answer that does
(every element is within `allowed` of `values`) very likely has this mistake, which `mistake` says in words:

$mistakes
""")


def readme(vectors: Sequence[Vector]) -> str:
    """The README.md of a folder of vectors: the format, what to do, and an example of the answers."""
    first = vectors[0]
    example = ",\n    ".join(json.dumps({"loss": step.loss}) for step in first.expected)
    shown = {mistake.name: mistake.mistake for vector in vectors for mistake in vector.mistakes}
    table = ["| case | steps | what it exercises |", "| --- | ---: | --- |"]
    table += [f"| `{vector.name}` | {vector.case.steps} | {vector.exercises} |" for vector in vectors]
    parts = {
        "title": TITLE,
        "formulas": FORMULAS,
        "dtype": first.dtype,
        "cases": "\n".join(table),
        "example": f'{{\n  "{first.name}": [\n    {example}\n  ]\n}}',
        "digits": "17 significant ones" if first.dtype == "float64" else "9 significant ones",
        "mistakes": "\n".join(f"- `{name}`: {shown[name]}" for name in MUTANTS if name in shown),
    }
    return README.substitute(parts)
