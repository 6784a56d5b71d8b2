"""Profiles on the devices and profiles streamed to them are one and the same to the training loop."""

import logging
import re
import signal
import threading

import jax
import numpy as np
import pytest

from dgex import DGEXRegressor, _memory, _profiles, _programs, _regressor, _session, _sharding, _training
from dgex._network import NetworkConfig
from dgex._partition import one_set
from dgex._profiles import ProfileSet, padded_rows, pieces
from dgex._programs import TrainConfig
from dgex._sharding import Layout, select_devices

PARAMETERS = {"hidden_layer_sizes": (24, 10), "dropout": 0.3, "batch_size": 16, "max_iter": 3, "random_state": 0}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (700, 12)).astype(np.float32)
    return X, (np.tanh(X - 8) @ rng.normal(size=(12, 21))).astype(np.float32)


@pytest.fixture
def small_pieces(monkeypatch):
    """Three mini-batches, or a block of evaluation, at a time."""
    monkeypatch.setattr(_profiles, "CPU_PIECE_BYTES", 3 * 16 * 4 * 33)


def assert_same_training(a, b):
    for one, other in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(a.history_, b.history_, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    np.testing.assert_array_equal(a.best_epoch_, b.best_epoch_)
    assert a.best_score_ == b.best_score_


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("solver", "dtype", "n_partitions"), [("sgd", np.float32, 1), ("adamw", np.float64, 1), ("sgd", np.float64, 3)]
)
def test_streaming_changes_no_bit(data, solver, dtype, n_partitions):
    X, y = (array.astype(dtype) for array in data)
    sets = {"X_val": (X[:300], X[5:9]), "y_val": (y[:300], y[5:9])}
    for validation in ({}, sets):
        resident, streamed = (
            DGEXRegressor(**PARAMETERS, solver=solver, n_partitions=n_partitions, data_location=location).fit(
                X, y, **validation
            )
            for location in ("device", "host")
        )
        assert_same_training(resident, streamed)


@pytest.mark.usefixtures("small_pieces")
def test_going_on_may_change_the_place(data):
    straight = DGEXRegressor(**PARAMETERS | {"max_iter": 6}).fit(*data)
    moved = DGEXRegressor(**PARAMETERS, warm_start=True, data_location="host").fit(*data)
    moved.set_params(data_location="device").fit(*data)
    assert_same_training(straight, moved)


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupt_between_pieces_loses_no_mini_batch(data, monkeypatch):
    program, calls = _programs.step_program, []

    def interrupting(config, layout):
        def run(*arguments):
            calls.append(1)
            if len(calls) == 20:
                signal.raise_signal(signal.SIGINT)
            return program(config, layout)(*arguments)

        return run

    model = DGEXRegressor(**PARAMETERS, warm_start=True, data_location="host")
    with monkeypatch.context() as patch:
        patch.setattr(_training, "step_program", interrupting)
        with pytest.warns(UserWarning, match="interrupted in epoch 2"):
            model.fit(*data)
    # 630 profiles are 40 mini-batches in 14 pieces: the interrupt came in the sixth piece of the second epoch.
    assert model._run.step == 6 * 3
    model.set_params(max_iter=2).fit(*data)
    assert_same_training(model, DGEXRegressor(**PARAMETERS).fit(*data))


def test_memory_maps_are_never_read_whole(data, small_pieces, monkeypatch, tmp_path):
    for name, array in zip("Xy", data, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    X, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xy")
    placed = []
    for name in ("place_landmarks", "place_targets"):
        original = getattr(Layout, name)

        def place(layout, array, *arguments, original=original):
            result = original(layout, array, *arguments)
            placed.append(result.shape[-2])
            return result

        monkeypatch.setattr(Layout, name, place)
    streamed = DGEXRegressor(**PARAMETERS, data_location="host").fit(X, y)
    assert max(placed) == _programs.BLOCK_ROWS
    monkeypatch.undo()
    assert_same_training(streamed, DGEXRegressor(**PARAMETERS).fit(*data))


@pytest.mark.parametrize(("free", "resident"), [(None, True), (10**9, True), (50_000, False)])
def test_the_place_follows_the_free_memory_and_is_logged(data, free, resident, monkeypatch, caplog):
    monkeypatch.setattr(_session, "free_memory", lambda layout: free)
    opened = []
    original = _session.Session.__init__
    monkeypatch.setattr(_session.Session, "__init__", lambda *a, **k: opened.append(a[0]) or original(*a, **k))
    with caplog.at_level(logging.INFO, logger="dgex"):
        DGEXRegressor(**PARAMETERS).fit(*data)
    assert opened[0].data.training.on_devices == resident
    expected = "Profiles stay on the devices" if resident else "Profiles are streamed from the host"
    assert [record.message.startswith(expected) for record in caplog.records] == [True]


def test_asking_for_a_place_outweighs_the_free_memory():
    demand = _memory.Demand(profiles=2, weights=1)
    assert _memory.keep_on_devices("device", demand, free=0)
    assert not _memory.keep_on_devices("host", demand, free=None)
    assert not _memory.keep_on_devices("auto", demand, free=3)
    assert _memory.keep_on_devices("auto", demand, free=4)
    assert _memory.keep_on_devices("auto", demand, free=4, copied=_memory.LARGEST_COPY)
    assert not _memory.keep_on_devices("auto", demand, free=4, copied=_memory.LARGEST_COPY + 1)


def test_the_demand_of_the_papers_largest_network():
    # 943 -> 9000 x 3 -> 9520 has 256 million weights; on 8 devices an eighth of them each, and of the targets.
    network = NetworkConfig(943, (9000,) * 3, 9520)
    config = TrainConfig(network, "squared_error", "sgd", 200, True)
    X, y = (np.broadcast_to(np.float32(0), (88_807, n)) for n in (943, 9520))
    one = _memory.training_demand(config, Layout((jax.devices()[0],)), [(X, y)], 1)
    eight = _memory.training_demand(config, Layout((jax.devices()[0],) * 8), [(X, y)], 1)
    n_weights = 943 * 9000 + 2 * 9000**2 + 9000 * 9520 + 3 * 9000 + 9520
    assert one == (4 * 88_807 * (943 + 9520), 4 * 4 * n_weights)
    assert eight == (4 * 88_807 * (943 + 1190), 4 * 4 * n_weights // 8)
    # Every validation set keeps the weights of its best epoch.
    assert _memory.training_demand(config, Layout((jax.devices()[0],)), [], 3).weights == 6 * 4 * n_weights


def test_free_memory_is_some_of_what_the_machine_has():
    free = _memory.free_memory(Layout(select_devices(1)))
    assert free is None or 10**6 < free < 10**15


def test_the_limits_of_containers_and_jobs_count(monkeypatch, tmp_path):
    groups = tmp_path / "groups"
    (groups / "job" / "step").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/job/step\n")
    monkeypatch.setattr(_memory, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(_memory, "GROUPS", groups)
    assert _memory.left_by_limits() == []
    for folder, limit in ((groups / "job" / "step", "max"), (groups / "job", "3000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("1000000\n")
        (folder / "memory.stat").write_text("anon 600000\ninactive_file 400000\n")
    assert _memory.left_by_limits() == [2_400_000]
    if _memory.MEMORY_OF_LINUX.exists():
        assert _memory.free_memory(Layout(select_devices(1))) == 2_400_000


def test_free_memory_of_accelerators_is_that_of_the_fullest():
    class Device:
        platform, process_index = "gpu", 0

        def __init__(self, **statistics):
            self.memory_stats = lambda: statistics or None

    devices = Device(bytes_limit=100, bytes_in_use=30), Device(bytes_limit=90, bytes_in_use=10)
    assert _memory.free_memory(Layout(devices)) == 70
    assert _memory.free_memory(Layout((*devices, Device()))) is None


def test_a_shortage_of_memory_is_one_clear_error(data):
    # Petabytes of weights: more than any machine can address.
    model = DGEXRegressor(**PARAMETERS).fit(*data)
    coefs = model.coefs_
    with pytest.raises(MemoryError) as caught:
        model.set_params(hidden_layer_sizes=(30_000_000, 30_000_000)).fit(*data)
    message = str(caught.value)
    assert "network of 12 x 30000000 x 30000000 x 21 units on 1 cpu device(s)" in message
    assert re.search(r"about 1\.44e\+07 GB for weights and \S+ GB for profiles of each, ", message)
    for remedy in ("`devices`", "`hidden_layer_sizes`", "`batch_size`"):
        assert remedy in message
    assert "data_location" not in message  # the weights alone are too many
    assert model.coefs_ is coefs


def test_a_shortage_that_only_the_runtime_sees_is_explained_too(data):
    config = _session.train_config(DGEXRegressor(**PARAMETERS), data[0], one_set(21))
    with (
        pytest.raises(
            MemoryError, match=r"1e-09 GB for weights and 2e-09 GB for profiles of each.*data_location='host'"
        ),
        _memory.shortage_explained(config, Layout(select_devices(1)), _memory.Demand(profiles=2, weights=1)),
    ):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")


def test_a_shortage_in_prediction_is_explained(data, monkeypatch):
    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")

    model = DGEXRegressor(**PARAMETERS).fit(*data)
    monkeypatch.setattr(_regressor, "predict", full)
    with pytest.raises(MemoryError, match=r"Predicting with a network of 12 x 24 x 10 x 21 units on 1 cpu device\(s\)"):
        model.predict(data[0])


def test_other_errors_of_the_runtime_are_left_alone(data):
    config = _session.train_config(DGEXRegressor(**PARAMETERS), data[0], one_set(21))
    error = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="something else"),
        _memory.shortage_explained(config, Layout(select_devices(1)), _memory.Demand(1, 1)),
    ):
        raise error


def test_the_next_piece_is_loaded_while_one_is_used(data, small_pieces, monkeypatch):
    loads, second_load = [], threading.Event()
    original = Layout.place_targets

    def place_targets(*arguments):
        loads.append(arguments)
        if len(loads) == 2:
            second_load.set()
        return original(*arguments)

    monkeypatch.setattr(Layout, "place_targets", place_targets)
    profiles = ProfileSet(*data, np.arange(700), one_set(21))
    stream = pieces(profiles, np.arange(700), 16, Layout(select_devices(1)), range(44), 1000)
    first = next(stream)
    assert second_load.wait(60), "the second piece has to come without being asked for"
    assert (first.offset, first.start, first.stop) == (0, 0, 3)
    rest = list(stream)
    assert [(piece.offset, piece.start, piece.stop) for piece in rest][-1] == (42, 42, 44)
    np.testing.assert_array_equal(np.asarray(rest[-1].X)[:28], data[0][672:])
    assert {piece.X.shape for piece in [first, *rest]} == {(48, 12)}


def test_a_failing_read_ends_training_with_its_error(data, small_pieces):
    class Broken(np.ndarray):
        def take(self, *arguments, **options):
            raise OSError("the disk is gone")

    profiles = ProfileSet(data[0].view(Broken), data[1], np.arange(700), one_set(21))
    stream = pieces(profiles, np.arange(700), 16, Layout(select_devices(1)), range(44), 9)
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def test_rows_are_padded_to_whole_blocks():
    padded = padded_rows(np.array([5, 3, 1]), n_stored=10, block=4)
    assert padded.dtype == np.int32
    assert padded.tolist() == [5, 3, 1] + [0] * 13  # three blocks, and one more


@pytest.mark.parametrize("batch_size", [700, 1000])
def test_an_epoch_of_one_mini_batch_is_the_same_streamed(data, batch_size):
    parameters = {**PARAMETERS, "batch_size": batch_size, "validation_fraction": 0}
    streamed, resident = (DGEXRegressor(**parameters, data_location=where).fit(*data) for where in ("host", "device"))
    assert_same_training(streamed, resident)


def test_cpus_read_what_they_can_in_place_and_copy_little(data, monkeypatch):
    X, y = data
    layout, demand = Layout(select_devices(1)), _memory.Demand(profiles=100, weights=1)
    aligned = [_sharding.aligned_zeros((160_256, n)) for n in (2, 3)]
    assert _memory.copied_by_cpus(layout, [aligned], demand) == 0
    elsewhere = aligned[0].ravel()[1:].reshape(1, -1)
    for array in (elsewhere, aligned[0].astype(np.float64), aligned[0].T, aligned[0][:7]):
        assert _memory.copied_by_cpus(layout, [aligned, (array, array)], demand) == 100
    assert _memory.copied_by_cpus(Layout(select_devices(1), 2), [aligned], demand) == 100
    monkeypatch.setattr(_memory, "LARGEST_COPY", 0)
    opened = []
    original = _session.Session.__init__
    monkeypatch.setattr(_session.Session, "__init__", lambda *a, **k: opened.append(a[0]) or original(*a, **k))
    streamed = DGEXRegressor(**PARAMETERS).fit(X, y)
    assert not opened[0].data.training.on_devices
    assert_same_training(streamed, DGEXRegressor(**PARAMETERS, data_location="device").fit(X, y))


def test_rows_are_gathered_as_float32_into_memory_to_be_used_in_place():
    array = np.arange(30.0).reshape(10, 3)
    for dtype in (np.float32, np.float64):
        gathered = _sharding.gathered_rows(array.astype(dtype), np.array([7, 2, 2]), 5)
        assert gathered.tolist() == [*array[[7, 2, 2]].tolist(), [0, 0, 0], [0, 0, 0]]
        assert gathered.dtype == np.float32
        assert gathered.ctypes.data % _sharding.ALIGNMENT == 0
