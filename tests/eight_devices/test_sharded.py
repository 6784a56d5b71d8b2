"""What holds on several devices; run by tests/test_sharding.py in a process with eight virtual ones."""

import os
import pickle
import re
import threading
from collections import Counter
from pathlib import Path

import jax
import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from dgex import DGEXRegressor, _prediction, _session, _sharding, _training
from dgex._network import Layer, NetworkConfig
from dgex._optimizer import AT_REST, LearningRateDecay
from dgex._partition import random_sets
from dgex._profiles import ProfileSet
from dgex._programs import (
    BLOCK_ROWS,
    Rates,
    Scaling,
    TrainConfig,
    error_program,
    error_rows,
    place_scaling,
    predict_program,
    state_structure,
    step_program,
)
from dgex._sharding import NETWORKS, UNITS, Layout, devices_in_use, select_devices
from dgex.interpretation import landmark_attribution


def problem(n_profiles=90, n_landmarks=12, n_targets=21, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(8, 2, (n_profiles, n_landmarks)).astype(np.float32)
    y = (np.tanh(X - 8) @ rng.normal(size=(n_landmarks, n_targets)) + rng.normal(size=(n_profiles, n_targets))).astype(
        np.float32
    )
    return X, y


def fitted(devices, **parameters):
    parameters = {
        "hidden_layer_sizes": (24, 10),
        "dropout": 0.3,
        "batch_size": 16,
        "max_iter": 15,
        "learning_rate_init": 3e-3,
        "random_state": 0,
        **parameters,
    }
    return DGEXRegressor(**parameters, devices=devices).fit(*problem())


def test_there_are_eight_devices():
    assert len(jax.devices()) == 8


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
@pytest.mark.parametrize("devices", [2, 3, 4, 8])
def test_the_model_does_not_depend_on_the_number_of_devices(devices, solver):
    # 24, 10 and 21 are divisible by some of the counts only; dropout is on, for 15 epochs.
    one, several = fitted(1, solver=solver), fitted(devices, solver=solver)
    for a, b in zip([*one.coefs_, *one.intercepts_], [*several.coefs_, *several.intercepts_], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    assert [r["learning_rate"] for r in one.history_] == [r["learning_rate"] for r in several.history_]
    np.testing.assert_allclose(
        [r["validation_mae_0"] for r in one.history_], [r["validation_mae_0"] for r in several.history_], rtol=1e-5
    )
    X, _ = problem()
    np.testing.assert_allclose(one.predict(X), several.predict(X), rtol=1e-4, atol=1e-4)


def test_all_visible_devices_are_the_default():
    assert len(select_devices(None)) == 8
    assert select_devices(3) == tuple(jax.devices()[:3])
    assert select_devices([5, 2]) == (jax.devices()[5], jax.devices()[2])
    with devices_in_use(np.array([5, 2])) as chosen:
        assert chosen == select_devices([5, 2])
    with pytest.raises(ValueError, match=r"devices=9, but only 8 cpu device\(s\) are visible"):
        select_devices(9)


def test_a_grid_search_trains_one_candidate_per_device(monkeypatch):
    # With four threads, never two candidates on one device, and the results of one device in one thread.
    busy, users, most = threading.Lock(), Counter(), Counter()
    original = _session.Session.train

    def train(session, *arguments):
        (device,) = session.layout.devices
        with busy:
            users[device] += 1
            most[device] = max(most[device], users[device])
            together.append(sum(users.values()))
        try:
            meeting.wait(60)  # all four train at the same time
            return original(session, *arguments)
        finally:
            with busy:
                users[device] -= 1

    together, meeting = [], threading.Barrier(4)
    X, y = problem()
    grid = {"dropout": [0.0, 0.1], "momentum": [0.3, 0.5]}

    def searched(devices, n_jobs):
        model = DGEXRegressor(hidden_layer_sizes=(10,), max_iter=3, random_state=0, devices=devices)
        with joblib.parallel_config(backend="threading"):
            return GridSearchCV(model, grid, cv=2, n_jobs=n_jobs, refit=False).fit(X, y)

    with monkeypatch.context() as patch:
        patch.setattr(_session.Session, "train", train)
        parallel = searched("one", 4)
    assert set(most.values()) == {1}
    assert len(most) >= 4
    assert max(together) == 4
    assert not any(_sharding._users.values())
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], searched(1, 1).cv_results_["mean_test_score"], rtol=1e-5
    )


def test_a_device_is_given_back_after_a_failure():
    X, y = problem()
    with pytest.raises(ValueError, match="learning_rate_min"):
        DGEXRegressor(devices="one", learning_rate_min=1.0).fit(X, y)
    assert not any(_sharding._users.values())


def test_going_on_with_another_number_of_devices():
    straight = fitted(1, max_iter=20)
    moved = fitted(2, max_iter=10, warm_start=True)
    moved = pickle.loads(pickle.dumps(moved)).set_params(devices=8).fit(*problem())
    for a, b in zip(straight.coefs_, moved.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


def training(devices, network, batch_size=16, solver="sgd", dropout=True):
    """A run with its data on the given number of devices."""
    layout = Layout(select_devices(devices), network.n_networks)
    config = TrainConfig(network, "squared_error", solver, batch_size, dropout)
    n_targets = network.n_networks * network.n_outputs
    X, y = problem(64, network.n_inputs, n_targets)
    targets = random_sets(n_targets, network.n_networks, np.random.default_rng(0))
    profiles = ProfileSet(layout.place_landmarks(X), layout.place_targets(y, targets), np.arange(64), targets)
    ones = [np.ones(n) for n in (network.n_inputs, n_targets)]
    scaling = place_scaling(Scaling(8 * ones[0], 2 * ones[0], 0 * ones[1], ones[1]), targets, layout)
    data = _training.TrainingData(profiles, profiles, (), scaling, fingerprint=0)
    one = np.ones(network.n_networks)
    rates = AT_REST._replace(
        learning_rate=1e-3 * one,
        momentum=0.5,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        layer_rates=(Layer(one, one),) * len(network.layer_shapes),
    )
    run = _training.start_run(
        config, layout, targets, np.ones(config.network.n_inputs, bool), 0, LearningRateDecay(1e-3, 0.9, 1e-5)
    )
    return layout, config, data, Rates(rates, 0.2), run


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_every_array_of_the_state_is_sharded_before_and_after_training(solver):
    layout, config, data, rates, run = training(8, NetworkConfig(12, (32, 16), 40), solver=solver)
    structure = jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), run.state)

    def check(state):
        for array in jax.tree.leaves(state):
            if array.ndim:
                assert (array.sharding.spec[0], array.sharding.spec[-1]) == (NETWORKS, UNITS)
                assert {shard.data.shape[-1] for shard in array.addressable_shards} == {array.shape[-1] // 8}

    check(run.state)
    _training.train(run, config, layout, data, rates, n_epochs=2)
    check(run.state)
    assert jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), run.state) == structure
    assert tuple(data.training.y.sharding.spec) == (NETWORKS, None, UNITS)
    assert {shard.data.shape for shard in data.training.y.addressable_shards} == {(1, 512, 5)}


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu"])
def test_padded_units_and_targets_stay_exactly_zero(solver, activation):
    network = NetworkConfig(12, (21, 10), 35, activation=activation)
    layout, config, data, rates, run = training(8, network, solver=solver)
    _training.train(run, config, layout, data, rates, n_epochs=3)
    parameters = jax.tree.map(lambda array: array[0], run.state.parameters)
    for (kernel, bias), (fan_in, fan_out) in zip(parameters, network.layer_shapes, strict=True):
        assert kernel.shape[1] % 8 == 0
        assert kernel.shape[1] > fan_out
        kernel, bias = np.asarray(kernel), np.asarray(bias)
        assert np.abs(kernel[:fan_in, :fan_out]).min() > 0
        assert not kernel[fan_in:].any()
        assert not kernel[:, fan_out:].any()
        assert not bias[fan_out:].any()


def compiled_steps(devices, network, batch_size=16):
    layout, config, data, rates, run = training(devices, network, batch_size)
    X, y = data.training.X, data.training.y
    order = data.training.in_blocks(layout, batch_size)
    program = step_program(config, layout)
    return program.lower(
        run.state, np.zeros(network.n_networks, np.float32), X, y, data.scaling, order, 0, 64, rates, 0, 0, 0, 4
    ).compile()


def test_only_activations_travel_between_devices():
    # Two hidden layers: their activations are gathered on the way up, the errors summed on the way down. Kernels of
    # 64 x 128 and 128 x 800 would be larger than any of these.
    batch, widths = 16, (64, 128)
    text = compiled_steps(8, NetworkConfig(12, widths, 800), batch).as_text()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast|ragged-all-to-all"
    results = re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", text)
    assert {kind for _, kind in results} == {"all-gather", "all-reduce"}
    # Several arrays of any type may travel together.
    shapes = [shape for result, _ in results for shape in re.findall(r"\w+\[([\d,]*)\]", result)]
    sizes = [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]
    assert max(sizes) <= batch * max(widths)
    assert sum(size == batch * width for size in sizes for width in widths) >= 3


TRAVEL = r"all-gather|all-reduce|all-to-all|collective|reduce-scatter|send|recv"


@pytest.mark.parametrize(("devices", "n_networks"), [(1, 8), (2, 8), (4, 8), (8, 8), (4, 4), (2, 6)])
def test_nothing_travels_between_networks(devices, n_networks):
    network = NetworkConfig(12, (64, 32), 20, n_networks=n_networks)
    step = compiled_steps(devices, network).as_text()
    layout, config, data, _, run = training(devices, network)
    X, y = data.training.X, data.training.y
    total = layout.put(np.zeros((n_networks, 20), np.float32), layout.divided(2))
    block_rows = error_rows(len(X))
    numbers = data.training.in_blocks(layout, block_rows)
    of_errors = error_program(config.network, layout, block_rows).lower(
        total, run.state.parameters, X, y, data.scaling, numbers, 0, 64, 0, 1
    )
    x = layout.put(np.zeros((BLOCK_ROWS, 12), np.float32), layout.replicated)
    of_predictions = predict_program(config.network, layout).lower(run.state.parameters, data.scaling, x)
    for text in (step, of_errors.compile().as_text(), of_predictions.compile().as_text()):
        assert not re.search(TRAVEL, text)
        assert "dot" in text


def test_what_travels_on_a_grid_stays_within_a_network():
    # Two networks on four devices each: groups of four, numbered one after the other.
    text = compiled_steps(8, NetworkConfig(12, (64, 128), 800, n_networks=2)).as_text()
    groups = re.findall(r"(?:all-gather|all-reduce)(?:-start)?\(.*?replica_groups=(\S+?),? ", text)
    assert groups
    assert {group.rstrip(",") for group in groups} <= {"[2,4]<=[8]", "{{0,1,2,3},{4,5,6,7}}"}


# Without AVX-512, XLA multiplies one network in another way than several; two or more are the same everywhere.
CPU = Path("/proc/cpuinfo")
ONE_EACH = (8,) if CPU.exists() and "avx512f" in CPU.read_text() else ()
EXACT = [
    ((1, 2, 4, *ONE_EACH), {"n_partitions": 8}),
    ((1, 4), {"n_partitions": 16, "hidden_layer_sizes": (24,), "activation": "relu", "partition": "clustered"}),
    ((1, 4, *ONE_EACH), {"n_partitions": 8, "loss": "huber"}),
]
if "--xla_cpu_max_isa=AVX" in os.environ.get("XLA_FLAGS", ""):  # no instructions that multiply and add
    ACTIVATIONS = ("tanh", "gelu", "silu")
    EXACT = [((1, 2, 4, *ONE_EACH), {"n_partitions": 8, "solver": "adamw", "activation": name}) for name in ACTIVATIONS]


@pytest.mark.parametrize(("counts", "parameters"), EXACT)
def test_partitions_are_the_same_to_the_last_bit_on_any_number_of_devices(counts, parameters):
    models = [fitted(devices, **parameters) for devices in counts]
    X, _ = problem()
    for model in models[1:]:
        for a, b in zip([*models[0].coefs_, *models[0].intercepts_], [*model.coefs_, *model.intercepts_], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(models[0].predict(X), model.predict(X))
        for ours, theirs in zip(models[0].history_, model.history_, strict=True):
            names = [name for name in ours if "mae" in name or "learning_rate" in name]
            assert [ours[name] for name in names] == [theirs[name] for name in names]


def test_a_network_for_each_device_is_the_same_but_for_rounding():
    one, several = (fitted(devices, n_partitions=8) for devices in (1, 8))
    for a, b in zip([*one.coefs_, *one.intercepts_], [*several.coefs_, *several.intercepts_], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("n_partitions", "devices", "solver"), [(2, 8, "sgd"), (3, 2, "adamw"), (6, 4, "sgd")])
def test_partitions_that_the_devices_do_not_divide_use_all_of_them(n_partitions, devices, solver, monkeypatch):
    opened = []
    original = _session.Session.__init__
    monkeypatch.setattr(_session.Session, "__init__", lambda *a, **k: opened.append(a[0]) or original(*a, **k))
    one, several = (fitted(n, n_partitions=n_partitions, solver=solver) for n in (1, devices))
    for array in jax.tree.leaves(opened[1].data.training.y):
        assert len({shard.device for shard in array.addressable_shards}) == devices
        assert len({str(shard.index) for shard in array.addressable_shards}) == devices
    for a, b in zip([*one.coefs_, *one.intercepts_], [*several.coefs_, *several.intercepts_], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(one.partition_, several.partition_)


def test_a_step_copies_no_kernel():
    network = NetworkConfig(12, (512, 512), 2048)
    copied = re.findall(r"= f32\[([\d,]*)\]\S* copy\(", compiled_steps(1, network).as_text())
    assert copied  # the targets of a mini-batch, and biases
    assert not set(copied) & {f"1,{fan_in},{fan_out}" for fan_in, fan_out in network.layer_shapes}


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_no_sum_draws_the_dropped_units_again(activation):
    # Written out for every term of a sum, the random words took minutes to compile (in networks without activations).
    text = compiled_steps(1, NetworkConfig(12, (24, 10), 21, activation=activation), batch_size=20).as_text()
    drawing = [computation for computation in text.split("\n\n") if " xor(" in computation]
    assert drawing, "the drawing of words is not recognized any more"
    terms = re.compile(r"= f32\[\S+ slice\(")
    assert terms.search(text), "nor are the sums"
    assert not any(terms.search(computation) for computation in drawing)


def test_memory_per_device_falls_with_the_number_of_devices():
    network = NetworkConfig(12, (512, 512), 2048)
    bytes_by_count = {n: compiled_steps(n, network).memory_analysis().argument_size_in_bytes for n in (1, 2, 4, 8)}
    replicated = 512 * 12 * 4 + 1000  # the landmarks and some numbers
    for count, size in bytes_by_count.items():
        assert size < bytes_by_count[1] / count + replicated
    structure = state_structure(TrainConfig(network, "squared_error", "sgd", 16, True))
    state = sum(leaf.size * 4 for leaf in jax.tree.leaves(structure))
    assert bytes_by_count[1] > state


@pytest.mark.parametrize("method", ["jacobian", "integrated_gradients"])
def test_attributions_are_the_same_on_all_devices(method):
    X, _ = problem()
    model = fitted(8, n_partitions=2)
    on_all = landmark_attribution(model, X, method=method)
    on_one = landmark_attribution(model.set_params(devices=1), X, method=method)
    np.testing.assert_allclose(on_all.mean, on_one.mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(on_all.magnitude, on_one.magnitude, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_partitions", [1, 2])
def test_a_linear_path_and_a_start_in_closed_form_are_divided_like_the_rest(n_partitions):
    modern = {"linear_path": True, "activation": "abs", "start": "closed_form", "n_partitions": n_partitions}
    X, _ = problem()
    for epochs in (0, 5):
        models = [fitted(devices, **modern, max_iter=epochs) for devices in (1, 8)]
        np.testing.assert_allclose(models[1].predict(X), models[0].predict(X), rtol=1e-3, atol=1e-3)
        assert models[1].coefs_[-1].shape == (10 + 12, 21)


@pytest.mark.parametrize("n_partitions", [1, 2])
def test_devices_and_host_finish_predictions_alike(n_partitions, monkeypatch):
    monkeypatch.setattr(_prediction, "TILE_TARGETS", 7)
    model = fitted(8, n_partitions=n_partitions)
    X, _ = problem(n_profiles=700)
    np.testing.assert_array_equal(model.predict(X[::-1])[::-1], model.predict(X))
    monkeypatch.setattr(_prediction, "multiplied_on_host", lambda config, layout: True)
    by_host = model.predict(X)
    monkeypatch.setattr(_prediction, "multiplied_on_host", lambda config, layout: False)
    by_devices = model.predict(X)
    np.testing.assert_allclose(by_host, by_devices, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.predict(X[::-1])[::-1], by_devices)
    np.testing.assert_array_equal(model.predict(X[600:601]), by_devices[600:601])


@pytest.mark.parametrize("n_partitions", [1, 3, 8])
def test_predictions_come_through_page_locked_memory(as_on_gpu, monkeypatch, n_partitions):
    model = fitted(None, n_partitions=n_partitions, max_iter=1)
    by_devices = model.predict(problem()[0])
    monkeypatch.setattr(Layout, "platform", "cpu")
    np.testing.assert_allclose(by_devices, model.predict(problem()[0]), rtol=1e-4, atol=1e-5)
