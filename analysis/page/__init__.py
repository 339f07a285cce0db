"""Self-contained HTML pages: one file, no outside request, light and dark, readable on a phone."""

from analysis.page.builder import (
    asset,
    command_block,
    data_link,
    figure,
    made_rows,
    number,
    page,
    table,
)

__all__ = ["page", "table", "number", "figure", "command_block", "data_link", "made_rows", "asset"]
