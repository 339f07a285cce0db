"""A weight-stationary array as synthesisable RTL (extra `rtl`: Amaranth).

Its clock confirms the cycles of `hwsim.systolic.reference`; nothing else depends on it.
"""
