"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # machines are busy, and first calls compile
settings.load_profile("untimed")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line: threads that spin take the time of others
if os.environ.get("PYTEST_XDIST_WORKER"):  # one of several processes: threads of each would wait for those of others
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of real data that the project may use but does not ship; the test is skipped where it is absent."""
    path = Path(os.environ.get("UNETTILE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set UNETTILE_DATA")
    return path
