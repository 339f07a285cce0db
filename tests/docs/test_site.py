"""The site builds without a warning and without a network, and sends its readers for nothing."""

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
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
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
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", text):
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
    import quant

    api = (site / "api" / "quant.html").read_text(encoding="utf-8")
    # aliases of types and the version are no objects with a docstring
    missing = [name for name in quant.__all__ if f'id="quant.{name}"' not in api]
    assert missing == ["Progress", "__version__"]
