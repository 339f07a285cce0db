"""Random cases on which fast models meet their references; `python -m analysis.fuzz` runs them.

The tests draw from the same strategies (extra `dev`: hypothesis).
"""

from __future__ import annotations

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("analysis.fuzz needs hypothesis: pip install 'chipfit[dev]'") from error
