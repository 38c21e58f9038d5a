"""Pictures for the project's front page: the ladder, drawn of its stored result, and a red check's page.

    python -m benchmarks.pictures [FOLDER]

FOLDER: another one than the results', for the pictures that need no browser alone.
The ladder in light and dark as SVG; the page of the twin whose scores are not scaled, as a browser that is there shows
it: its verdict, the first element outside, and where in the model that begins.
"""

import json
import math
import shutil
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from parity.files import write_whole
from parity.page.ladder_view import times
from parity.page.tables import LogAxis

RESULTS = Path(__file__).parent / "results"
PICTURES = RESULTS / "pictures"
SCHEMES = ("light", "dark")
COLOURS = {
    "light": ("#1c1c20", "#5a5a63", "#d5d1c6", "#0072b2", "#d55e00", "#ffffff"),
    "dark": ("#ececf0", "#acacb6", "#3d3d47", "#56b4e9", "#f58433", "#0d1117"),
}
"""Of text, of text that matters less, of lines, bars, dots and their edges: those of the pages."""
WIDTH, LEFT, RIGHT, TOP, ROW = 840, 250, 768, 82, 23
HEIGHT = 1015
"""Of a page's picture."""

TELLING = """
for (const part of document.querySelectorAll('nav.contents, .strip, .switch, #mode1 details'))
    part.remove();
for (const part of document.querySelectorAll('#mode1 h3'))
    if (/Right and wrong/.test(part.textContent)) {
        if (part.nextElementSibling?.tagName === 'P') part.nextElementSibling.remove();
        part.remove();
    }
document.querySelector('#mode1 .located').prepend(document.querySelector('#mistake .diff'));
document.querySelector('#mode1 .located .diff').style.gridColumn = '1 / -1';
for (const section of document.querySelectorAll('section:not(#mode1), footer')) section.remove();
"""
"""Leaves what a front page has room for: the verdict, the first elements outside, the line, the model and the map."""


def ladder(rungs: list[dict[str, Any]], scheme: str) -> str:
    """The rungs that were timed, as SVG: a bar for a document in the best batch, a dot for a step of one document."""
    ink, soft, line, blue, orange, edge = COLOURS[scheme]
    timed = [rung for rung in rungs if rung["timing"]]
    axis = LogAxis(0, math.log10(1.2 * max(ratio for rung in timed for ratio in rung["speed_up_over_reference"])))
    bottom = TOP + ROW * len(timed)

    def x(ratio: float) -> float:
        return round(LEFT + axis.place(ratio) * (RIGHT - LEFT) / 100, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 12}" width="{WIDTH}" '
        f'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif" font-size="13.5" fill="{ink}">',
        "<title>How many times as fast as 200 lines of pure Python, of what computes the same function</title>",
        '<text x="0" y="16" font-size="15" font-weight="650">Times as fast as 200 lines of Python, at parity</text>',
        f'<rect x="{LEFT}" y="30" width="18" height="12" rx="2" fill="{blue}"/>'
        f'<text x="{LEFT + 25}" y="41" font-size="12.5">a document, in the best batch</text>'
        f'<circle cx="{LEFT + 236}" cy="36" r="5" fill="{orange}"/>'
        f'<text x="{LEFT + 247}" y="41" font-size="12.5">a step of one document</text>',
    ]
    for place, text in axis.ticks:
        at = round(LEFT + place * (RIGHT - LEFT) / 100, 1)
        parts.append(
            f'<text x="{at:g}" y="{TOP - 12}" text-anchor="middle" font-size="12" fill="{soft}">{text}</text>'
            f'<path d="M{at:g} {TOP - 4}V{bottom}" stroke="{line}"/>'
        )
    for number, rung in enumerate(timed):
        step, document = rung["speed_up_over_reference"]
        middle = TOP + ROW * number + ROW // 2
        parts.append(
            f'<text x="0" y="{middle + 5}">{escape(rung["technique"])}</text>'
            f'<rect x="{LEFT}" y="{middle - 6}" width="{x(document) - LEFT:g}" height="12" rx="2" fill="{blue}"/>'
            f'<circle cx="{x(step):g}" cy="{middle}" r="5.5" fill="{orange}" '
            f'stroke="{edge}" stroke-width="1.5"/>'
            f'<text x="{WIDTH}" y="{middle + 5}" text-anchor="end">{times(document)}×</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def red_check() -> str:
    """The page of a check that found one mistake."""
    from parity.catalogue.naming import name_mistakes
    from parity.judging.checking import check
    from parity.page.result_page import result_page
    from tests.faults import planted

    with planted((" / config.head_dim**0.5 for k_heads", " for k_heads")) as make:
        result = check(make, probes=False)
        name_mistakes(result, lambda case: check(make, case, probes=False, modes=["lock-step"]), seconds=120)
    result.subject = "my_port.py:make"
    return result_page(result.to_dict(), ["parity", "check", "my_port.py:make", "--html", "page.html"])


def take(browser: Any, page: str, name: str, scheme: str) -> None:
    """A picture of the top of a page, as far as it tells most."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        tab = browser.new_page(viewport={"width": 980, "height": HEIGHT}, color_scheme=scheme)
        tab.goto(file.as_uri())
        tab.evaluate(TELLING)
        tab.screenshot(path=PICTURES / f"{name}-{scheme}.png")
        tab.close()


def draw(folder: Path) -> None:
    """The pictures that need no browser."""
    rungs = json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    for scheme in SCHEMES:
        write_whole(folder / f"ladder-{scheme}.svg", ladder(rungs, scheme))


def main() -> None:
    if sys.argv[1:]:
        draw(Path(sys.argv[1]))
        return
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no browser here (Debian: apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    draw(PICTURES)
    red = red_check()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in SCHEMES:
            take(browser, red, "red-check", scheme)
        browser.close()


if __name__ == "__main__":
    main()
