"""Pictures for the project's front page, taken of the pages themselves in a browser that is there.

    python -m benchmarks.pictures

The ladder in light and dark, and the top of a red check's page: the twin whose scores are not scaled.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from parity.catalogue.naming import name_mistakes
from parity.judging.checking import check
from parity.page.evidence_page import evidence_page
from parity.page.result_page import result_page
from parity.page.stored import read
from tests.faults import planted

RESULTS = Path(__file__).parent / "results"
PICTURES = RESULTS / "pictures"
WIDTH = 860
ONE_CHART = """
document.querySelectorAll('#ladder > *').forEach((part, place) => place < 4 || part.remove());
document.body.replaceChildren(document.querySelector('#ladder'));
document.querySelector('#ladder').style.margin = 0;
"""
"""The heading, what it says, and the first chart."""


def red_check() -> str:
    with planted((" / config.head_dim**0.5 for k_heads", " for k_heads")) as make:
        result = check(make, probes=False)
        name_mistakes(result, lambda case: check(make, case, probes=False, modes=["lock-step"]), seconds=120)
    result.subject = "my_port.py:make"
    return result_page(result.to_dict(), ["parity", "check", "my_port.py:make", "--html", "page.html"])


def take(browser: Browser, page: str, name: str, *, scheme: str, part: str, script: str = "", height: int = 0) -> None:
    """A picture of a part of a page, or of so many pixels from its top."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        tab = browser.new_page(viewport={"width": WIDTH, "height": height or 900}, color_scheme=scheme)
        tab.goto(file.as_uri())
        if script:
            tab.evaluate(script)
        PICTURES.mkdir(exist_ok=True)
        (tab if height else tab.locator(part)).screenshot(path=PICTURES / f"{name}.png")
        tab.close()


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no browser here (Debian: apt-get install chromium).")
    evidence, red = evidence_page(read(RESULTS)), red_check()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            take(browser, evidence, f"ladder-{scheme}", scheme=scheme, part="#ladder", script=ONE_CHART)
        take(browser, red, "red-check", scheme="light", part="body", height=1000)
        browser.close()


if __name__ == "__main__":
    main()
