"""Hooks of the site: pages that live outside `docs/`, and links that suit both places.

The README is the site's front page, and the reports it links to are pages too; in the repository
they are read where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """List the reports before the pages for those who work on the project."""
    reports = sorted(path.name for path in (ROOT / "reports").glob("*.md"))
    config.nav.insert(-2, {"Reports": [f"reports/{name}" for name in reports]})
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the README and its like, and the reports with their figures and tables."""
    found = {name: ROOT / source for name, source in PAGES.items()}
    for path in sorted((ROOT / "reports").rglob("*")):
        if path.is_file():
            found[path.relative_to(ROOT).as_posix()] = path
    for name, path in found.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between the repository's folders become links between the site's pages."""
    if page.file.src_uri in PAGES:
        return markdown.replace("](docs/", "](").replace("](README.md", "](index.md")
    return markdown.replace("](../reports/", "](reports/").replace("](../README.md", "](index.md")
