"""The pages in a real browser: quiet, without requests, at phone width, in the dark, on paper, and accessible."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parity import Case
from parity.page.evidence_page import evidence_page
from parity.page.stored import read
from tests.page.results import page, partly_right, ranks_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if BROWSER is None:
    pytest.skip("there is no browser here (Debian: apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright")

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PHONE, DESK, PAPER = ({"width": wide, "height": 900} for wide in (360, 1280, 718))
PAGES = ("partly", "passes", "ranks", "evidence")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With every page in a file."""
    made = tmp_path_factory.mktemp("pages")
    made.joinpath("partly.html").write_text(partly_right(), encoding="utf-8")
    made.joinpath("ranks.html").write_text(ranks_page(), encoding="utf-8")
    made.joinpath("passes.html").write_text(page(fails=False), encoding="utf-8")
    made.joinpath("evidence.html").write_text(evidence_page(read(RESULTS)), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # root has none
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, folder) -> Iterator[Any]:
    """Opens a page; afterwards it must have been quiet, and have asked for nothing but itself."""
    contexts, said, asked = [], [], []

    def open_page(name: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": DESK, **options}))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        file = folder / f"{name}.html"
        tab.goto(file.as_uri())
        assert asked == [file.as_uri()]
        asked.clear()
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert (said, asked) == ([], [])


def width_over(tab: Any) -> int:
    """By how many pixels a page is wider than its window."""
    return int(tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def brightness(tab: Any, what: str) -> float:
    colour = tab.evaluate(f"getComputedStyle(document.body).{what}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
    return sum(colour) / 3


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(opened, name):
    tab = opened(name, viewport=PHONE)
    assert width_over(tab) == 0
    for details in tab.query_selector_all("details"):
        details.evaluate("details => details.open = true")
    assert width_over(tab) == 0


def test_text_of_a_desk_is_no_wider_than_one_reads(opened):
    tab = opened("evidence", viewport={"width": 1600, "height": 900})
    assert tab.locator("#drift").bounding_box()["width"] < 1100
    assert tab.locator("#listing").bounding_box()["width"] > 1400


def test_wide_page_is_noticed(opened):
    tab = opened("passes", viewport=PHONE)
    tab.evaluate("document.querySelector('h1').style.width = '500px'")
    assert width_over(tab) > 100


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_is_as_dark_as_the_reader_wants(opened, scheme, dark):
    tab = opened("partly", color_scheme=scheme)
    assert (brightness(tab, "backgroundColor") < brightness(tab, "color")) == dark


@pytest.mark.parametrize("name", PAGES)
def test_page_is_printed_whole_and_without_what_needs_a_screen(opened, name):
    tab = opened(name, viewport=PAPER)
    tab.emulate_media(media="print")
    assert not tab.locator("nav.contents").is_visible()
    assert width_over(tab) == 0
    hidden = "[...document.querySelectorAll('section *')].filter(part => part.scrollHeight > part.clientHeight + 2"
    assert tab.evaluate(f"{hidden} && getComputedStyle(part).overflowY === 'auto').length") == 0


def test_switch_hides_what_rounding_explains(opened):
    tab = opened("partly")
    right, wrong = tab.locator(".chip.right"), tab.locator(".chip.origin")
    assert right.first.is_visible()
    tab.locator(".hide").first.check()
    assert not right.first.is_visible()
    assert wrong.first.is_visible()


def test_switch_hides_tensors_that_are_right_on_every_rank(opened):
    tab = opened("ranks")
    rows = tab.locator(".by-rank tbody tr")
    assert [rows.nth(place).is_visible() for place in range(3)] == [True, True, True]
    tab.locator(".hide").check()
    assert [rows.nth(place).is_visible() for place in range(3)] == [True, False, False]


def test_first_unexplained_is_jumped_to(opened):
    tab = opened("partly", viewport=PHONE)
    chip = tab.locator("#begins1")
    above = "chip => chip.getBoundingClientRect().top"
    assert chip.evaluate(above) > PHONE["height"]
    tab.get_by_text("Jump to the first unexplained").click()
    assert chip.evaluate("chip => chip.matches(':target')")
    tab.wait_for_timeout(1000)  # it scrolls smoothly
    assert 0 <= chip.evaluate(above) < PHONE["height"]


def test_smallest_case_is_saved_from_the_page(opened, tmp_path):
    tab = opened("partly")
    with tab.expect_download() as download:
        tab.locator("#case a").click()
    assert download.value.suggested_filename == "case.json"
    download.value.save_as(tmp_path / "case.json")
    assert Case.load(tmp_path / "case.json").steps == 1


def test_text_of_drawings_can_be_selected_and_lies_within_them(opened):
    tab = opened("evidence")
    tab.evaluate("getSelection().selectAllChildren(document.querySelector('svg.histogram'))")
    assert "limit 10.6" in tab.evaluate("getSelection().toString()")
    outside = tab.evaluate(
        "[...document.querySelectorAll('svg text')].filter(text => {"
        " const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();"
        " return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1"
        "}).map(text => text.textContent)"
    )
    assert outside == []


def test_links_lead_to_what_they_name(opened):
    for name in PAGES:
        tab = opened(name)
        dead = tab.evaluate(
            "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"
            ".filter(id => document.querySelectorAll('#' + id).length !== 1)"
        )
        assert dead == []


def test_both_listings_scroll_together(opened):
    tab = opened("evidence")
    row = tab.locator(".listing tr.told", has_text="attn.weights").first
    row.scroll_into_view_if_needed()
    left, right = (row.locator(".code").nth(side).bounding_box() for side in (0, 1))
    assert left["y"] == right["y"]
    before = row.evaluate("row => getComputedStyle(row).backgroundColor")
    row.hover()
    assert row.evaluate("row => getComputedStyle(row).backgroundColor") != before


FEW = """for (const parent of document.querySelectorAll('tbody, table, .bars, .strip ol, svg.model'))
    [...parent.children].slice(4).forEach(child => child.tagName === 'TFOOT' || child.remove())"""
"""One row of a kind is as accessible as the next, and axe takes its time with each."""


def serious(tab: Any, **options: Any) -> list[str]:
    """What axe finds: the rule, and the element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core comes with its package")
    tab.evaluate(FEW)
    found = axe.Axe().run(tab, options=options).response["violations"]
    faults = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {node['html'][:160]}" for fault in faults for node in fault["nodes"]]


@pytest.mark.parametrize("name", ["partly", "ranks", "evidence"])
def test_axe_finds_no_serious_fault(opened, name):
    tab = opened(name)
    assert not serious(tab)
    tab.emulate_media(color_scheme="dark")
    assert not serious(tab, runOnly=["color-contrast"])


def test_axe_notices_a_fault(opened):
    tab = opened("passes")
    tab.evaluate("document.querySelector('.lead').style.color = '#999'")
    assert [fault for fault in serious(tab, runOnly=["color-contrast"]) if 'class="lead"' in fault]
