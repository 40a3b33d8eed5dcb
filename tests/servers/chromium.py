"""Chromium without a window, driven as a person would."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.servers.processes import wait_for
from tests.servers.services import require


class Browser:
    """One window; its methods fail with what they saw."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    # -- surroundings ------------------------------------------------------------------------

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width: int, height: int = 800) -> None:
        """Show pages as on a screen of this size, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, color_scheme: str) -> None:
        """`light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": color_scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def send(self, **headers: str) -> None:
        """Send these headers with every request."""
        self.command("Network.enable")
        self.command("Network.setExtraHTTPHeaders", headers=headers)

    # -- pages -------------------------------------------------------------------------------

    def get(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """The first element that a CSS selector selects."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """All elements that a CSS selector selects."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        """What a person reads in an element."""
        return self.find(selector).text

    def texts(self, selector: str) -> list[str]:
        """What a person reads in each element; hidden ones are left out."""
        return [element.text for element in self.find_all(selector) if element.is_displayed()]

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        """Press keys, on whatever has the focus."""
        actions = webdriver.ActionChains(self.driver)
        for key in keys:
            actions.send_keys(getattr(Keys, key, key))
        actions.perform()

    def wait_for_text(self, text: str, selector: str = "body") -> str:
        """What an element says, once it says this as well."""
        return wait_for(
            lambda: self._text_or_nothing(selector),
            lambda seen: text in seen,
            what=f"{text!r} in {selector}",
        )

    def _text_or_nothing(self, selector: str) -> str:
        """The page may be about to change."""
        return str(
            self.driver.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".map((element) => element.innerText).join('\\n')",
                selector,
            )
        )

    def console(self) -> list[str]:
        """What the browser complained of since this was last asked, about all pages."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.run(
            "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        ))  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Save the whole page, not only what the window shows of it, as PNG."""
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.command(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium(*, scripts: bool = True) -> Iterator[Browser]:
    """A browser with a fresh profile, which may run no scripts.

    Without Chromium the test is skipped, or fails in CI.
    """
    options = Options()
    options.binary_location = require("chromium")
    profile = tempfile.mkdtemp(prefix="smoketest-chromium-")
    for argument in (
        "headless=new",
        "disable-gpu",
        "disable-dev-shm-usage",
        "hide-scrollbars",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to be root with it
    if not scripts:
        preference = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", preference)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(executable_path=require("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(300)
        browser = Browser(driver)
        browser.resize(1200)
        yield browser
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)
