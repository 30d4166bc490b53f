"""The web page in a real browser: photos in, results out, by mouse and by keys, at all widths, for two people at once.

Nothing may be asked of anybody but the service, and the browser may complain of nothing.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from browsing import NEEDS_BROWSER, all_of, contrast, find, look, luminance, start, wait_for, webdriver
from conftest import tiny_model
from PIL import Image, ImageCms
from selenium.webdriver.common.keys import Keys

pytest.importorskip("gradio", reason="the extra [serve] is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

from fastapi import FastAPI  # noqa: E402

from restorevar.pipeline import MARGIN, Restorer  # noqa: E402
from restorevar.serving.engine import Engine, Limits  # noqa: E402
from restorevar.serving.page import mount_page  # noqa: E402

pytestmark = [NEEDS_BROWSER, pytest.mark.filterwarnings("ignore:::gradio")]

WAIT = 30
#: Photos of this height take their time, so that one can look at what happens meanwhile; those of that one are clean.
SLOW, CLEAN = 80, 72


def diagnose(photo: Any) -> Any:
    seen = () if photo.rgb.shape[0] == CLEAN else ("haze",)
    strengths = {"haze": 0.8 if seen else 0.0, "rain": 0.1, "snow": 0.0, "lowlight": 0.0, "blur": 0.0}
    return SimpleNamespace(strengths=strengths, seen=seen, needs_nothing=not seen, sentence="")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    model = tiny_model()
    restore = model.restore

    def restore_slowly(images: torch.Tensor, **options: Any) -> torch.Tensor:
        tell = options.get("on_scale")
        if tell is not None and images.shape[2] == SLOW + 2 * MARGIN:

            def tell_slowly(event: Any) -> None:
                time.sleep(0.4)
                tell(event)

            options["on_scale"] = tell_slowly
        return restore(images, **options)

    model.restore = restore_slowly  # type: ignore[method-assign]
    with Engine(Restorer(model, device="cpu", dtype="fp32"), Limits(bytes=1 << 20), diagnose) as engine:
        yield engine


@pytest.fixture(scope="module")
def app(engine: Engine) -> FastAPI:
    return mount_page(FastAPI(), engine)


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        wait_for(lambda: server.started, WAIT)
        yield f"http://127.0.0.1:{door.getsockname()[1]}/"
        server.should_exit = True
        thread.join(WAIT)
    assert not app.state.visits.root.exists()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start(tmp_path_factory.mktemp("profile"), performance="ALL")
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page, newly opened in a tab of its own."""
    chromium.get_log("browser")
    chromium.get_log("performance")
    first = chromium.current_window_handle
    chromium.switch_to.new_window("tab")
    visit(chromium, address)
    yield chromium
    for handle in chromium.window_handles:
        if handle != first:
            chromium.switch_to.window(handle)
            chromium.close()
    chromium.switch_to.window(first)
    assert chromium.get_log("browser") == []
    assert [url for url in requests(chromium) if not url.startswith((address, "data:", "blob:", "about:"))] == []


def visit(driver: Any, address: str) -> None:
    look(driver)
    driver.get(address)
    wait_for(lambda: driver.execute_script("return Boolean(sessionStorage.getItem('restorevar-visit'))"), WAIT)


def requests(driver: Any) -> list[str]:
    """Addresses that the browser has asked for since it was last asked."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def photo(path: Path, width: int = 96, height: int = 64, tone: int = 0, **options: Any) -> Path:
    y, x = np.mgrid[0:height, 0:width]
    Image.fromarray(np.stack([x + tone, y + tone, 0 * x + tone], -1).astype(np.uint8)).save(path, **options)
    return path


def send(driver: Any, *paths: Path) -> None:
    field = next(node for node in all_of(driver, "input.files") if node.find_element("xpath", "..").is_displayed())
    field.send_keys("\n".join(map(str, paths)))


def state(driver: Any) -> str:
    return find(driver, "#panel").get_attribute("data-state")


def sentence(driver: Any) -> str:
    return find(driver, "#panel .sentence").text


def wait_until_done(driver: Any) -> None:
    wait_for(lambda: state(driver) in ("done", "failed", "cancelled"), WAIT)
    assert state(driver) == "done", sentence(driver)
    wait_for(lambda: find(driver, "#stage .after").is_displayed() and find(driver, "#stage .split").is_enabled(), WAIT)


# ------------------------------------------------------------------------------------------------ in, and out again


def test_from_the_upload_to_the_file_taken_home(page, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    given = photo(tmp_path / "holiday.jpg", 120, 66, exif=exif.tobytes(), icc_profile=profile)
    send(page, given)
    wait_until_done(page)
    assert find(page, "#panel .facts").text == "120 × 66 pixels, JPEG" and "Restored in" in sentence(page)
    rows = {row.text.split("\n")[0]: row.text.split("\n")[1] for row in all_of(page, "#panel .report li")}
    assert find(page, "#panel .report p").text == "Strong haze."
    assert rows == {"Haze": "strong", "Rain": "no", "Snow": "no", "Low light": "no", "Blur": "no"}

    home = tmp_path / "home"
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(home)})
    find(page, "[data-act=download]").send_keys(Keys.ENTER)
    wait_for((home / "holiday_restored.jpg").exists, WAIT)
    with Image.open(home / "holiday_restored.jpg") as taken, Image.open(given) as before:
        assert (taken.format, taken.size) == ("JPEG", (120, 66))
        assert taken.getexif()[0x010F] == "Maker" and taken.info["icc_profile"] == profile
        assert np.abs(np.asarray(taken, int) - np.asarray(before, int)).max() > 0


def test_the_slider_by_mouse_and_by_keys(page, tmp_path):
    send(page, photo(tmp_path / "a.png", 300, 200))
    wait_until_done(page)
    slider, after = find(page, "#stage .split"), find(page, "#stage .after")

    def clip() -> str:
        return after.value_of_css_property("clip-path")

    assert clip() == "inset(0px 0px 0px 50%)"
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    assert clip() == "inset(0px 0px 0px 53%)" and "53 % before" in slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.HOME)
    assert clip() == "inset(0px 0px 0px 0%)"
    quarter = round(slider.rect["width"] / 4)
    drag = webdriver.ActionChains(page).move_to_element(slider).click_and_hold()
    drag.move_by_offset(quarter, 0).release().perform()
    assert 70 <= int(slider.get_attribute("value")) <= 80
    sizes = "return [...document.querySelectorAll('#stage .stack img')].map(i => [i.naturalWidth, i.width, i.height])"
    (width, *shown), (_, *over) = page.execute_script(sizes)
    assert width == 300 and shown == over  # they cover each other


def test_maps_and_zoom(page, tmp_path):
    send(page, photo(tmp_path / "a.png", 300, 200))
    wait_until_done(page)
    after, told = find(page, "#stage .after"), find(page, "#stage .legend")
    sources = {after.get_attribute("src")}
    find(page, "#stage [value=after]").send_keys(Keys.ARROW_RIGHT)
    wait_for(lambda: after.get_attribute("src") not in sources)
    assert "Visibly changed" in told.text and "what changed" in after.get_attribute("alt")
    sources.add(after.get_attribute("src"))
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait_for(lambda: after.get_attribute("src") not in sources)
    assert "probability" in told.text
    page.switch_to.active_element.send_keys(Keys.HOME)

    opener = find(page, "#stage .zoom")
    opener.send_keys(Keys.ENTER)
    dialog = find(page, "dialog.viewer")
    wait_for(lambda: dialog.get_attribute("open") and "%" in dialog.find_element("css selector", "output").text)
    wait_for(lambda: page.switch_to.active_element.get_attribute("type") == "range")
    stack = dialog.find_element("css selector", ".stack")
    fitted = stack.rect["width"]
    page.switch_to.active_element.send_keys("+")
    assert stack.rect["width"] == pytest.approx(1.5 * fitted, rel=0.01)
    titles = set()
    for _ in range(3):
        titles.add(dialog.find_element("css selector", "strong").text.split("| ")[1])
        page.switch_to.active_element.send_keys(Keys.PAGE_DOWN)
    assert titles == {"after", "what changed", "how sure"}
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_for(lambda: not dialog.get_attribute("open"))
    assert page.switch_to.active_element == opener


# ------------------------------------------------------------------------------------------------------ on the way


def test_scales_are_shown_as_they_come_and_can_be_called_off(page, tmp_path):
    send(page, photo(tmp_path / "slow.png", 96, SLOW))
    after, progress = find(page, "#stage .after"), find(page, "#panel progress")
    wait_for(lambda: "step" in sentence(page) and (after.get_attribute("src") or "").startswith("data:image"), WAIT)
    assert 0 < float(progress.get_attribute("value")) < 1 and not find(page, "#stage .split").is_enabled()
    find(page, "[data-act=cancel]").click()
    wait_for(lambda: state(page) == "cancelled", WAIT)
    assert sentence(page) == "Called off." and find(page, "#told").get_attribute("textContent") == "Called off."
    find(page, "[data-act=retry]").click()
    wait_for(lambda: state(page) == "working", WAIT)
    wait_until_done(page)


def test_a_bad_file_is_named_and_the_others_go_on(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("no photo at all")
    (tmp_path / "huge.png").write_bytes(b"\0" * (3 << 19))
    send(page, tmp_path / "notes.jpg", tmp_path / "huge.png", photo(tmp_path / "good.png"))
    tiles = "#strip li[data-key]"
    wait_for(lambda: len(all_of(page, f"{tiles}.failed")) == 2 and len(all_of(page, f"{tiles}.done")) == 1, WAIT)
    failed = [tile.text for tile in all_of(page, f"{tiles}.failed")]
    assert any("huge.png" in text and "too large" in text for text in failed)
    next(tile for tile in all_of(page, f"{tiles}.failed button") if "notes" in tile.text).click()
    wait_for(lambda: state(page) == "failed")
    assert (
        sentence(page).startswith("notes.jpg is not an image") and not find(page, "[data-act=download]").is_displayed()
    )
    next(tile for tile in all_of(page, f"{tiles}.failed button") if "huge" in tile.text).click()
    wait_for(lambda: len(all_of(page, tiles)) == 2)


def test_two_people_at_once(page, address, tmp_path):
    ann = page.current_window_handle
    send(page, photo(tmp_path / "ann.png", 96, SLOW, tone=10))
    wait_for(lambda: "step" in sentence(page), WAIT)
    page.switch_to.new_window("tab")
    visit(page, address)
    send(page, photo(tmp_path / "ben.png", tone=80))
    wait_until_done(page)
    assert [tile.text for tile in all_of(page, "#strip li[data-key]")] == ["ben.png"]
    link = find(page, "[data-act=download]").get_attribute("href")
    page.switch_to.window(ann)
    wait_until_done(page)
    assert [tile.text for tile in all_of(page, "#strip li[data-key]")] == ["ann.png"]
    own = find(page, "[data-act=download]").get_attribute("href")
    assert own.split("/")[4] != link.split("/")[4]
    with urlopen(link) as answer:
        assert Image.open(io.BytesIO(answer.read())).size == (96, 64)
        assert "no-store" in answer.headers["Cache-Control"]


def test_photos_are_deleted_when_the_page_is_closed(page, app, address, tmp_path, monkeypatch):
    monkeypatch.setattr(app.state.visits, "grace", 0.2)
    send(page, photo(tmp_path / "a.png"))
    wait_until_done(page)
    key = page.execute_script("return sessionStorage.getItem('restorevar-visit')")
    folder = app.state.visits.find(key).folder
    assert len(list(folder.rglob("*.webp"))) == 5 and (folder.stat().st_mode & 0o77) == 0
    are_loaded = "return [...document.images].every(picture => picture.complete)"
    wait_for(lambda: page.execute_script(are_loaded), WAIT)  # else one asked for later would be missed, rightly
    other = page.current_window_handle
    page.switch_to.new_window("tab")
    opened = page.current_window_handle
    page.switch_to.window(other)
    page.close()
    page.switch_to.window(opened)
    wait_for(lambda: not folder.exists(), WAIT)
    with pytest.raises(OSError, match="404"):
        urlopen(f"{address}visit/{key}/all")


# --------------------------------------------------------------------------------------------------- what can be set


def test_adjusted_and_restored_again(page, tmp_path):
    given = photo(tmp_path / "a.png")
    send(page, given)
    wait_until_done(page)
    first = find(page, "[data-act=download]").get_attribute("href")
    fold = find(page, "#adjust > button")
    fold.send_keys(Keys.ENTER)
    again = find(page, "[data-act=again]")
    wait_for(again.is_displayed)
    assert fold.get_attribute("aria-expanded") == "true"
    strength = find(page, "#adjust input[type=number]")
    strength.send_keys(Keys.CONTROL, "a")
    strength.send_keys("0", Keys.TAB)
    again.click()
    wait_for(lambda: find(page, "[data-act=download]").get_attribute("href") != first, WAIT)
    wait_until_done(page)
    with urlopen(find(page, "[data-act=download]").get_attribute("href")) as answer, Image.open(given) as before:
        assert (np.asarray(Image.open(io.BytesIO(answer.read()))) == np.asarray(before)).all()
    assert "0% of the change" in find(page, "#stage .legend").text


def test_photos_that_need_nothing_are_left_alone_and_told_so(page, tmp_path):
    send(page, photo(tmp_path / "clean.png", 96, CLEAN))
    wait_until_done(page)
    assert "needs nothing" in sentence(page) and "left alone" in find(page, "#strip li.done").text
    find(page, "[data-act=anyway]").click()
    wait_for(lambda: "Restored in" in sentence(page), WAIT)


def test_the_visit_is_a_gallery_that_survives_reloading(page, tmp_path):
    send(page, photo(tmp_path / "a.png"), photo(tmp_path / "b.png", tone=50))
    wait_for(lambda: len(all_of(page, "#strip li.done")) == 2, WAIT)
    everything = find(page, "#strip .all").get_attribute("href")
    with urlopen(everything) as answer:
        assert answer.headers["Content-Type"] == "application/zip"
    next(tile for tile in all_of(page, "#strip button") if tile.text == "a.png").click()
    assert find(page, "#panel .name").text == "a.png"
    page.refresh()
    wait_for(lambda: len(all_of(page, "#strip li.done")) == 2, WAIT)


# ------------------------------------------------------------------------------------------------- for everybody


def test_everything_by_keyboard(page):
    def walk(steps: int) -> list[str]:
        names = []
        for _ in range(steps):
            webdriver.ActionChains(page).send_keys(Keys.TAB).perform()
            node = page.switch_to.active_element
            if node.tag_name == "body":  # once around
                continue
            marks = (node.get_attribute(mark) for mark in ("data-name", "data-act", "class", "name", "type"))
            names.append(next(filter(None, marks), node.tag_name))
            ring = page.execute_script(
                "const seen = n => getComputedStyle(n).outlineStyle !== 'none' && getComputedStyle(n).outlineWidth;"
                "let n = arguments[0]; while (n && !seen(n)) n = n.parentElement; return Boolean(n)",
                node,
            )
            assert ring, names[-1]
        return names

    assert walk(6) == ["files", "haze", "rain", "snow", "lowlight", "blur"]
    find(page, "[data-name=snow]").send_keys(Keys.ENTER)
    wait_until_done(page)
    assert find(page, "#panel .name").text == "snow_chelsea.jpg"
    reached = walk(10)
    for name in ("split", "zoom", "view", "download", "files", "choose"):
        assert name in reached, reached


def assert_legible(page, selector):
    """Once colours that change with the scheme have arrived."""
    end = time.monotonic() + 10
    while contrast(page, find(page, selector)) < 4.5 and time.monotonic() < end:
        time.sleep(0.05)
    assert contrast(page, find(page, selector)) >= 4.5, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_and_can_be_read(page, tmp_path, scheme, width):
    look(page, width, 812, scheme)
    wait_for(
        lambda: (luminance(find(page, "body").value_of_css_property("background-color")) > 0.9) == (scheme == "light")
    )
    fits = "return document.documentElement.scrollWidth"
    assert page.execute_script(fits) <= width
    for selector in ("h1", ".lead", ".drop strong", ".drop .link", ".examples span", ".promise"):
        assert_legible(page, selector)
    for button in all_of(page, "#desk button"):
        assert button.rect["height"] >= 44
    send(page, photo(tmp_path / "a_very_long_name_that_somebody_gave_to_a_photo_of_theirs.png", 90, 120))
    wait_until_done(page)
    find(page, "#adjust > button").click()
    wait_for(find(page, "[data-act=again]").is_displayed)
    assert page.execute_script(fits) <= width
    readable = (
        "#panel .name",
        "#panel .facts",
        "#panel .sentence",
        "[data-act=download]",
        "#panel .word",
        "#stage .legend",
    )
    readable += (
        "#adjust > button span",
        "[data-act=again]",
        "#strip .name",
        "#strip .drop strong",
        ".views :checked + span",
    )
    for selector in readable:
        assert_legible(page, selector)
    shown = [n for n in all_of(page, "#work button, #work a.button, #strip button, .views span") if n.is_displayed()]
    assert all(node.rect["height"] >= 43 for node in shown)


def test_every_control_has_a_name(page, tmp_path):
    send(page, photo(tmp_path / "a.png"))
    wait_until_done(page)
    find(page, "#adjust > button").click()
    wait_for(find(page, "[data-act=again]").is_displayed)
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "slider", "radio", "link", "checkbox", "textbox", "spinbutton", "progressbar"}
    unnamed = [
        (node["role"]["value"], node.get("backendDOMNodeId"))
        for node in tree
        if not node.get("ignored")
        and node["role"]["value"] in roles
        and not node.get("name", {}).get("value", "").strip()
    ]
    assert unnamed == []
    images = [n for n in tree if n.get("role", {}).get("value") == "image" and not n.get("ignored")]
    assert images and all(node["name"]["value"] for node in images)


def test_what_others_may_ask_for_is_closed(address):
    for path in ("visit/none/none/none", "visit/none/all", "visit/example/../../mounting.py", "visit/example/nothing"):
        with pytest.raises(OSError, match="404"):
            urlopen(address + path)
    with urlopen(address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "fonts.googleapis" not in answer.read().decode()
    with urlopen(address + "gradio_api/info") as answer:
        assert json.loads(answer.read()) == {"named_endpoints": {}, "unnamed_endpoints": {}}
