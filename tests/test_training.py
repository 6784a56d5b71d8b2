"""The training loop with arrays alone."""

import itertools
import math
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from dgex import _signals, _training, _transfer
from dgex._draws import epoch_key
from dgex._mlp import initial_parameters
from dgex._network import Layer, NetworkConfig, shown, stacked
from dgex._optimizer import AT_REST, LearningRateDecay, OptimizerSettings, make_optimizer, paper_layer_rates
from dgex._partition import TargetSets, one_set
from dgex._profiles import ProfileSet
from dgex._programs import Rates, Scaling, TrainConfig, TrainState, place_scaling, step_program
from dgex._sharding import Layout
from dgex._training import BestEpoch, EarlyStopping, TrainingData, TrainingDiverged, TrainingRun


def one_device():
    return Layout((jax.devices()[0],))


def training_data(layout, X, y, validation=(), rows=None, monitor=None):
    """Unscaled data of a run."""
    n_landmarks, n_targets = X.shape[1], y.shape[1]
    scaling = Scaling(np.zeros(n_landmarks), np.ones(n_landmarks), np.zeros(n_targets), np.ones(n_targets))
    rows = np.arange(len(X)) if rows is None else rows
    training = placed(layout, X, y, rows)
    return TrainingData(
        training,
        monitor=training if monitor is None else training._replace(rows=monitor),
        validation=tuple(placed(layout, a, b, np.arange(len(a))) for a, b in validation),
        scaling=place_scaling(scaling, one_set(n_targets), layout),
        fingerprint=0,
    )


def placed(layout, X, y, rows):
    """Some profiles, for one network."""
    targets = one_set(y.shape[1])
    return ProfileSet(layout.place_landmarks(X), layout.place_targets(y, targets), rows, targets)


def initial(network, seed=0):
    """Initial parameters of one network as NumPy arrays."""
    return as_arrays(initial_parameters(network, epoch_key(seed, 0)))


def as_arrays(parameters):
    """Parameters of one network on the devices, as NumPy arrays."""
    return shown(jax.tree.map(np.asarray, parameters), one_set(parameters[-1].bias.shape[-1]))


def sgd_rates(learning_rate, momentum=0.5, n_layers=2, dropout=0.0):
    settings = AT_REST._replace(
        learning_rate=np.array([learning_rate]),
        momentum=momentum,
        layer_rates=tuple(Layer(np.array([a]), np.array([b])) for a, b in paper_layer_rates(n_layers)),
    )
    return Rates(settings, dropout)


def new_run(config, layout, parameters, learning_rate, factor=0.9, minimum=1e-5):
    parameters = stacked(parameters, one_set(config.network.n_outputs))
    state = TrainState(parameters, make_optimizer(config.solver, AT_REST).init(parameters))
    return TrainingRun(layout.place(state), seed=0, decay=(LearningRateDecay(learning_rate, factor, minimum),))


def random_problem(n_profiles=40, n_landmarks=5, n_targets=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_profiles, n_landmarks)).astype(np.float32)
    y = (X @ rng.standard_normal((n_landmarks, n_targets)) * 0.5).astype(np.float32)
    return X, y


def test_two_sgd_steps_equal_arithmetic_worked_by_hand():
    # One landmark, one tanh unit, one target; two profiles, both in each mini-batch, so that their order does not
    # matter. x = (1, -2), y = (1, 0), w1 = 0.5, b1 = 0, w2 = 0.2, b2 = 0, learning rate 0.1, momentum 0.5 Loss: mean
    # over the two profiles of (prediction - y)^2.
    layout = one_device()
    config = TrainConfig(NetworkConfig(1, (1,), 1), "squared_error", "sgd", batch_size=16, dropout=False)
    X, y = np.array([[1.0], [-2.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    w1, b1, w2, b2 = 0.5, 0.0, 0.2, 0.0
    v = [0.0, 0.0, 0.0, 0.0]
    for _ in range(2):
        hidden = [math.tanh(w1 * x + b1) for x in (1.0, -2.0)]
        error = [w2 * h + b2 - t for h, t in zip(hidden, (1.0, 0.0), strict=True)]
        d_w2 = (2 * error[0] * hidden[0] + 2 * error[1] * hidden[1]) / 2
        d_b2 = (2 * error[0] + 2 * error[1]) / 2
        back = [2 * e * w2 * (1 - h * h) / 2 for e, h in zip(error, hidden, strict=True)]
        d_w1, d_b1 = back[0] * 1.0 + back[1] * -2.0, back[0] + back[1]
        # v <- m v - lr g, with three times the learning rate for the weights above the first hidden layer only.
        v = [
            0.5 * v[0] - 0.1 * d_w1,
            0.5 * v[1] - 0.1 * d_b1,
            0.5 * v[2] - 0.3 * d_w2,
            0.5 * v[3] - 0.1 * d_b2,
        ]
        w1, b1, w2, b2 = w1 + v[0], b1 + v[1], w2 + v[2], b2 + v[3]

    start = (
        Layer(np.array([[0.5]], np.float32), np.zeros(1, np.float32)),
        Layer(np.array([[0.2]], np.float32), np.zeros(1, np.float32)),
    )
    run = new_run(config, layout, start, learning_rate=0.1, factor=1.0)
    _training.train(run, config, layout, training_data(layout, X, y), sgd_rates(0.1), n_epochs=2)
    (kernel_1, bias_1), (kernel_2, bias_2) = run.state.parameters
    result = [float(a.ravel()[0]) for a in (kernel_1, bias_1, kernel_2, bias_2)]
    np.testing.assert_allclose(result, [w1, b1, w2, b2], rtol=1e-5)
    velocity = [float(leaf.ravel()[0]) for leaf in jax.tree.leaves(run.state.optimizer)]
    np.testing.assert_allclose(velocity, v, rtol=1e-4)


def test_first_step_by_numbers():
    # The first step of the problem above, down to the digits: hidden = (0.46212, -0.76159),
    # error = (-0.90758, -0.15232), d_w2 = -0.41941 + 0.11600 = -0.30340, so w2 = 0.2 + 0.3 * 0.30340 = 0.29102.
    layout = one_device()
    config = TrainConfig(NetworkConfig(1, (1,), 1), "squared_error", "sgd", batch_size=16, dropout=False)
    X, y = np.array([[1.0], [-2.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    start = (
        Layer(np.array([[0.5]], np.float32), np.zeros(1, np.float32)),
        Layer(np.array([[0.2]], np.float32), np.zeros(1, np.float32)),
    )
    run = new_run(config, layout, start, learning_rate=0.1)
    _training.train(run, config, layout, training_data(layout, X, y), sgd_rates(0.1), n_epochs=1)
    assert float(run.state.parameters[1].kernel.ravel()[0]) == pytest.approx(0.29102, abs=1e-5)


def test_a_velocity_keeps_the_learning_rate_it_was_gained_with():
    # After a decay the old velocity is not rescaled: v2 = m v1 - lr2 g2 with v1 = -lr1 g1.
    settings = AT_REST._replace(learning_rate=np.array([0.1]), momentum=0.5, layer_rates=(np.array([1.0]),))
    parameters, gradients = (np.zeros((1, 1, 1), np.float32),), (np.full((1, 1, 1), 2.0, np.float32),)
    optimizer = make_optimizer("sgd", settings)
    update, state = optimizer.update(gradients, optimizer.init(parameters), parameters)
    assert float(update[0][0, 0, 0]) == pytest.approx(-0.2)
    slower = make_optimizer("sgd", settings._replace(learning_rate=np.array([0.01])))
    update, _ = slower.update(gradients, state, parameters)
    assert float(update[0][0, 0, 0]) == pytest.approx(0.5 * -0.2 - 0.01 * 2.0)


def test_adamw_step_equals_arithmetic_worked_by_hand():
    # The first step of Adam is lr * sign(g) (bias corrections cancel), the decay lr * wd * w, on weights only.
    one = np.array([1.0])
    settings = OptimizerSettings(0.1 * one, 0.0, 0.5, 0.9, 0.999, 1e-8, ((one, one),))
    parameters = ((np.full((1, 1, 1), 2.0, np.float32), np.full((1, 1), 2.0, np.float32)),)
    gradients = ((np.full((1, 1, 1), 3.0, np.float32), np.full((1, 1), -3.0, np.float32)),)
    optimizer = make_optimizer("adamw", settings)
    ((kernel, bias),), _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    assert float(kernel[0, 0, 0]) == pytest.approx(-0.1 * (1 + 0.5 * 2.0), rel=1e-5)
    assert float(bias[0, 0]) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_gradients_equal_finite_differences(loss):
    # One step from rest with momentum 0 and learning rate 1 (factors 1) moves the weights by minus the gradient of the
    # loss, here recomputed in NumPy in float64, summed over targets and averaged over profiles.
    X, y = random_problem(n_profiles=7)
    network = NetworkConfig(5, (4, 3), 3)
    layout = one_device()
    start = initial(network, 1)
    start = (*start[:2], Layer(start[2].kernel * 5000, start[2].bias))  # away from zero, so that hidden layers learn
    config = TrainConfig(network, loss, "sgd", batch_size=16, dropout=False)
    rates = sgd_rates(1.0, momentum=0.0, n_layers=3)
    ones = jax.tree.map(np.ones_like, rates.optimizer.layer_rates)
    rates = rates._replace(optimizer=rates.optimizer._replace(layer_rates=ones))
    run = new_run(config, layout, start, learning_rate=1.0)
    _training.run_steps(run, config, layout, training_data(layout, X, y), rates)
    gradients = jax.tree.map(np.subtract, start, as_arrays(run.state.parameters))

    def total_loss(parameters):
        h = X.astype(np.float64)
        for kernel, bias in parameters[:-1]:
            h = np.tanh(h @ kernel + bias)
        e = np.abs(h @ parameters[-1].kernel + parameters[-1].bias - y)
        values = {"squared_error": e**2, "absolute_error": e, "huber": np.where(e <= 1, e**2, 2 * e - 1)}[loss]
        return values.sum() / len(X)

    precise = jax.tree.map(lambda a: a.astype(np.float64), start)
    leaves, structure = jax.tree.flatten(precise)
    for index, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        for position in [(0,) * leaf.ndim, tuple(size - 1 for size in leaf.shape)]:
            shifted = []
            for step in (1e-6, -1e-6):
                moved = leaf.copy()
                moved[position] += step
                shifted.append(total_loss(structure.unflatten([*leaves[:index], moved, *leaves[index + 1 :]])))
            assert gradient[position] == pytest.approx((shifted[0] - shifted[1]) / 2e-6, rel=2e-3, abs=1e-5)


def test_short_last_mini_batch_weighs_its_profiles_like_the_others():
    # 5 profiles in mini-batches of 2, 2 and 1: with a vanishing learning rate the three steps add up to the gradient of
    # the sum over all 5 profiles, divided by 2. A batch of one that counted like a full one would break this.
    X, y = random_problem(n_profiles=5)
    layout = one_device()
    network = NetworkConfig(5, (4,), 3)
    start = initial(network)

    def moved_by(batch_size, learning_rate):
        config = TrainConfig(network, "squared_error", "sgd", batch_size=batch_size, dropout=False)
        run = new_run(config, layout, start, learning_rate)
        rates = sgd_rates(learning_rate, momentum=0.0)
        _training.run_steps(run, config, layout, training_data(layout, X, y), rates)
        return as_arrays(run.state.parameters)[1].bias / learning_rate

    np.testing.assert_allclose(moved_by(2, 1e-4), moved_by(5, 1e-4) * 5 / 2, rtol=5e-3)


def test_rows_left_out_have_no_influence():
    # Profiles that are stored but not in the set, and padding rows, change neither weights nor errors.
    X, y = random_problem(n_profiles=37)
    layout = one_device()
    network = NetworkConfig(5, (4,), 3)
    config = TrainConfig(network, "squared_error", "sgd", batch_size=8, dropout=False)
    start = initial(network)

    def trained(X, y, rows):
        run = new_run(config, layout, start, 0.01)
        data = training_data(layout, X, y, rows=rows)
        _training.train(run, config, layout, data, sgd_rates(0.01), n_epochs=2)
        return run

    spoiled_X, spoiled_y = X.copy(), y.copy()
    spoiled_X[30:], spoiled_y[30:] = 1e6, -1e6
    clean, spoiled = trained(X, y, np.arange(30)), trained(spoiled_X, spoiled_y, np.arange(30))
    jax.tree.map(np.testing.assert_array_equal, clean.state.parameters, spoiled.state.parameters)
    assert clean.history[-1]["train_mae"] == spoiled.history[-1]["train_mae"]


def test_mean_absolute_errors_equal_numpy():
    X, y = random_problem(n_profiles=300)
    layout = one_device()
    network = NetworkConfig(5, (4,), 3)
    parameters = initial_parameters(network, epoch_key(3, 0))
    profiles = placed(layout, X, y, np.arange(10, 290))
    statistics = [a.astype(np.float64) for a in (X.mean(0), X.std(0), y.mean(0), y.std(0))]
    scaling = place_scaling(Scaling(*statistics), profiles.targets, layout)
    errors = _training.mean_absolute_errors(network, layout, parameters, profiles, scaling)
    (w1, b1), (w2, b2) = as_arrays(parameters)
    z = (X - statistics[0]) / statistics[1]
    prediction = np.tanh(z @ w1 + b1) @ w2 + b2
    expected = np.abs(prediction - (y - statistics[2]) / statistics[3])[10:290].mean(axis=0)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_learning_rate_falls_after_an_epoch_whose_error_rose_and_never_below_the_minimum():
    decay = LearningRateDecay(1e-3, factor=0.5, minimum=3e-4)
    rates = []
    for error in [0.9, 0.8, 0.85, 0.85, 0.7, 0.71, 0.72]:
        decay = decay.update(error)
        rates.append(decay.learning_rate)
    # Rose at the third, sixth and seventh epoch; equal is not a rise.
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 3e-4, 3e-4])


def test_learning_rate_decays_by_the_monitored_error_once_per_epoch():
    X, y = random_problem(n_profiles=64)
    layout = one_device()
    config = TrainConfig(NetworkConfig(5, (4,), 3), "squared_error", "sgd", batch_size=4, dropout=True)
    start = initial(config.network)
    run = new_run(config, layout, start, 0.05)
    _training.train(run, config, layout, training_data(layout, X, y), sgd_rates(0.05, dropout=0.4), n_epochs=25)
    errors = [record["train_mae"] for record in run.history]
    expected, rate = [], 0.05
    for previous, error in zip([math.inf, *errors], [*errors, None], strict=True):
        expected.append(rate)
        if error is not None and error > previous:
            rate = max(rate * 0.9, 1e-5)
    assert [record["learning_rate"] for record in run.history] == pytest.approx(expected[:-1])
    assert any(b > a for a, b in itertools.pairwise(errors)), "the error never rose: the test tests nothing"


def test_best_epoch_is_a_copy_and_every_epoch_counts():
    # Two networks of one target each, two validation sets, three epochs; the weights are the number of the epoch.
    targets = TargetSets((np.array([1]), np.array([0])))
    best = (BestEpoch(), BestEpoch())
    for epoch, errors in enumerate([[(0.5, 0.4), (0.9, 0.1)], [(0.4, 0.6), (0.8, 0.2)], [(0.4, 0.3), (0.7, 0.0)]], 1):
        parameters = (Layer(jax.numpy.full((2, 3, 1), epoch), jax.numpy.full((2, 1), epoch)),)
        best = _training.updated_best(best, parameters, epoch, targets, list(map(np.array, errors)))
        parameters[0].kernel.delete()
    # The first network's target is the second one.
    assert [(record.epochs, record.errors) for record in best] == [((3, 2), (0.3, 0.4)), ((3, 3), (0.0, 0.7))]
    np.testing.assert_array_equal(best[0].parameters[0].kernel[:, 0, 0], [3, 2])
    np.testing.assert_array_equal(best[1].parameters[0].bias[:, 0], [3, 3])


def test_early_stopping_counts_epochs_without_progress_beyond_tol():
    stopping = EarlyStopping(patience=3, tol=0.1)
    exhausted = []
    for error in [1.0, 0.95, 0.8, 0.75, 0.71, 0.7001]:
        stopping = stopping.update(error)
        exhausted.append(stopping.exhausted)
    # Progress: 1.0 and 0.8. The three epochs after that do not fall by more than 0.1 below 0.8.
    assert exhausted == [False, False, False, False, False, True]


def test_divergence_names_epoch_and_learning_rate():
    X, y = random_problem()
    layout = one_device()
    config = TrainConfig(NetworkConfig(5, (4,), 3, activation="identity"), "squared_error", "sgd", 8, dropout=False)
    start = initial(config.network)
    run = new_run(config, layout, start, 1e3)
    with pytest.raises(TrainingDiverged, match=r"in epoch \d+ at learning_rate=1000\. Lower learning_rate_init"):
        _training.train(run, config, layout, training_data(layout, X, y), sgd_rates(1e3), n_epochs=50)


@pytest.fixture
def interrupted_mid_epoch(monkeypatch):
    """Runs one epoch in pieces of one mini-batch; SIGINT arrives inside the third call."""
    X, y = random_problem(n_profiles=64)
    layout = one_device()
    config = TrainConfig(NetworkConfig(5, (4,), 3), "squared_error", "sgd", batch_size=8, dropout=True)
    start = initial(config.network)
    rates, data = sgd_rates(0.01, dropout=0.3), training_data(layout, X, y)

    def run_to_the_end(run):
        _training.train(run, config, layout, data, rates, n_epochs=3 - run.epoch)
        return run

    monkeypatch.setattr(_training, "CPU_FLOPS_PER_CALL", 1)
    straight = run_to_the_end(new_run(config, layout, start, 0.01))
    program, calls = step_program(config, layout), []

    def interrupting(*arguments):
        calls.append(arguments)
        if len(calls) == 11:  # the third mini-batch of the second epoch
            signal.raise_signal(signal.SIGINT)
        return program(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(_training, "step_program", lambda *_: interrupting)
        interrupted = run_to_the_end(new_run(config, layout, start, 0.01))
    return straight, interrupted, run_to_the_end


def test_an_interrupt_loses_no_mini_batch(interrupted_mid_epoch):
    straight, interrupted, run_to_the_end = interrupted_mid_epoch
    assert interrupted.interrupted
    assert (interrupted.epoch, interrupted.step) == (1, 3)
    resumed = run_to_the_end(interrupted)
    assert not resumed.interrupted
    jax.tree.map(np.testing.assert_array_equal, straight.state, resumed.state)
    drop_time = [[{k: v for k, v in r.items() if k != "seconds"} for r in run.history] for run in (straight, resumed)]
    assert drop_time[0] == drop_time[1]


def test_interrupts_are_left_alone_outside_the_main_thread():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with _signals.deferred_keyboard_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_host_copy_of_a_run_stays_as_it_is_when_training_goes_on():
    X, y = random_problem()
    layout = one_device()
    config = TrainConfig(NetworkConfig(5, (4,), 3), "squared_error", "sgd", batch_size=8, dropout=False)
    start = initial(config.network)
    data = training_data(layout, X, y, validation=[(X, y)])
    run = new_run(config, layout, start, 0.01)
    _training.train(run, config, layout, data, sgd_rates(0.01), n_epochs=1)
    host = _transfer.to_host(run, config, one_set(3))
    before = jax.tree.map(np.copy, host.state)
    resumed = _transfer.to_devices(host, config, layout, one_set(3))
    _training.train(resumed, config, layout, data, sgd_rates(0.01), n_epochs=3)
    _training.train(run, config, layout, data, sgd_rates(0.01), n_epochs=3)
    jax.tree.map(np.testing.assert_array_equal, before, host.state)
    jax.tree.map(np.testing.assert_array_equal, run.state, resumed.state)
    assert len(host.history) == 1


def test_best_epochs_are_scored_again_on_other_validation_data():
    X, y = random_problem()
    layout = one_device()
    config = TrainConfig(NetworkConfig(5, (4,), 3), "squared_error", "sgd", batch_size=8, dropout=False)
    start = initial(config.network)
    run = new_run(config, layout, start, 0.01)
    _training.train(run, config, layout, training_data(layout, X, y, [(X, y)]), sgd_rates(0.01), n_epochs=3)
    other = training_data(layout, X, y, [(X, y + 100)])
    rescored = _training.rescored(run.best, config.network, layout, other)
    expected = _training.mean_absolute_errors(
        config.network, layout, run.best[0].parameters, other.validation[0], other.scaling
    )
    assert rescored[0].errors == (expected.mean(),) > run.best[0].errors
    assert rescored[0].epochs == run.best[0].epochs
    # A further set begins with the epoch that predicts, whatever it was chosen on; a set that is gone is forgotten.
    further = replace(other, validation=(*training_data(layout, X, y, [(X, y)]).validation, *other.validation))
    both = _training.rescored(run.best, config.network, layout, further)
    assert both == (run.best[0], rescored[0])
    assert _training.rescored(both, config.network, layout, other) == (rescored[0],)
    assert _training.rescored((), config.network, layout, other) == (BestEpoch(),)


def test_an_interrupt_that_the_system_handles_ends_the_process():
    program = """
import signal
from dgex._signals import deferred_keyboard_interrupt
signal.signal(signal.SIGINT, signal.SIG_DFL)
with deferred_keyboard_interrupt():
    signal.raise_signal(signal.SIGINT)
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "")
