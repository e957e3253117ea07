"""A headless Chromium for the tests that look at a page, as the fixture `browser`.

Where no Chromium is installed these tests are skipped; with REQUIRE_BROWSER=1 in the environment they fail instead.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SENT = "Network.requestWillBeSent"
WAIT_SEC = 90  # for a page on a machine that is busy with other tests


def lacking(*modules: str) -> list[str]:
    """What a test with a browser needs and this machine has not."""
    missing = [
        f"the Python package {name}" for name in ("selenium", *modules) if importlib.util.find_spec(name) is None
    ]
    if not any(map(shutil.which, CHROMIUMS)):
        missing.append(f"a browser ({', '.join(CHROMIUMS)})")
    if not shutil.which("chromedriver"):
        missing.append("chromedriver")
    return missing


def require_browser(*modules: str) -> None:
    """Skip the test, or fail it under REQUIRE_BROWSER=1, where it cannot run; `modules` are further packages."""
    if missing := lacking(*modules):
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator:
    """A selenium driver of a headless Chromium that reaches this machine only."""
    require_browser()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, CHROMIUMS)))
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root there is none
        "--disable-dev-shm-usage",  # containers have little
        "--disable-gpu",
        "--use-fake-device-for-media-stream=fps=5",  # a camera with a moving test picture, allowed without a question
        "--use-fake-ui-for-media-stream",
        "--window-size=1280,1400",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def wait_for(driver, condition: Callable):
    """What `condition(driver)` returns once that is true; the error shows what the page says by then."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(driver, WAIT_SEC, ignored_exceptions=[StaleElementReferenceException]).until(condition)
    except TimeoutException:
        text = driver.find_element(By.TAG_NAME, "body").text
        raise AssertionError(f"after {WAIT_SEC} s the page says:\n{text}") from None


def requested_hosts(driver) -> set[str | None]:
    """The hosts that pages asked for anything over the network since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages if message["method"] == SENT]
    urls += [message["params"]["url"] for message in messages if message["method"] == "Network.webSocketCreated"]
    return {urlsplit(url).hostname for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
