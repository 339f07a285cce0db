"""What a page looks like to a reader, as numbers."""

from __future__ import annotations

import re

from playwright.sync_api import Page

PHONE = {"width": 390, "height": 844}


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def luminance(colour: str) -> float:
    """Of 'rgb(r, g, b)', relative, 0..1: WCAG 2.2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrasts(page: Page, selector: str) -> list[float]:
    """Contrast ratio of the text of every element that the selector finds, over the nearest
    background that is not transparent: WCAG 2.2."""
    pairs = page.eval_on_selector_all(
        selector,
        """nodes => nodes.map(node => {
            let below = node;
            const paper = () => getComputedStyle(below).backgroundColor;
            const clear = () => paper() === "rgba(0, 0, 0, 0)";
            while (clear() && below.parentElement) below = below.parentElement;
            return [getComputedStyle(node).color, paper()];
        })""",
    )
    found = []
    for ink, paper in pairs:
        low, high = sorted((luminance(ink), luminance(paper)))
        found.append((high + 0.05) / (low + 0.05))
    return found


def paper(page: Page) -> float:
    """Luminance of the page's background."""
    return luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
