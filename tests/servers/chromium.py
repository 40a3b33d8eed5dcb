"""Headless Chromium, controlled like a user would."""

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
    """Browser window. Methods fail with the content that they found."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    # -- environment -------------------------------------------------------------------------

    def command(self, name: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width: int, height: int = 800) -> None:
        """Set the size of the viewport, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, color_scheme: str) -> None:
        """Set the preferred color scheme, `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": color_scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def send(self, **headers: str) -> None:
        """Send these headers with every request."""
        self.command("Network.enable")
        self.command("Network.setExtraHTTPHeaders", headers=headers)

    # -- pages -------------------------------------------------------------------------------

    def get(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """Return the first element that matches a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """Return all elements that match a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        return self.find(selector).text

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of each visible element that matches."""
        return [element.text for element in self.find_all(selector) if element.is_displayed()]

    def run(self, script: str) -> Any:
        """Run a script and return its result."""
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        """Press keys on the focused element."""
        actions = webdriver.ActionChains(self.driver)
        for key in keys:
            actions.send_keys(getattr(Keys, key, key))
        actions.perform()

    def wait_for_text(self, text: str, selector: str = "body") -> str:
        """Wait until an element contains a text, and return all its text."""
        return wait_for(
            lambda: self._text_or_nothing(selector),
            lambda seen: text in seen,
            what=f"{text!r} in {selector}",
        )

    def _text_or_nothing(self, selector: str) -> str:
        """Return the text of an element, or an empty string if the page is being replaced."""
        return str(
            self.driver.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".map((element) => element.innerText).join('\\n')",
                selector,
            )
        )

    def console(self) -> list[str]:
        """Return the console messages since the last call, on all pages."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def overflow(self) -> int:
        """Return the number of pixels by which the page is wider than the window."""
        return int(self.run(
            "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        ))  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Save the whole page as PNG, including parts outside of the window."""
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.command(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium(*, scripts: bool = True) -> Iterator[Browser]:
    """Start a browser with a fresh profile, optionally without JavaScript.

    If Chromium is missing, skip the test, or fail it in CI.
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
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with a sandbox
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
