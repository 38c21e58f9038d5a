"""A page of `parity help` on a terminal: Markdown laid out by rich, which takes a while to import."""

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown, MarkdownElement
from rich.theme import Theme
from typing_extensions import override

THEME = Theme({"markdown.code": "cyan", "markdown.h1": "bold", "markdown.h2": "bold", "markdown.h3": "bold cyan"})
"""Without backgrounds, which are made for dark terminals."""


class _Heading(Heading):
    """To the left, as all that is printed."""

    @override
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class Page(Markdown):
    """A page as wide as the terminal; addresses are printed, for not every terminal has links."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "heading_open": _Heading}

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme="ansi_dark", hyperlinks=False)
