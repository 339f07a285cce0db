"""Shared settings: hypothesis profiles and the folder of real weights and images."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: cores may be shared
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: threads would only get in the way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    derandomize=True,  # the same cases in every run
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder at CHIPFIT_DATA: real weights and labelled images. Skips when it is not set."""
    folder = os.environ.get("CHIPFIT_DATA")
    if not folder:
        pytest.skip("needs real weights and images: set CHIPFIT_DATA to their folder")
    path = Path(folder)
    assert path.is_dir(), f"CHIPFIT_DATA is set to {folder}, which is not a folder"
    return path
