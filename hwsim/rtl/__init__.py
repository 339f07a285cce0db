"""A weight-stationary array as synthesisable RTL (extra `rtl`: Amaranth).

Its clock confirms the cycles of `hwsim.systolic.reference`; nothing else depends on it.
"""

from __future__ import annotations

try:
    import amaranth  # noqa: F401
except ImportError as error:
    raise ImportError("hwsim.rtl needs Amaranth: pip install 'chipfit[rtl]'") from error
