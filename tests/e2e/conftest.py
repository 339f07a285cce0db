"""Pages in the system's own Chromium: offline, and nothing may go wrong behind what is seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """From CHROMIUM, else the first of the usual names on the path."""
    asked = os.environ.get("CHROMIUM")
    return asked or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip(f"needs a browser: install {NAMES[0]}, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        # no sandbox: tests may run as root in a container
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file in an offline context (options: of the context). At the end of the test there
    was no error, nothing on the console, and no request besides the file itself."""
    pages: list[tuple[Path, Page]] = []
    seen: list[str] = []
    wrong: list[str] = []

    def open_file(path: Path, **options: object) -> Page:
        page = browser.new_context(offline=True, **options).new_page()
        page.set_default_timeout(5000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(path.as_uri())
        pages.append((path, page))
        return page

    yield open_file
    for _, page in pages:
        page.context.close()
    assert wrong == []
    assert seen == [path.as_uri() for path, _ in pages]
