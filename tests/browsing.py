"""A real browser for tests of pages: started quietly, at any width, in both schemes; what is seen, and how well."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
DRIVER = shutil.which("chromedriver")
NEEDS_BROWSER = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its chromedriver")

#: Without these a browser looks for updates, and root may not start one.
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic")
QUIET += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions")


def start(profile: Path, **logs: str) -> Any:
    """A driver. `logs`: kinds of logs that it is to keep, with their levels."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **logs})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def look(driver: Any, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def find(driver: Any, selector: str, seconds: float = 20.0) -> Any:
    """The first; a page that is still being built may take its time."""
    end = time.monotonic() + seconds
    while not (found := all_of(driver, selector)) and time.monotonic() < end:
        time.sleep(0.02)
    return found[0] if found else driver.find_element("css selector", selector)


def all_of(driver: Any, selector: str) -> Any:
    return driver.find_elements("css selector", selector)


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def luminance(colour: str) -> float:
    """Of rgb(...), as WCAG 2 reckons it."""
    values = [float(v) / 255 for v in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(driver: Any, node: Any) -> float:
    """Of a node's text to what lies behind it."""
    behind = driver.execute_script(
        """let node = arguments[0];
        while (node && /rgba\\(.*, 0\\)$/.test(getComputedStyle(node).backgroundColor)) node = node.parentElement;
        return getComputedStyle(node ?? document.body).backgroundColor;""",
        node,
    )
    ink = driver.execute_script("return getComputedStyle(arguments[0]).color", node)
    low, high = sorted((luminance(ink), luminance(behind)))
    return (high + 0.05) / (low + 0.05)
