"""The browser that other tests look at pages with."""

import pytest

from tests.browser import lacking, requested_hosts, require_browser, wait_for

PAGE = """<body><script>
fetch("https://example.com/font").catch(() => document.body.append("not reached"));
</script></body>"""


def test_it_reaches_no_other_machine_and_tells_who_tried(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    browser.get(page.as_uri())
    wait_for(browser, lambda driver: "not reached" in driver.page_source.split("</script>")[1])
    assert requested_hosts(browser) == {"example.com"}


def test_what_is_lacking_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = lacking("a_package_that_nobody_has")
    assert found[-3:] == [
        "the Python package a_package_that_nobody_has",
        "a browser (chromium, chromium-browser, google-chrome)",
        "chromedriver",
    ]


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser_a_test_is_skipped_or_fails_as_asked(required, outcome, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("REQUIRE_BROWSER", required)
    with pytest.raises(outcome, match=r"a browser \(chromium.*, chromedriver"):
        require_browser()
