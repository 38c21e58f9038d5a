"""Subjects that are broken, each in a way of its own, and what is said of it."""

from typing import NamedTuple

PRELUDE = """\
import collections, os, sys, threading
from parity import Step
from parity.oracle.python_reference import Reference

class Port(Reference):
    def answer(self, batch):
        return super().train_step(batch)

"""
"""What the file of each begins with; the rest is a subject `Broken`, or a `make` of its own."""


class Broken(NamedTuple):
    """The source of a subject, what is said, in essence, and the words besides that the check is called with."""

    source: str
    said: str
    words: str = ""

    def __str__(self) -> str:
        return " ".join(self.source.split())[:70].encode("ascii", "backslashreplace").decode()

    @property
    def text(self) -> str:
        """The whole file."""
        return PRELUDE + self.source + ("" if "make" in self.source else "\n\nmake = Broken\n")


def step(body: str, said: str, words: str = "") -> Broken:
    """One whose train_step is broken; what it would have answered is `answer`."""
    lines = ["answer = self.answer(batch)", *body.split("\n"), "return answer"]
    source = "class Broken(Port):\n    def train_step(self, batch):\n" + "".join(f"        {line}\n" for line in lines)
    return Broken(source, said, words)


def having(body: str, said: str) -> Broken:
    """One with something broken about it."""
    return Broken(
        f"class Broken(Port):\n    {body}\n    def train_step(self, batch): return self.answer(batch)\n", said
    )


def property_that_raises(name: str, setter: str = "") -> str:
    return f"{name} = property(lambda self: 1 / 0{setter})"


DIVIDED = "The subject raised ZeroDivisionError: division by zero (broken.py, line "

BROKEN = (
    # The file, and making the subject.
    Broken("import nothing_of_the_kind  # make", "The subject raised ModuleNotFoundError: No module named 'nothing"),
    Broken("def make(:", "The subject raised SyntaxError: "),
    Broken("1 / 0  # make", DIVIDED),
    Broken(
        "raise SystemExit(0)  # make", "The subject raised SystemExit: 0 (broken.py, line 9) in importing broken.py."
    ),
    Broken("os._exit(0)  # make", "The subject called os._exit(0) (broken.py, line 9) in importing broken.py."),
    Broken("def __getattr__(name): 1 / 0  # make", DIVIDED),
    Broken("def make(config, hyper): os._exit(0)", "The subject called os._exit(0) (broken.py, line 9) in making it."),
    Broken("def make(config, hyper): sys.exit()", "The subject raised SystemExit (broken.py, line 9) in making it."),
    Broken("def make(config): return config", "The subject raised TypeError: make() takes 1 positional argument but 2"),
    Broken("def make(config, hyper): return None", "The subject, of type NoneType, has no method load."),
    Broken("def make(config, hyper): return Reference", "in load before step 0."),
    Broken("def make(config, hyper): return collections.deque()", "of type deque, has no method load."),
    Broken("def make(config, hyper):\n    while True: pass", "did not answer within 0.2 s", "--time-limit 0.2"),
    Broken(
        "def make(config, hyper):\n    return make(config, hyper)", "raised RecursionError: maximum recursion depth"
    ),
    # What it has.
    having(property_that_raises("forward_only"), f"{DIVIDED}10) in its forward_only."),
    having(property_that_raises("expose_sites", ", print"), f"{DIVIDED}10) in its expose_sites."),
    Broken(
        "class Broken:\n    def __init__(self, *model): pass\n    load = train_step = print\n"
        "    expose_sites = property(lambda self: True)",
        " has no setter in setting its expose_sites.",
    ),
    having(property_that_raises("dtype"), f"{DIVIDED}10) in its dtype."),
    having(property_that_raises("storage"), f"{DIVIDED}10) in its storage."),
    having(property_that_raises("sizes"), f"{DIVIDED}10) in its sizes."),
    having(property_that_raises("not_exercised"), f"{DIVIDED}10) in its not_exercised."),
    having(property_that_raises("load"), f"{DIVIDED}10) in its load."),
    having("dtype = 'float7'", "The subject's dtype is 'float7'; it must be one of float64, float32,"),
    having("storage = 'paper'", "The subject's storage is 'paper'"),
    having("sizes = 'some'", "The subject's sizes is 'some'; it is to be \"given\", or missing."),
    having("not_exercised = 3", "The subject's not_exercised is 3, and is to be a list of strings."),
    having("load = None", "has no method load."),
    having("def load(self, state): raise OSError('gone')", "OSError: gone (broken.py, line 10) in load before step 0."),
    having("def load(self, state): os._exit(0)", "The subject called os._exit(0) (broken.py, line 10) in load before"),
    # A step that does not end as one.
    step("1 / 0", f"{DIVIDED}12) in step 0."),
    step("raise BaseException('enough')", "The subject raised BaseException: enough (broken.py, line 12) in step 0."),
    step("raise ValueError('one\\n\\ntwo')", "The subject raised ValueError: one two (broken.py, line 12) in step 0."),
    step("raise ValueError('\\udcff')", "The subject raised ValueError: \\udcff (broken.py, line 12) in step 0."),
    step(
        "class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute", "The subject raised Mute (broken.py, line"
    ),
    step("raise MemoryError", "The subject raised MemoryError (broken.py, line 12) in step 0."),
    step("sys.exit(0)", "The subject raised SystemExit: 0 (broken.py, line 12) in step 0."),
    step("os._exit(0)", "The subject called os._exit(0) (broken.py, line 12) in step 0."),
    step("try: os._exit(0)\nexcept BaseException: pass", "The subject called os._exit(0) in step 0."),
    step(
        "away = threading.Thread(target=os._exit, args=(0,))\naway.start(); away.join()",
        "called os._exit(0) in step 0.",
    ),
    Broken(
        "from os import _exit\nclass Broken(Port):\n    def train_step(self, batch): _exit(0)",
        "The subject called os._exit(0) (broken.py, line 11) in step 0.",
    ),
    step("while True: pass", "The subject did not answer within 0.2 s (broken.py, line 12)", "--time-limit 0.2"),
    step(
        "for _ in range(2):\n    try:\n        while True: pass\n    except BaseException: pass\nwhile True: pass",
        "The subject did not answer within 0.2 s (broken.py, line ",
        "--time-limit 0.2",
    ),
    step("import pickle; pickle.dumps(lambda: 3)", "raised "),
    # A step that answers with something else.
    step("answer = None", "The subject's train_step gave nothing back in step 0."),
    step("answer = 3", "The subject's train_step gave a int back in step 0, not a Step."),
    step("batch.append(batch[0])", "changed the documents that it was given, in step 0."),
    step("answer = type('Lazy', (), {'loss': property(lambda self: 1 / 0)})()", "in step 0, reading its answer."),
    step("answer.grads = type('Lazy', (dict,), {'__getitem__': lambda s, k: 1 / 0})(answer.grads)", DIVIDED),
    step("answer.grads = type('Lazy', (collections.UserDict,), {'__iter__': lambda s: 1 / 0})(answer.grads)", DIVIDED),
    step("answer.logits = type('Lazy', (list,), {'__iter__': lambda s: 1 / 0})()", "in step 0, reading its answer."),
    step("answer.m = type('Lazy', (list,), {'__len__': lambda s: 1 / 0})()", "in step 0, reading its answer."),
    step("answer.logits = (1 / 0 for _ in batch)", "in step 0, reading its answer."),
    step(
        "answer.grads = list(answer.grads.values())",
        "The subject's grads must be a dict from name to values, not list.",
    ),
    step("answer.grads['bias'] = [[0.0]]", "have the unknown bias"),
    step("answer.grads['wte'] = answer.grads['wte'][1:]", "have the shape ("),
    step("answer.grads['wte'] = 'four'", "The subject's grads, wte, are not numbers but <U4."),
    step("answer.grads['wte'] = [[None]]", "The subject's grads, wte, are not numbers but object."),
    step("answer.grads['wte'] = [[1.0], [1.0, 2.0]]", "The subject's grads, wte, cannot be read as numbers: "),
    step("answer.grads['wte'] = [[1j]]", "The subject's grads, wte, are not numbers but complex128."),
    step("answer.grads['wte'] = iter([])", "The subject's grads, wte, have the shape (0,), expected ("),
    step("answer.grads['wte'] = {'row': 3}", "The subject's grads, wte, are not numbers but object."),
    step(
        "answer.grads['wte'] = type('A', (), {'__array__': lambda *a, **k: 1 / 0})()", "cannot be read as numbers: div"
    ),
    step(
        "answer.grads['wte'] = type('T', (), {'detach': lambda s: 1 / 0})()", "cannot be read as numbers: division by"
    ),
    step("answer.loss = 10**400", "The subject's loss, loss, are not numbers but object."),
    step("answer.loss = [answer.loss]", "has the shape (1,), expected a single number."),
    step("answer.logits = 3", "cannot be read as a Step"),
    step("answer.logits = []", "The subject's logits"),
    step(
        "answer.m = None if self.state.step > 1 else answer.m", "The subject exposes m at some steps and not at others"
    ),
)

ISOLATED = (
    step("os.abort()", "The subject was killed by SIGABRT in step 0", "--isolate"),
    step("import ctypes; ctypes.CDLL(None).exit(0)", "The subject left with exit status 0 in step 0", "--isolate"),
)
"""In a process of its own even those that end it from outside of Python are found out."""
