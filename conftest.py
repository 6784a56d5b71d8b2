"""What holds for all tests, those in docstrings and guides included."""

import os
import sys
from collections.abc import Iterator

import pytest

# Figures are never shown in a window.
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
