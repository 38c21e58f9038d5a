"""The pages of `parity help`: the Markdown files beside this one, with what they take from docstrings put in."""

import inspect
import re
import textwrap
from enum import Enum
from importlib.resources import files
from pkgutil import resolve_name
from typing import Any

TOPICS = {
    "model": "what the reference computes, in words and formulas",
    "subject": "what a subject in Python has, gives, may leave out",
    "module": "a torch.nn.Module: names, sites, loss=, autocast",
    "training": "any PyTorch training step, held to another one",
    "protocol": "a subject in any other language: its messages",
    "verdict": "what a check prints: z, would catch, a failure",
    "floor": "what rounding may do, its limits, the literature",
    "ci": "the gate in CI, and checks in your own tests",
    "campaigns": "very many comparisons, on this machine or a cluster",
    "accept": "an intended change in a gate, from accepting to merging",
    "python": "the Python interface, from its docstrings",
    "evidence": "what was measured, and how to repeat it",
}
"""What each page is about, by topic; the file is help/TOPIC.md."""

_FROM = re.compile(r"<!-- from (.*?) -->\n.*?<!-- end -->", re.DOTALL)
"""Between the marks stands what a reader of the file is told instead."""
_WITHIN = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")
"""Links within the repository, which an installed package does not have."""
_ITEM = re.compile(r"(?:^|(?<=\. ))([a-z_]\w*(?:(?:,| and) [a-z_]\w*)*)( \(.*?\))?: ")
"""How a sentence of a docstring begins to say what some parameters or fields are."""
_WIDTH = 110


def page(topic: str) -> str:
    """A page as Markdown, whole. Raises KeyError where there is none."""
    if topic not in TOPICS:
        raise KeyError(topic)
    text = (files("parity.cli") / "help" / f"{topic}.md").read_text(encoding="utf-8")
    text = _WITHIN.sub(r"\1", _FROM.sub(lambda found: "\n\n".join(map(_taken, found[1].split())), text))
    return re.sub(r"<!-- \w+ -->\n", "", text)


def _taken(name: str) -> str:
    """A text of that name, such as parity.training:Training, or else the docstring of what bears it, as Markdown."""
    found = resolve_name(name)
    if isinstance(found, str):
        return found.strip()
    title = name.replace(":", ".")
    parts = [f"### {title}", *_signature(title.rpartition(".")[2], found), _as_markdown(inspect.getdoc(found) or "")]
    return "\n\n".join(parts)


def _signature(name: str, found: Any) -> list[str]:
    """How something is called, where that is to be said; types are left to the text."""
    called = callable(found) and not getattr(found, "_is_protocol", False)
    if not called or (inspect.isclass(found) and issubclass(found, Enum | Exception)):
        return []
    signature, empty = inspect.signature(found), inspect.Signature.empty
    parameters = [p.replace(annotation=empty) for p in signature.parameters.values() if p.name != "self"]
    plain = str(signature.replace(parameters=parameters, return_annotation=empty))
    plain = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", plain)
    return [f"```python\n{textwrap.fill(name + plain, _WIDTH, subsequent_indent='    ')}\n```"]


def _as_markdown(docstring: str) -> str:
    """A docstring with items for what it says of parameters, and its indented lines kept as they are."""
    shown = []
    for paragraph in re.split(r"\n\n+", docstring):
        if all(line.startswith("    ") for line in paragraph.splitlines()):
            paragraph = f"```\n{textwrap.dedent(paragraph)}\n```"
        elif _ITEM.match(paragraph):
            items = _ITEM.sub(r"\n- **\1**\2: ", " ".join(paragraph.split())).strip().splitlines()
            paragraph = "\n".join(textwrap.fill(item.strip(), _WIDTH, subsequent_indent="  ") for item in items)
        shown.append(paragraph)
    return "\n\n".join(shown)
