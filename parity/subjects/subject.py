"""Subjects: the protocol, and making one by name."""

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from parity.errors import SubjectError, UnsupportedModel, UsageError
from parity.number_formats import FORMATS, Format
from parity.quantities import FIELDS
from parity.subjects.attributes import NOTHING, attribute, tied_head
from parity.subjects.calls import guarded
from parity.subjects.imports import imported, split_name
from parity.tensors import TensorViews, listed_state, named_state, vectors, with_tied_head
from reference.config import Config, Hyper, State, Step

if TYPE_CHECKING:
    from parity.subjects.process import Limits

TWIN = "torch_twin.microgpt:make"
"""The subject that is checked where none is named."""


class Subject(Protocol):
    """An implementation under test.

    Attributes, all of which may be missing:

    - dtype ("float64"): the number format it computes in. storage: the one that its weights and moments lie in, where
      that is another one, as with autocast.
    - sizes = "given": it has but the size it was made for. Or it raises NotImplementedError for others when it is made.
    - expose_sites: set to True where its sites are asked for; only a subject that has the attribute is asked.
    - without_update = True: it has gradients, and another optimizer than the reference's Adam, or none.
      forward_only = True: it only computes forward. Either is asked for single steps from the reference's states
      (lock-step), and leaves params, m and v out of its Step.
    - tied_head = True: its lm_head is its wte. It is asked for single steps from states in which the two are equal, and
      leaves both out of grads, params, m and v, since what they share is neither's.
    - not_exercised: a list of phrases, which the result repeats, of what a check of it cannot exercise. warnings: a
      list of sentences that it repeats where the check fails, of what may explain that.

    `parity.suite` also tests decode(tokens), the (n, vocab_size) logits of tokens taken one at a time with a key/value
    cache, and sample(temperature, count, seed), documents without BOS, where a subject has them.
    """

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number. The matrices are nested lists that the subject may keep."""

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents."""


Factory = Callable[..., Any]
Named = str | Sequence[str] | Factory
"""A factory, the name of one (`package.module:make`, `path/to/file.py:make`), or a command that speaks the protocol:
a list of its words, or one string after "-- "."""


def make_subject(factory: Named, config: Config, hyper: Hyper, **options: str | None) -> Subject:
    """The subject that a factory makes, or the one so named.

    options (dtype, device) go to the factory as keywords, where not None. Raises UsageError where there is no such
    factory or it takes no such option, UnsupportedModel where it raises NotImplementedError, and SubjectError where it
    fails in another way.
    """
    make = find_factory(factory)
    wanted = {name: option for name, option in options.items() if option is not None}
    for name in wanted:
        if not takes_keyword(make, name):
            raise UsageError(f"The subject cannot be made with --{name}: its factory has no parameter {name!r}.")
    if "device" in wanted and not hasattr(make, "argv"):  # another process knows its own devices
        _require_device(wanted["device"])
    try:
        subject = guarded("making it", make, config, hyper, **wanted)
    except SubjectError as error:
        if isinstance(error.__cause__, NotImplementedError):
            raise UnsupportedModel(str(error)) from error.__cause__
        raise
    require_methods(subject)
    dtype = subject_dtype(subject)
    if wanted.get("dtype", dtype) != dtype:
        raise SubjectError(f"The subject was to compute in {wanted['dtype']} but says that it computes in {dtype}.")
    return subject  # type: ignore[no-any-return]


def _require_device(name: str) -> None:
    """UsageError where a subject uses torch, which has no such device: what would fail with it is not to blame."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    try:
        torch.empty(0, device=name)
    except Exception as error:  # of several types, as the backends please
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(f"There is no device {name!r} here: {said}.") from None


def find_factory(named: Named, isolate: bool = False, limits: "Limits | None" = None) -> Factory:
    """The factory so named; UsageError where there is none.

    isolate: run it in a process of its own, within the limits, as every command is.
    """
    words = command_words(named)
    if words is not None or isolate:
        from parity.subjects.command import Command, serving
        from parity.subjects.process import Limits

        if words is not None:
            return Command(words, limits)
        if not isinstance(named, str):
            raise UsageError("Only a subject with a name, such as path/to/file.py:make, can have a process of its own.")
        split_name(named)
        return serving(named, limits or Limits())
    return imported(named) if isinstance(named, str) else named  # type: ignore[return-value]


def subject_name(named: Any) -> str:
    """What a factory, an instance or a command is called in a result: its name on the command line, if it has one."""
    words = command_words(named)
    if words is not None:
        return f"-- {shlex.join(words)}"
    if isinstance(named, str):
        return named
    if isinstance(getattr(named, "name", None), str):  # a factory that knows how it was named
        return named.name  # type: ignore[no-any-return]
    kind = named if hasattr(named, "__qualname__") else type(named)
    return f"{kind.__module__}:{kind.__qualname__}"


def is_command(named: Named) -> bool:
    """Whether a subject so named runs in a process of its own anyway."""
    return command_words(named) is not None


def command_words(named: Any) -> list[str] | None:
    """Of a command, its words; None for every other subject."""
    if isinstance(named, str) and named.startswith("-- "):
        try:
            named = shlex.split(named[3:])
        except ValueError as error:
            raise UsageError(f"The command {named[3:]!r} cannot be read: {error}.") from None
    if not isinstance(named, (list, tuple)):
        return None
    if not named or not all(isinstance(word, str) and word for word in named):
        raise UsageError("A subject that is a command needs at least its name, after --.")
    return list(named)


def has_given_sizes(subject: Any) -> bool:
    """Whether a subject says that it has but the size that it was made for; SubjectError for another word than that."""
    sizes = attribute(subject, "sizes")
    if not isinstance(sizes, str):  # a list of numbers, say, is the subject's own business
        return False
    if sizes != "given":
        raise SubjectError(f'The subject\'s sizes is {sizes!r}; it is to be "given", or missing.')
    return True


def require_methods(subject: Any) -> None:
    """SubjectError for something that is no subject."""
    for method in ("load", "train_step"):
        if not callable(attribute(subject, method)):
            raise SubjectError(f"The subject, of type {type(subject).__name__}, has no method {method}.")


def takes_keyword(factory: Named, name: str) -> bool:
    """Whether a factory, or the one so named, can be called with a keyword."""
    try:
        parameters = inspect.signature(find_factory(factory)).parameters.values()
    except (ValueError, TypeError):  # some callables of C have none
        return False
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def subject_dtype(subject: Subject) -> str:
    """The name of the number format that a subject computes in; SubjectError for one that is not known."""
    return _format_named(subject, "dtype", "float64")


def subject_format(subject: Subject) -> Format:
    """The number format that a subject computes in."""
    return FORMATS[subject_dtype(subject)]


def subject_storage(subject: Subject) -> Format | None:
    """The number format that a subject's weights and moments lie in; None where that is the one it computes in."""
    name = _format_named(subject, "storage", "")
    return None if name in ("", subject_dtype(subject)) else FORMATS[name]


def own_state(subject: Subject, config: Config, state: State) -> State:
    """A state as a subject can hold it: in its numbers, and with one matrix for lm_head and wte where they are one."""
    tensors = (subject_storage(subject) or subject_format(subject)).rounded(vectors(config, state))
    tensors = with_tied_head(config, tensors) if tied_head(subject) else tensors
    return listed_state(config, named_state(config, tensors, state.step))


def _format_named(subject: Subject, called: str, default: str) -> str:
    given = attribute(subject, called, default)
    name = default if given is None else str(given).removeprefix("torch.")
    if name != default and name not in FORMATS:
        raise SubjectError(f"The subject's {called} is {name!r}; it must be one of {', '.join(FORMATS)}.")
    return name


def train_step(subject: Subject, batch: list[list[int]], doing: str) -> Step:
    """The subject's step, read once; SubjectError where it raises, gives no Step back, or changes the documents."""
    given = [list(tokens) for tokens in batch]
    step = guarded(doing, subject.train_step, given)
    if given != batch:
        raise SubjectError(f"The subject's train_step changed the documents that it was given, in {doing}.")
    if step is None:
        raise SubjectError(f"The subject's train_step gave nothing back in {doing}.")
    fields = guarded(f"{doing}, reading its answer", _fields, step)
    if fields is None:
        raise SubjectError(f"The subject's train_step gave a {type(step).__name__} back in {doing}, not a Step.")
    return Step(**fields)


def _fields(step: Any) -> dict[str, Any] | None:
    """The fields of a Step, in containers that run no code of the subject's any more; None where it has none."""
    found = {name: getattr(step, name, NOTHING) for name in FIELDS}
    known = {name: value for name, value in found.items() if value is not NOTHING}
    return {name: _read(value) for name, value in known.items()} if known else None


def _read(value: Any) -> Any:
    """The same in dicts and lists, whatever kind of them makes its values only when it is asked."""
    if type(value) in (list, tuple, TensorViews) or isinstance(value, str):
        return value
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        return {name: _read(value[name]) for name in value.keys()}  # noqa: SIM118 - who has keys need not iterate
    return list(value) if isinstance(value, (Iterator, Sequence)) else value
