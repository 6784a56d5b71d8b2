import os
import signal
from pathlib import Path

import numpy as np
import pytest

# Tests never need an accelerator, and must not differ where there is one.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Shells let what runs in the background ignore interrupts, which tests send themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def profiles():
    """Landmarks and targets of 120 profiles, float32, in raw units (mean 8)."""
    rng = np.random.default_rng(0)
    X = rng.normal(8.0, 1.5, (120, 12)).astype(np.float32)
    mixing = rng.normal(0.0, 0.5, (12, 9))
    y = (6.0 + np.tanh(X - 8.0) @ mixing + rng.normal(0.0, 0.2, (120, 9))).astype(np.float32)
    return X, y


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real expression data."""
    folder = Path(os.environ.get("DGEX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "genes.tsv").exists():
        pytest.skip("no real expression data: set DGEX_DATA to its folder")
    return folder


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Layouts say that they are of GPUs; programs are forgotten before and afterwards."""
    from dgex import _programs
    from dgex._sharding import Layout

    def forget():
        for function in vars(_programs).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    forget()
    monkeypatch.setattr(Layout, "platform", "gpu")
    yield
    forget()
