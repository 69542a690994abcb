"""A headless Chromium driven by selenium: pages, pointer, keys, console, requests."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 60.0
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Page:
    """One tab."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._errors: list[str] = []
        self._requests: list[str] = []

    @property
    def errors(self) -> list[str]:
        """Console errors, warnings and exceptions so far."""
        entries = self.driver.get_log("browser")  # those since it was asked last
        self._errors += [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
        return self._errors

    @property
    def requests(self) -> list[str]:
        """Addresses that the tab asked for so far, `data:` left out."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        self._requests += [each["request"]["url"] for each in sent if not each["request"]["url"].startswith("data:")]
        return self._requests

    def open(self, path: Path, *, width: int = 1400, height: int = 900, dark: bool = False) -> float:
        """Show a file; returns the seconds from the request until it is loaded and painted."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        start = time.perf_counter()
        self.driver.get(path.resolve().as_uri())
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return time.perf_counter() - start

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited. Raises `JavascriptException` for what it throws."""
        return self.driver.execute_script(f"return ({script})")  # a promise is awaited

    def wait(self, condition: str) -> None:
        """Until an expression is true. Raises `TimeoutException`."""
        from selenium.webdriver.support.wait import WebDriverWait

        message = f"never true: {condition}"
        WebDriverWait(self.driver, LIMIT_S, poll_frequency=0.02).until(lambda _: self.run(condition), message)

    def move(self, x: float, y: float) -> None:
        """The pointer, to a place in view."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.driver, duration=0)
        actions.pointer_action.move_to_location(round(x), round(y))
        actions.perform()

    def click(self, selector: str) -> None:
        """In the middle of an element, scrolled into view; what lies over it is an error."""
        self.middle(selector)
        self.driver.find_element("css selector", selector).click()

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element's middle is, once it is scrolled into view."""
        box = self.run(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        return float(box[0]), float(box[1])

    def press(self, key: str) -> None:
        """A key of `selenium.webdriver.Keys`."""
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser and its tab, ended at the end; the test is skipped where there is none. profile: an empty folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), "")
    chromedriver = shutil.which("chromedriver") or ""
    if not (chromium and chromedriver):
        pytest.skip("no Chromium with chromedriver on this machine (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    driver.set_page_load_timeout(LIMIT_S)
    driver.set_script_timeout(LIMIT_S)
    try:
        yield Page(driver)
    finally:
        driver.quit()
