"""The pages in a real browser: sorting, sliders, zoom, keys, phone width, both colour schemes, nothing loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import NEEDS_BROWSER, all_of, contrast, find, look, luminance, start, wait_for, webdriver
from PIL import Image
from selenium.webdriver.common.keys import Keys
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.evaluation.rows import Row, append_row
from restorevar.evaluation.study import Key

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """At rest before each test; afterwards it must have complained of nothing and fetched nothing."""
    look(chromium)
    chromium.get_log("browser")
    yield chromium
    assert chromium.get_log("browser") == []
    fetched = chromium.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith("data:") for name in fetched)


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


def save(path: Path, tone: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:200, 0:300]
    Image.fromarray(np.stack([x % 256 // 2 + tone, y // 2 + tone, x * 0 + tone], -1).astype(np.uint8)).save(path)
    return path


# ------------------------------------------------------------------------------------------------------ report


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """Two methods on two data sets of four images."""
    folder, rng = tmp_path_factory.mktemp("report"), np.random.default_rng(0)
    plain = Row("compact", "ab", {}, "saved-8bit", "", "haze", "", "", None, None, {}, {})
    for dataset in ("first", "second"):
        for i in range(4):
            given = save(folder / "input" / f"{i}.png", 100)
            for method, plus, tone in (("compact", 4.0, 20), ("other", 2.0, 60)):
                output = save(folder / method / f"{i}.png", tone)
                scores = {"psnr": 20 + plus + float(rng.normal()), "ssim": 0.8}
                done = replace(plain, method=method, dataset=dataset, image=f"{i}.png", input=str(given))
                append_row(
                    folder / "rows.jsonl",
                    replace(done, output=str(output), scores=scores, before={"psnr": 20.0, "ssim": 0.7}),
                )
    run("report", folder / "rows.jsonl", "-o", folder / "report.html", "--gallery", "2")
    return (folder / "report.html").as_uri()


def column(driver, table, index):
    """Texts of the lines that have figures."""
    rows = all_of(driver, f"{table} tbody:first-of-type tr:not(.group, .open)")
    return [row.find_elements("css selector", "th,td")[index].text for row in rows]


def test_tables_sort_by_click_and_by_key(browser, report):
    browser.get(report)
    table = "#table-6"
    before = column(browser, table, 0)
    heading = all_of(browser, f"{table} thead tr:last-child th")[2]  # seconds, the lower the better
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(browser, table, 2) == ["0.023", "0.024", "0.117", "0.162", "0.188"]
    assert column(browser, table, 0)[:2] == ["InstructIR", "DCPT"]
    button = heading.find_element("css selector", "button")
    button.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending" and column(browser, table, 2)[0] == "0.188"
    button.send_keys(Keys.SPACE)
    assert heading.get_attribute("aria-sort") is None and column(browser, table, 0) == before


def test_groups_are_sorted_by_themselves(browser, report):
    browser.get(report)
    all_of(browser, "#table-1 thead tr:last-child th")[1].find_element("css selector", "button").click()
    bodies = all_of(browser, "#table-1 tbody")
    labels = [
        [row.text.splitlines()[0].split()[0] for row in b.find_elements("css selector", "tr.paper")] for b in bodies
    ]
    assert labels[0][:2] == ["PromptIR", "DFPIR"] and labels[1][:2] == ["RestoreVAR", "AutoDIR"]
    assert bodies[0].find_element("css selector", "tr").get_attribute("class") == "group"


def test_a_slider_parts_the_pictures(browser, report):
    browser.get(report)
    figure = find(browser, "figure.compare")
    slider, after = (figure.find_element("css selector", s) for s in ("input[type=range]", "img.after:not([hidden])"))

    def clip():
        return after.value_of_css_property("clip-path")

    assert clip() == "inset(0px 0px 0px 50%)"
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    assert slider.get_attribute("value") == "53" and clip() == "inset(0px 0px 0px 53%)"
    slider.send_keys(Keys.HOME)
    assert clip() == "inset(0px 0px 0px 0%)"
    box = slider.rect
    webdriver.ActionChains(browser).move_to_element(slider).click_and_hold().move_by_offset(
        round(box["width"] / 4), 0
    ).release().perform()
    assert 70 <= int(slider.get_attribute("value")) <= 80
    shown = all_of(browser, "figure.compare:first-of-type img")
    assert all(browser.execute_script("return arguments[0].naturalWidth", image) == 300 for image in shown)


def test_the_picture_on_top_can_be_chosen(browser, report):
    browser.get(report)
    figure = find(browser, "figure.compare")
    choice = figure.find_element("css selector", "select")

    def visible():
        return [image.get_attribute("alt") for image in figure.find_elements("css selector", ".after:not([hidden])")]

    assert visible() == ["compact"]
    choice.send_keys(Keys.ARROW_DOWN)
    assert visible() == ["other"]


def test_enlarged_pictures_zoom_by_button_and_key(browser, report):
    browser.get(report)
    enlarge = find(browser, "figure.compare .enlarge")
    enlarge.send_keys(Keys.ENTER)
    dialog = find(browser, "dialog.viewer")
    wait_for(lambda: dialog.get_attribute("open") and "%" in dialog.find_element("css selector", "output").text)
    stack, told = (dialog.find_element("css selector", s) for s in (".stack", "output"))
    wait_for(lambda: browser.switch_to.active_element.get_attribute("type") == "range")
    fitted = stack.rect["width"]
    assert fitted > 600 and browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.switch_to.active_element.send_keys("+")
    assert (
        stack.rect["width"] == pytest.approx(1.5 * fitted, rel=0.01) and told.text == f"{stack.rect['width'] / 3:.0f} %"
    )
    field = dialog.find_element("css selector", ".field")
    assert browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", field)
    dialog.find_element("css selector", "[aria-label='smaller']").click()
    assert stack.rect["width"] == pytest.approx(fitted, rel=0.01)
    title = dialog.find_element("css selector", "strong")
    assert title.text.endswith("degraded input | compact")
    browser.switch_to.active_element.send_keys(Keys.PAGE_DOWN)
    assert title.text.endswith("| other")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for(lambda: not dialog.get_attribute("open"))
    assert browser.switch_to.active_element == enlarge


# ------------------------------------------------------------------------------------------- width and colours


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A page for two methods and three photos; its key beside it."""
    folder = tmp_path_factory.mktemp("study")
    for method, tone in (("input", 100), ("mine", 20), ("yours", 60)):
        for i, name in enumerate("abc"):
            save(folder / method / f"{name}.png", tone + 5 * i)
    methods = [f"{name}={folder / name}" for name in ("mine", "yours")]
    run("study", "make", *methods, "--input", folder / "input", "-o", folder / "page.html", "--seed", "1")
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_pages_fit_and_can_be_read(browser, report, study, scheme, width):
    look(browser, width, 740, scheme)
    for page in (report, study.as_uri()):
        browser.get(page)
        if page != report:
            enter(browser, study, "width")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        paper = luminance(find(browser, "body").value_of_css_property("background-color"))
        assert paper > 0.9 if scheme == "light" else paper < 0.05
        for selector in (
            "body",
            ".caption",
            "a",
            "td.remedy",
            "tr.paper td",
            "td.best",
            "legend",
            ".ends",
            "button.main",
        ):
            for node in all_of(browser, selector)[:1]:
                assert contrast(browser, node) >= 4.5, selector


# ------------------------------------------------------------------------------------------------------- study


def enter(driver, page: Path, rater: str) -> None:
    driver.get(page.as_uri())
    find(driver, "#rater").clear()
    find(driver, "#rater").send_keys(rater, Keys.ENTER)


def rate(driver, points) -> None:
    """`points(place)` for every criterion of every picture on the page."""
    for place, article in enumerate(all_of(driver, "article.rated")):
        for scale in article.find_elements("css selector", ".scale"):
            scale.find_elements("css selector", "input")[points(place) - 1].click()


def test_a_study_from_the_page_to_the_tables(browser, study, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    enter(browser, study, "Ann Ö.")
    assert find(browser, "#place").text == "0 of 3 rated" and len(all_of(browser, "article.rated.open")) == 2
    rate(browser, lambda place: 5 - place)
    assert find(browser, "#place").text == "1 of 3 rated" and not all_of(browser, "article.rated.open")
    find(browser, "#next").send_keys(Keys.ENTER)
    first = find(browser, "article.rated input")
    first.send_keys(Keys.SPACE)  # by keys alone: 1, and two further
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT * 2)
    order = shown(browser)

    # The browser is closed and opened again. What is stored reaches the next page a moment later, on a busy machine.
    def remembers() -> bool:
        browser.get(study.as_uri())
        return find(browser, "#rater").get_attribute("value") == "Ann Ö."

    wait_for(remembers)
    find(browser, "#rater").send_keys(Keys.ENTER)
    assert find(browser, "#place").text == "1 of 3 rated" and shown(browser) == order
    checked = all_of(browser, "article.rated input:checked")
    assert [node.get_attribute("value") for node in checked] == ["3"]
    rate(browser, lambda place: 5 - place)
    find(browser, "#further").click()
    rate(browser, lambda place: 5 - place)
    assert "All rated" in find(browser, "#left").text
    find(browser, "#download").click()
    file = tmp_path / "ratings-Ann_Ö_.json"
    wait_for(file.exists)
    run("study", "analyze", file, "--key", study.with_suffix(".key.json"), "--json", tmp_path / "a.json")
    means = json.loads((tmp_path / "a.json").read_text())["means"]
    key = Key.read(study.with_suffix(".key.json"))
    for method in ("mine", "yours"):
        expected = np.mean([5 - list(q.order).index(method) for q in key.questions])
        assert means[method]["all"]["mean"] == pytest.approx(expected), method


def shown(driver) -> list[str]:
    return [image.get_attribute("src") for image in all_of(driver, "#question img")]


def test_every_rater_has_an_own_order_and_own_ratings(browser, study):
    orders = set()
    for rater in ("r1", "r2", "r3", "r4", "r5", "r6"):
        enter(browser, study, rater)
        assert find(browser, "#place").text == "0 of 3 rated"
        orders.add(shown(browser)[0])  # the original of the first question
    assert len(orders) > 1


def test_pictures_of_a_study_open_large(browser, study):
    enter(browser, study, "zoom")
    all_of(browser, "button.picture")[2].send_keys(Keys.ENTER)
    dialog = find(browser, "dialog.viewer")
    wait_for(lambda: dialog.get_attribute("open"))
    assert dialog.find_element("css selector", "strong").text == "original | picture B"
    wait_for(lambda: browser.switch_to.active_element.get_attribute("type") == "range")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT * 10)
    clip = dialog.find_element("css selector", ".after").value_of_css_property("clip-path")
    assert clip == "inset(0px 0px 0px 10%)"
