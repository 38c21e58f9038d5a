"""A case: config, hyper-parameters, weights and documents, which is everything that a run needs."""

import json
import math
import random
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.files import write_whole
from parity.words import did_you_mean
from reference.config import PRESETS, Config, Hyper, State
from reference.data import load_documents
from reference.microgpt import Tokenizer, init_params, init_state

_BATCHES, _LONG_DOCUMENTS, _SECOND_LAYER = (
    "batches of several documents",
    "documents longer than the block",
    "a second layer",
)
"""What a case may leave unexercised."""

_LEAST_BYTES = 100
"""For each parameter: weights, moments and gradients of a subject, beside what is expected and the noise floor."""
LISTED = 4_000_000
"""Parameters up to which a model's matrices are lists of rows, drawn as the reference draws them; arrays beyond."""
_MOST_DOCUMENTS = 10_000_000

_CASE_FORMAT = "microgpt-parity case 1"


@dataclass(frozen=True)
class Case:
    """Everything a run needs.

    state: where the run starts, as nested lists of floats (of a model of more than LISTED parameters, and of which the
    scalar graph knows nothing, as arrays of float64). documents: lists of tokens with BOS, the last token of
    the vocabulary, at both ends. Step t trains on the batch_size documents from t * batch_size on, starting over at
    the end. steps: how many steps the run has. Raises UsageError where the parts do not fit together.
    """

    config: Config
    hyper: Hyper
    state: State
    documents: list[list[int]]
    batch_size: int = 1
    steps: int = 20

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, not {getattr(self, name)!r}.")
        if type(self.state.step) is not int or self.state.step < 0:
            raise UsageError(f"The state's step must be a whole number of at least 0, not {self.state.step!r}.")
        if self.state.step + self.steps > self.hyper.num_steps:
            raise UsageError(
                f"{self.steps} steps from step {self.state.step} go past the end of the learning-rate schedule, "
                f"num_steps {self.hyper.num_steps}; take fewer steps or a larger num_steps."
            )
        self._check_documents()
        tensors = {kind: self._checked_tensors(kind, getattr(self.state, kind)) for kind in ("params", "m", "v")}
        object.__setattr__(self, "state", State(**tensors, step=self.state.step))
        object.__setattr__(self, "documents", [list(tokens) for tokens in self.documents])

    def __repr__(self) -> str:
        # Without the thousands of floats of the state, which drown every message that they stand in.
        return (
            f"Case({self.config}, {self.hyper}, <state of step {self.state.step}>, {self.documents}, "
            f"batch_size={self.batch_size}, steps={self.steps})"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # Hypothesis and IPython print fields otherwise
        printer.text(repr(self))

    def _check_documents(self) -> None:
        if not self.documents:
            raise UsageError("The case has no documents.")
        bos = self.config.vocab_size - 1
        for number, tokens in enumerate(self.documents):
            if len(tokens) < 2 or tokens[0] != bos or tokens[-1] != bos:
                raise UsageError(f"Document {number} does not have BOS, token {bos}, at both ends.")
            strange = [token for token in tokens if type(token) is not int or not 0 <= token <= bos]
            if strange:
                raise UsageError(f"Document {number} has the token {strange[0]!r}; tokens are 0 to {bos}.")

    @property
    def in_arrays(self) -> bool:
        """Whether the matrices are so large that they are arrays."""
        return _parameters(self.config) > LISTED

    def _checked_tensors(self, kind: str, tensors: dict[str, Any]) -> dict[str, Any]:
        shapes = self.config.shapes()
        if set(tensors) != set(shapes):
            raise UsageError(f"The case's {kind} {names_difference(tensors, shapes)}.")
        checked: dict[str, Any] = {}
        for name, (rows, columns) in shapes.items():
            if self.in_arrays:
                checked[name] = self._checked_array(kind, name, tensors[name])
                continue
            try:
                matrix = [[float(x) for x in row] for row in tensors[name]]
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"The case's {kind} {name} holds something other than rows of numbers.") from None
            if len(matrix) != rows or any(len(row) != columns for row in matrix):
                raise UsageError(f"The case's {kind} {name} must be {rows} rows of {columns} numbers.")
            if not all(math.isfinite(x) and (kind != "v" or x >= 0) for row in matrix for x in row):
                sort = "finite numbers of at least 0" if kind == "v" else "finite numbers"
                raise UsageError(f"The case's {kind} {name} must hold {sort} only.")
            checked[name] = matrix
        return checked

    def _checked_array(self, kind: str, name: str, matrix: Any) -> Any:
        """A matrix as an array of float64, the same one where it is that already."""
        import numpy as np

        try:
            array = np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"The case's {kind} {name} holds something other than rows of numbers.") from None
        rows, columns = self.config.shapes()[name]
        if array.shape != (rows, columns):
            raise UsageError(f"The case's {kind} {name} must be {rows} rows of {columns} numbers.")
        if not np.isfinite(array).all() or (kind == "v" and (array < 0).any()):
            sort = "finite numbers of at least 0" if kind == "v" else "finite numbers"
            raise UsageError(f"The case's {kind} {name} must hold {sort} only.")
        return array

    @classmethod
    def from_names(
        cls,
        names: str | Path | None = None,
        preset: str = "microgpt_200",
        seed: int = 42,
        steps: int = 20,
        batch_size: int = 1,
        config: dict[str, Any] | None = None,
        hyper: dict[str, Any] | None = None,
    ) -> "Case":
        """The run that `python -m reference` would make of a file of names, one a line (None: the embedded ones).

        seed shuffles the documents and draws the weights; config and hyper replace values of the preset. Raises
        UsageError for a preset or sizes that do not exist, and reference.data.DataError for the file.
        """
        if preset not in PRESETS:
            near = did_you_mean(preset, PRESETS)
            raise UsageError(f"There is no preset {preset!r}{near}; there are {', '.join(PRESETS)}.")
        docs = load_documents(names)
        tokenizer = Tokenizer(docs)
        try:
            model = replace(PRESETS[preset][0], vocab_size=tokenizer.vocab_size, **(config or {}))
            optimizer = replace(PRESETS[preset][1], **(hyper or {}))
        except (ValueError, TypeError) as error:
            raise UsageError(f"These options do not fit together: {error}.") from None
        _require_that_it_can_be_drawn(model, steps * batch_size)
        rng = random.Random(seed)
        rng.shuffle(docs)
        state = _drawn_in_arrays(model, seed) if _parameters(model) > LISTED else init_state(init_params(model, rng))
        used = docs[: max(1, steps * batch_size)]
        return cls(model, optimizer, state, [tokenizer.encode(doc) for doc in used], batch_size, steps)

    def batches(self) -> Iterator[list[list[int]]]:
        """The documents of every step, as fresh lists."""
        for step in range(self.steps):
            start = step * self.batch_size
            yield [list(self.documents[i % len(self.documents)]) for i in range(start, start + self.batch_size)]

    def not_exercised(self) -> list[str]:
        """What a mistake could hide in, since the run never does it; the keys of `how_to_exercise` begin it."""
        used = [tokens for batch in self.batches() for tokens in batch]
        missing = [] if self.batch_size > 1 else [_BATCHES]
        long = any(len(tokens) - 1 > self.config.block_size for tokens in used)
        missing += [] if long else [_LONG_DOCUMENTS]
        missing += [] if self.config.n_layer > 1 else [_SECOND_LAYER]
        other = _other_preset(self.config, self.hyper)
        return [*missing, f"what the preset {other} does otherwise"] if other else missing

    def to_json(self) -> str:
        """The case as JSON; floats are shortest decimals that read back as the same bits.

        UsageError for one whose matrices are arrays.
        """
        if self.in_arrays:
            raise UsageError(f"A model of more than {LISTED:,} parameters is not stored; its seed draws it again.")
        return json.dumps({"format": _CASE_FORMAT, **asdict(self)}, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """The case that `to_json` wrote; UsageError where it is not one."""
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict) or fields.pop("format", None) != _CASE_FORMAT:
                raise UsageError(f"This is not a stored case: its format is not {_CASE_FORMAT!r}.")
            fields["config"] = Config(**fields["config"])
            fields["hyper"] = Hyper(**fields["hyper"])
            fields["state"] = State(**fields["state"])
            return cls(**fields)
        except UsageError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(f"This is not a stored case: {error}.") from None

    def save(self, path: Path) -> None:
        """Write the case to a file, wholly or not at all."""
        write_whole(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> "Case":
        """The case in a file; UsageError where it cannot be read or is not one."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"The case {path} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise UsageError(f"The case {path} is not JSON text.") from None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None


def _require_that_it_can_be_drawn(config: Config, documents: int) -> None:
    """UsageError for a model or a run so large that drawing it takes longer than learning that it cannot be checked."""
    import psutil

    parameters = _parameters(config)
    if parameters * _LEAST_BYTES > psutil.virtual_memory().available:
        raise UsageError(f"A model of {parameters:,} parameters is too large for this machine's memory.")
    if documents > _MOST_DOCUMENTS:
        raise UsageError(f"A run of {documents:,} documents is too long; at most {_MOST_DOCUMENTS:,} can be tried.")


def _parameters(config: Config) -> int:
    """As Config.num_params has it, which lists every layer."""
    layers = 12 * config.n_layer * config.n_embd**2
    return layers + (2 * config.vocab_size + config.block_size) * config.n_embd


def _drawn_in_arrays(config: Config, seed: int) -> State:
    """The state before the first update, its weights from NumPy's generator of that seed, which takes seconds."""
    import numpy as np

    generator = np.random.default_rng(seed)
    params = {}
    for name, shape in config.shapes().items():
        zero = config.zero_init_projections and name.endswith(("attn_wo", "mlp_fc2"))
        params[name] = np.zeros(shape) if zero else generator.standard_normal(shape) * config.init_std
    m, v = ({name: np.zeros(shape) for name, shape in config.shapes().items()} for _ in "mv")
    return State(params, m, v, 0)


def _other_preset(config: Config, hyper: Hyper) -> str | None:
    """The preset whose activation and schedule are both other ones than these; None if there is none."""
    presets = {("relu", "linear"): "microgpt_early", ("relu2", "cosine"): "microgpt_200"}
    return presets.get((config.activation, hyper.lr_schedule))


def how_to_exercise(phrase: str) -> str:
    """What a case left unexercised, with the option that exercises it, if there is one."""
    options = {_BATCHES: "--batch-size 3", _LONG_DOCUMENTS: "--block-size 4", _SECOND_LAYER: "--n-layer 2"}
    options |= {f"what the preset {name} does otherwise": f"--preset {name}" for name in PRESETS}
    return f"{phrase} ({options[phrase]})" if phrase in options else phrase


def names_difference(actual: Collection[Any], expected: Collection[Any]) -> str:
    """Which names are missing and which unknown, as the end of a sentence."""
    missing = [str(name) for name in expected if name not in actual]
    parts = [f"lack {', '.join(missing)}"] if missing else []
    return " and ".join([*parts, *unknown_names(actual, expected)]) or "have the right names"


def unknown_names(actual: Collection[Any], expected: Collection[Any]) -> list[str]:
    """Which names are unknown, and what may have been meant, as the end of a sentence; nothing where all are known."""
    unknown = [str(name) for name in actual if name not in expected]
    missing = [str(name) for name in expected if name not in actual]
    close = ([*get_close_matches(name, missing), *get_close_matches(name, map(str, expected))] for name in unknown)
    hinted = [f"{name} (is it {near[0]}?)" if near else name for name, near in zip(unknown, close)]
    return [f"have the unknown {', '.join(hinted)}"] if hinted else []
