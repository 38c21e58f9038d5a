"""What the messages are made of, on both sides; `HELP` is the page that `parity help protocol` prints."""

import json
import math
from typing import Any

from parity.answers import as_array, begins_with_a_number
from parity.errors import SubjectError
from parity.quantities import FIELDS
from parity.trees import mapped
from reference.config import Step

PROTOCOL = "microgpt-parity 1"

HELP = """\
A subject in any language: JSON lines over standard input and output, protocol "microgpt-parity 1".

`parity check -- COMMAND ...` starts the command, writes one JSON object a line to its standard input, and reads one
JSON object a line from its standard output as the answer to each. Standard error is the subject's own; its end is
shown where the subject fails. Both sides flush after every line. When standard input ends, the subject leaves.

1. The greeting. The harness says which model it wants (on one line, like every message):
     {"type": "hello", "protocol": "microgpt-parity 1",
      "config": {"n_layer": 1, "n_embd": 16, "n_head": 4, "block_size": 16, "vocab_size": 27, "init_std": 0.08,
                 "activation": "relu", "zero_init_projections": false},
      "hyper": {"learning_rate": 0.01, "beta1": 0.85, "beta2": 0.99, "eps_adam": 1e-08, "num_steps": 1000,
                "lr_schedule": "linear"},
      "options": {}}
   options holds "dtype" and "device" where the user gave --dtype or --device. activation is "relu" or "relu2" (its
   square), lr_schedule "linear" or "cosine"; init_std and zero_init_projections are only for drawing fresh weights.
   The subject answers in which number format it computes:
     {"type": "ready", "protocol": "microgpt-parity 1", "dtype": "float64"}
   dtype: "float64", "float32", "bfloat16" or "float16". Optional: "storage", the format that weights and moments lie
   in, where that is another one, as with autocast; "sizes": "given" (it has but this one model); "sites": true (it can
   answer with sites); "forward_only": true (train_step only computes forward) or "without_update": true (it has
   gradients, and another optimizer or none): then it is loaded before every step, and params, m and v are not
   answered; "tied_head": true (its lm_head is its wte: it is loaded before every step with both alike, and answers with
   neither in grads, params, m and v); "methods": ["decode", "sample"] (it understands those, too); "not_exercised": a
   list of phrases, which the result repeats, of what a check of it cannot exercise ("batches of several documents");
   "warnings": a list of sentences that it repeats where the check fails, of what may explain that.
   The greeting may come again: what follows is about another model, and nothing of the former one counts.

2. Weights. step counts the updates done so far; params, m and v hold every tensor as a list of rows:
     {"type": "load", "step": 0, "params": {"wte": [[0.1, ...], ...], ...}, "m": {...}, "v": {...}}
   Answer, when they are in place:
     {"type": "loaded"}

3. A training step: forward, backward and Adam on the mean loss of these documents, tokens with BOS at both ends:
     {"type": "train_step", "batch": [[26, 4, 12, 12, 0, 26]], "sites": false}
   Answer with what the subject exposes. Every field but type is optional, and so is every matrix of grads, params, m
   and v; what is left out, which must be the same at every step, is not checked, and the result names it:
     {"type": "step", "loss": 3.3, "logits": [[[...], ...]], "grads": {"wte": [[...], ...], ...},
      "params": {...}, "m": {...}, "v": {...}}
   logits: one matrix of n = min(block_size, len(tokens) - 1) rows for each document. params, m and v as they are
   after the update. "seconds" may say how long the step took, which `parity gate` compares; "not_exercised" takes the
   place of the greeting's. "sites" and "site_grads" are asked for with "sites": true: below.

4. Asked only of a subject whose greeting lists the method:
     {"type": "decode", "tokens": [26, 4, 12]}          logits computed one token at a time with a key/value cache
     {"type": "logits", "logits": [[...], [...], [...]]}
     {"type": "sample", "temperature": 0.5, "count": 100, "seed": 1}     documents drawn from the loaded weights
     {"type": "samples", "documents": [[4, 12, 12, 0], ...]}             tokens without BOS, at most block_size each

5. Anything that goes wrong, in place of an answer; the check ends with the verdict ERROR and this message:
     {"type": "error", "message": "vocab_size 300 is more than I can do"}
   "unsupported": true in an answer to the greeting says that other models can still be asked for.

Tensors, as lists of rows; a matrix w is applied to a vector x as w·x:
   wte, lm_head: (vocab_size, n_embd); wpe: (block_size, n_embd); layer0.attn_wq, attn_wk, attn_wv, attn_wo: (n_embd,
   n_embd); layer0.mlp_fc1: (4 n_embd, n_embd); layer0.mlp_fc2: (n_embd, 4 n_embd); then layer1 and so on. What is
   computed with them is defined by reference/microgpt.py, 200 lines of Python, and told in formulas by `parity help
   model`.

Sites, what a forward pass computes on the way, and in "site_grads" the loss's gradients by that: an object from site
to a list with one entry for each position, the documents of the batch one after another. Any of these, in which an
entry has the shape:
   embedding, norm: (n_embd,); layer0.attn.norm, layer0.attn.q, layer0.attn.k, layer0.attn.v: (n_embd,), the heads one
   after another; layer0.attn.scores, layer0.attn.weights: (n_head, positions so far); layer0.attn.heads,
   layer0.attn.residual: (n_embd,); layer0.mlp.norm: (n_embd,); layer0.mlp.pre, layer0.mlp.post, before and after the
   activation: (4 n_embd,); layer0.mlp.residual: (n_embd,); then layer1 and so on; logits, probs: (vocab_size,); loss of
   one position: a number.

Numbers are JSON numbers with enough digits to read back as the same bits (17 significant ones for float64, 9 for
float32). JSON has no NaN and no infinities: write null for NaN, "Infinity" and "-Infinity" for those. A whole field
of a step that is null (other than loss) is not exposed, and an optional field of any message that is null is left out.
"""

_WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def encoded(message: dict[str, Any]) -> bytes:
    """A message as a line; NaN and infinities, which JSON lacks, as null and words."""
    try:
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(mapped(_in_words, message), separators=(",", ":"))
    return text.encode() + b"\n"


def decoded(line: bytes) -> Any:
    """What stands in a line, NaN and infinities as floats. Raises ValueError where it is not JSON."""
    # An int has no negative zero, and a C program prints one as -0.
    message = json.loads(line, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))
    # Nearly no line has one of them, and a walk through all numbers takes longer than the rest.
    if not (b"null" in line or b'Infinity"' in line or b'"NaN"' in line):
        return message
    prose = {"message": message["message"]} if isinstance(message, dict) and "message" in message else {}
    floats = mapped(_as_float, message)
    return {**floats, **prose} if prose else floats


def step_message(step: Step) -> dict[str, Any]:
    """A Step of lists, arrays or tensors as the message of type "step"; SubjectError where it holds no numbers."""
    fields = {name: value for name in FIELDS if (value := getattr(step, name, None)) is not None}
    return {"type": "step", **{name: _plain(value, f"The subject's {name}") for name, value in fields.items()}}


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(entry, f"{what}, {name},") for name, entry in value.items()}
    return mapped(lambda tensor: as_array(tensor, what).tolist(), value, leaf=begins_with_a_number)


def _in_words(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _as_float(value: Any) -> Any:
    return math.nan if value is None else _WORDS.get(value, value) if isinstance(value, str) else value


def is_null(value: Any) -> bool:
    """Whether a decoded value was null, which many languages' JSON says of what is not there."""
    return isinstance(value, float) and math.isnan(value)


def step_of(message: dict[str, Any]) -> Step:
    """The Step in a message of type "step"; SubjectError for fields that a Step does not have."""
    unknown = sorted(message.keys() - {"type"} - vars(Step()).keys())
    if unknown:
        known = ", ".join(vars(Step()))
        raise SubjectError(f"The subject's step has the unknown field {unknown[0]!r}; the fields are {known}.")
    # For a number on its own null is NaN.
    fields = {name: value for name, value in message.items() if name == "loss" or not is_null(value)}
    del fields["type"]
    return Step(**fields)
