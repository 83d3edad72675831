"""The page in a browser: Debian's Chromium, driven by Playwright, without a network."""

import os
import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from report_store import report_store

from report.contents import CONTENTS
from report.page import render_page, write_csv
from report.results import Results

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
READABLE = 4.5
"""The smallest contrast of text, WCAG 2.2 AA."""

CONTRAST = """element => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (/rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) {
    behind = behind.parentElement;
  }
  const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
  const [dark, light] = both.map(luminance).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}"""


MAX_DOWNLOADS = 8
"""Chromium ignores the eleventh download that a page starts within a few seconds."""


def chromium():
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"none of {', '.join(NAMES)} is here: CI has to install one")
    if found is None:
        pytest.skip("no browser: `apt-get install chromium`, or name one in CHROMIUM")
    return found


@pytest.fixture(scope="module")
def browser():
    # Chromium's own sandbox does not start as root, as in containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    executable = chromium()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    made = report_store(tmp_path_factory.mktemp("report"))
    key = made.member("on_test", 77, 2.0, protocol="published", macs=5_000_000, params=50_000)
    made.ensemble("mean", [key])
    results = Results.of(made.store, made.corpus)
    return [section(results) for section in CONTENTS]


@pytest.fixture(scope="module")
def address(sections, tmp_path_factory):
    place = tmp_path_factory.mktemp("page") / "report.html"
    place.write_text(render_page("Report on tau", "What it is about", sections, "How it was made"))
    return place.as_uri()


@pytest.fixture(scope="module")
def opened(browser, address):
    """Return a function that opens the page, waits for the charts, and notes errors and requests."""
    contexts = []

    def open_page(**settings):
        context = browser.new_context(offline=True, **({"viewport": WIDE} | settings))
        contexts.append(context)
        page = context.new_page()
        page.errors, page.requested = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-drawn=all]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page(opened):
    return opened(color_scheme="light")


@pytest.fixture(scope="module")
def board(page):
    return page.locator("#table-leaderboard")


def shown_rows(board):
    return board.locator("tbody tr:visible")


def test_it_opens_from_disk_without_errors_and_asks_for_nothing_else(page, address):
    assert page.errors == []
    local = [url for url in page.requested if not url.startswith(("data:", "blob:"))]
    assert local == [address]


def test_each_chart_is_drawn_with_marks(page, sections):
    charts = [figure.name for section in sections for figure in section.figures if figure.chart]
    assert len(charts) > 8
    for name in charts:
        drawing = page.locator(f'[data-chart="{name}"] svg')
        expect(drawing).to_have_count(1)
        assert drawing.bounding_box()["width"] > 300, name
        marks = drawing.locator("g[class*='role-mark'] > *:not([display=none])")
        assert marks.count() > 0, name


def test_a_click_on_a_header_sorts_and_another_reverses_the_order(page, board):
    header = board.get_by_role("columnheader", name="Log loss")
    for order, is_reverse in (("descending", True), ("ascending", False)):
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", order)
        column = header.evaluate("header => header.cellIndex")
        losses = [
            float(row.locator("th, td").nth(column).inner_text()) for row in board_rows(board)
        ]
        assert losses == sorted(losses, reverse=is_reverse)


def board_rows(board):
    return shown_rows(board).all()


def test_it_is_sorted_by_keyboard(page, board):
    header = board.get_by_role("columnheader", name="System")
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    names = [row.locator("th .kind").inner_text() for row in board_rows(board)]
    assert names == sorted(names)
    assert board.locator("th[aria-sort]").count() == 1


def test_unknown_values_are_sorted_last_in_both_orders(page, board):
    button = board.get_by_role("columnheader", name="MACs").get_by_role("button")
    for _ in range(2):
        button.click()
        figures = [row.locator("td").nth(5).inner_text() for row in board_rows(board)]
        assert figures[-1] == "–"
        assert figures == sorted(figures, key=lambda text: text == "–")


def test_systems_are_searched_and_filtered(page, board):
    form = page.locator('form[data-table="table-leaderboard"]')
    everything = shown_rows(board).count()
    form.get_by_role("searchbox").fill("demo_isotropic stepwise")
    expect(shown_rows(board)).to_have_count(2)
    expect(form.get_by_role("status")).to_have_text(f"2 of {everything}")
    form.get_by_role("combobox").select_option("25")
    expect(shown_rows(board)).to_have_count(1)
    form.get_by_role("checkbox", name="students").uncheck()
    expect(shown_rows(board)).to_have_count(0)
    form.get_by_role("checkbox", name="students").check()
    form.get_by_role("combobox").select_option("")
    form.get_by_role("searchbox").fill("")
    expect(shown_rows(board)).to_have_count(everything)


def test_each_figure_gives_the_csv_file_that_the_command_writes(page, sections, tmp_path):
    for n, place in enumerate(write_csv(sections, tmp_path)):
        if n % MAX_DOWNLOADS == MAX_DOWNLOADS - 1:
            page.reload()
        with page.expect_download() as download:
            page.locator(f'a[data-csv="{place.stem}"]').click()
        assert download.value.suggested_filename == place.name
        assert download.value.path().read_text() == place.read_text()


def test_the_numbers_of_a_chart_are_shown_as_a_table(page, sections):
    figure = next(f for s in sections for f in s.figures if f.name == "accuracy-by-split")
    details = page.locator('details[data-numbers="accuracy-by-split"]')
    details.locator("summary").click()
    expect(details.locator("tbody tr")).to_have_count(figure.table.num_rows)
    assert details.locator("th[scope=col]").count() == figure.table.num_columns


def test_systems_that_were_judged_on_test_are_red(page, board):
    marked = board.locator("tr", has_text="judged on test")
    expect(marked).to_have_count(2)
    colour = marked.first.locator("th").evaluate("each => getComputedStyle(each).color")
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    assert red > 2 * max(green, blue)


def test_a_keyboard_and_a_screen_reader_find_their_way(opened):
    page = opened()
    for role in ("banner", "navigation", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the results")
    for drawing in page.locator("[role=img]").all():
        assert len(drawing.get_attribute("aria-label")) > 20
    names = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(set(names)) == len(names)
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(opened, scheme):
    page = opened(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background)[:3])) < 100) == (scheme == "dark")
    for text in (
        "h1",
        ".lead",
        "nav a",
        "figcaption p",
        "a[data-csv]",
        "thead th",
        "th .details",
        "td",
        "td .muted",
        ".badge",
        ".card .what",
    ):
        contrast = page.locator(text).first.evaluate(CONTRAST)
        assert contrast >= READABLE, text


def test_a_button_changes_the_theme_and_the_charts_follow(opened):
    page = opened(color_scheme="light")
    label = page.locator(".chart svg text").first

    def colours():
        return (
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            label.evaluate("each => getComputedStyle(each).fill"),
        )

    light = colours()
    page.get_by_role("button", name="Dark theme").click()
    dark = colours()
    assert all(before != after for before, after in zip(light, dark, strict=True))
    page.get_by_role("button", name="Light theme").click()
    assert colours() == light


def test_a_phone_shows_it_without_scrolling_sideways(opened):
    page = opened(viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    frame = page.locator("#leaderboard .scroll")
    assert frame.evaluate("each => each.scrollWidth > each.clientWidth")


def test_in_print_it_is_light_and_whole_whatever_the_theme(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 33, 39)"
    for hidden in ("nav", "#theme", "form.filters", "a[data-csv]"):
        expect(page.locator(hidden).first).to_be_hidden()
    frame = page.locator("#leaderboard .scroll")
    assert frame.evaluate("each => getComputedStyle(each).overflow") == "visible"
    assert frame.evaluate("each => getComputedStyle(each).maxHeight") == "none"
