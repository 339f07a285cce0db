"""The site builds without a warning and without a network, and sends its readers for nothing."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Fetched(HTMLParser):
    """Addresses that a browser fetches to show a page; links to follow are none of them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found.append(given.get("src"))
        if tag in ("link", "use", "image"):
            self.found.append(given.get("href"))


def outside(address):
    return address is not None and re.match(r"(?:[a-z]+:)?//", address.strip(), re.IGNORECASE)


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len([address for address in parser.found if address]) > 5
        assert not [address for address in parser.found if outside(address)], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        for address in re.findall(r"""(?:url\(|@import\s)\s*['"]?([^'")(]+)['")]""", text):
            assert not outside(address), style


def test_everything_that_a_page_fetches_is_there(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its addresses are those of a server's root
            continue
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        for address in filter(None, parser.found):
            if not address.startswith("data:"):
                assert (page.parent / re.split("[?#]", address)[0]).is_file(), (page, address)


def test_reports_and_the_public_api_are_pages(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    for report in (ROOT / "reports").glob("*.md"):
        assert (site / "reports" / f"{report.stem}.html").is_file()
    assert 'href="reports/accuracy.html"' in index
    for package in ("hwsim", "quant", "analysis"):
        api = (site / "api" / f"{package}.html").read_text(encoding="utf-8")
        names = set(importlib.import_module(package).__all__)
        shown = set(re.findall(rf'id="{package}\.(\w+)"', api))
        # a type's alias and the version are no objects with a docstring
        assert names - shown <= {"Progress", "__version__"}
