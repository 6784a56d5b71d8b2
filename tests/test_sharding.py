import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dgex import DGEXRegressor, _programs, _sharding
from dgex._partition import TargetSets, one_set
from dgex._sharding import ALIGNMENT, Layout, aligned_zeros, resized, select_devices, stored_rows

# Some solvers and activations give the same bits only where the compiler does not fuse multiplications with additions.
UNFUSED = pytest.param(
    "--xla_cpu_max_isa=AVX",
    "to_the_last_bit",
    marks=pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX is of x86-64 processors"),
)


@pytest.mark.parametrize(("flags", "selection"), [("", ""), UNFUSED])
def test_eight_virtual_devices(flags, selection):
    """The tests of tests/eight_devices, in a process that JAX gives eight devices."""
    flags = f"--xla_force_host_platform_device_count=8 {flags}"
    folder = Path(__file__).parent / "eight_devices"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(folder), "-k", selection, "-p", "no:cacheprovider"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout


def test_profiles_are_placed_as_float32_and_padded_with_zeros():
    layout = Layout(select_devices(1))
    for dtype in (np.float32, np.float64, np.int64, np.float16):
        array = np.arange(21).reshape(7, 3).astype(dtype)
        for placed in (
            np.asarray(layout.place_landmarks(array)),
            np.asarray(layout.place_targets(array, one_set(3)))[0],
        ):
            assert placed.dtype == np.float32
            assert placed.shape == (512, 3)
            np.testing.assert_array_equal(placed[:7], array)
            assert not placed[7:].any()
    fortran = np.asfortranarray(np.arange(48.0, dtype=np.float32).reshape(16, 3))
    np.testing.assert_array_equal(layout.place_landmarks(fortran)[:16], fortran)


def test_targets_are_placed_by_network():
    y = np.arange(40.0).reshape(8, 5)
    layout = Layout(select_devices(1), n_networks=2)
    targets = TargetSets((np.array([0, 2, 4]), np.array([1, 3])))
    placed = np.asarray(layout.place_targets(y, targets, rows=np.array([6, 1]), n_stored=3))
    assert placed[0].tolist() == [[30, 32, 34], [5, 7, 9], [0, 0, 0]]
    assert placed[1].tolist() == [[31, 33, 0], [6, 8, 0], [0, 0, 0]]


def test_float32_targets_of_one_network_are_not_copied_on_the_host():
    y = np.ones((16, 3), np.float32)
    share = _sharding._targets(y, [slice(0, 3)], (1, 16, 3))
    assert np.shares_memory(share, y)


@pytest.mark.parametrize(
    ("n_devices", "n_networks", "grid"),
    [(8, 1, (1, 8)), (8, 2, (2, 4)), (8, 3, (1, 8)), (8, 12, (4, 2)), (4, 16, (4, 1)), (6, 4, (2, 3))],
)
def test_every_device_has_work(n_devices, n_networks, grid):
    layout = Layout(tuple(range(n_devices)), n_networks)
    assert (layout.n_groups, layout.n_shards) == grid


def test_only_small_arrays_are_padded():
    assert stored_rows(np.empty((17, 10))) == 512
    assert stored_rows(np.empty((512, 10))) == 512
    assert stored_rows(np.broadcast_to(np.float32(0), (17, 100_000))) == 32
    assert stored_rows(np.broadcast_to(np.float32(0), (17_001, 1000))) == 17_001


def test_aligned_zeros():
    for shape in [(3, 5), (1, 1), (40, 7)]:
        array = aligned_zeros(shape)
        assert array.ctypes.data % ALIGNMENT == 0
        assert array.shape == shape
        assert not array.any()


def test_arrays_are_cut_or_extended():
    tree = (np.ones((2, 3), np.float32), np.ones(3, np.float32), np.float32(7))
    like = (np.empty((4, 2)), np.empty(3), np.empty(()))
    larger = resized(tree, like)
    assert larger[0].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert larger[1] is tree[1]
    np.testing.assert_array_equal(resized(jax.numpy.ones((2, 2)), np.empty((3, 3))).sum(), 4)


def test_devices_of_jax_are_accepted_too():
    device = jax.devices()[0]
    assert select_devices([device]) == (device,)
    with pytest.raises(ValueError, match="numbered from 0"):
        select_devices([-1])


def test_results_for_the_host_are_in_page_locked_memory_of_gpus(as_on_gpu):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 6)), rng.normal(size=(300, 10))
    model = DGEXRegressor(hidden_layer_sizes=(5,), max_iter=2, n_partitions=2, random_state=0).fit(X, y)
    layout = Layout(select_devices(None), 2)
    assert layout.read_by_host(3).memory_kind == "pinned_host"
    assert layout.divided(3).memory_kind == "device"
    by_device = model.predict(X)
    assert by_device.shape == (300, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layout, "platform", "cpu")
        np.testing.assert_allclose(by_device, model.predict(X), rtol=1e-4, atol=1e-5)


def test_this_xla_knows_the_options_for_gpus(as_on_gpu):
    assert _programs.compiler_options("gpu") == _programs.COMPILER_OPTIONS["gpu"]
    assert _programs.compiler_options("cpu") is None


def test_options_that_xla_does_not_know_are_left_out(as_on_gpu, monkeypatch):
    monkeypatch.setattr(_programs, "COMPILER_OPTIONS", {"gpu": {"xla_gpu_of_another_release": False}})
    _programs.compiler_options.cache_clear()
    assert _programs.compiler_options("gpu") is None
