import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgex._draws import epoch_key
from dgex._mlp import MLP, dropout, initial_parameters
from dgex._network import ACTIVATIONS, Layer, NetworkConfig, shown, stacked, sum_over_profiles
from dgex._partition import TargetSets, one_set


def initial(config):
    """Initial parameters of one network as NumPy arrays."""
    parameters = jax.tree.map(np.asarray, initial_parameters(config, epoch_key(0, 0)))
    return shown(parameters, one_set(config.n_outputs))


def test_initial_weights_have_the_papers_distributions():
    config = NetworkConfig(943, (500, 400), 600)
    (w1, b1), (w2, b2), (w3, b3) = initial(config)
    for kernel, bound in [(w1, np.sqrt(6 / (943 + 500))), (w2, np.sqrt(6 / (500 + 400))), (w3, 1e-4)]:
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.999 * bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)  # of U(-bound, bound)
        assert abs(kernel.mean()) < 0.01 * bound
    for bias in (b1, b2, b3):
        assert not bias.any()


def test_forward_pass_equals_numpy():
    config = NetworkConfig(7, (5, 4), 3, activation="relu")
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(np.float32), initial(config))
    x = rng.standard_normal((10, 7)).astype(np.float32)
    h = x
    for kernel, bias in parameters[:-1]:
        h = np.maximum(h @ kernel + bias, 0)
    module = MLP.of(config, parameters)
    np.testing.assert_allclose(module.last_hidden(x), h, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(module(x), h @ parameters[-1].kernel + parameters[-1].bias, rtol=1e-4, atol=1e-4)


def test_dropout_comes_after_every_hidden_layer_and_never_before():
    # With identity activations and weights of one, each output is the sum over paths of the two masks' product.
    config = NetworkConfig(3, (64, 32), 1, activation="identity")
    parameters = jax.tree.map(jnp.ones_like, initial(config))
    parameters = tuple(layer._replace(bias=jnp.zeros_like(layer.bias)) for layer in parameters)
    key = epoch_key(5, 0)
    output = float(MLP.of(config, parameters)(jnp.ones((1, 3)), jnp.float32(0.5), key)[0, 0])
    kept = [
        int((dropout(jnp.ones((1, width)), jnp.float32(0.5), jax.random.fold_in(key, depth)) > 0).sum())
        for depth, width in enumerate((64, 32))
    ]
    assert output == pytest.approx(3 * (2 * kept[0]) * (2 * kept[1]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_map_zero_to_zero(name):
    # What padding relies on.
    assert float(ACTIVATIONS[name](jnp.zeros(()))) == 0.0


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_dropout_rate_scale_and_independence(rate):
    n_rows, n_units, n_steps = 200, 300, 20
    masks = np.stack(
        [
            np.asarray(dropout(jnp.ones((n_rows, n_units)), jnp.float32(rate), epoch_key(step, 0)))
            for step in range(n_steps)
        ]
    )
    assert set(np.unique(masks)) <= {0.0, np.float32(1.0) / (np.float32(1.0) - np.float32(rate))}
    dropped = masks == 0
    # Five standard errors of a binomial proportion, over everything, by unit, by row and by step.
    for axis in [(0, 1, 2), (0, 1), (0, 2), (1, 2)]:
        count = np.prod([dropped.shape[a] for a in axis])
        assert np.abs(dropped.mean(axis=axis) - rate).max() < 5 * np.sqrt(rate * (1 - rate) / count)
    centred = (dropped - rate) / np.sqrt(rate * (1 - rate))
    by_unit = centred.reshape(-1, n_units)
    by_row = centred.transpose(1, 0, 2).reshape(n_rows, -1)
    by_step = centred.reshape(n_steps, -1)
    for samples in (by_unit.T, by_row, by_step):
        correlations = samples @ samples.T / samples.shape[1]
        np.fill_diagonal(correlations, 0)
        assert np.abs(correlations).max() < 6 / np.sqrt(samples.shape[1])


def test_dropout_does_not_depend_on_the_width_of_the_layer():
    # Padded and sharded layers drop the same units.
    key, rate = epoch_key(1, 0), jnp.float32(0.3)
    narrow, wide = (dropout(jnp.ones((8, width)), rate, key) for width in (10, 16))
    np.testing.assert_array_equal(narrow, wide[:, :10])


def test_dropout_rate_is_traced():
    compiled = jax.jit(dropout)
    for rate in (0.1, 0.2, 0.7):
        compiled(jnp.ones((4, 4)), jnp.float32(rate), epoch_key(0, 0))
    assert compiled._cache_size() == 1


def test_bfloat16_operands_keep_float32_parameters_and_sums():
    config = NetworkConfig(64, (32,), 8, compute_dtype="bfloat16")
    parameters = initial(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}
    x = jax.random.normal(epoch_key(1, 0), (16, 64))
    low = MLP.of(config, parameters)(x)
    full = MLP.of(NetworkConfig(64, (32,), 8), parameters)(x)
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - full).max() < 0.02 * np.abs(full).max()


@pytest.mark.parametrize("n_networks", [1, 2])
def test_bfloat16_is_the_type_of_all_operands_and_of_no_result(n_networks):
    # Two layers: two products forward, and backward two for the kernels and one for the hidden activations.
    config = NetworkConfig(64, (32,), 8, compute_dtype="bfloat16", n_networks=n_networks)
    stack = initial_parameters(config, epoch_key(0, 0))
    x = jax.random.normal(epoch_key(1, 0), (16, 64))

    def loss(parameters):
        return jnp.sum(jax.vmap(lambda one: MLP.of(config, one)(x))(parameters) ** 2)

    gradients = jax.grad(loss)(stack)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    text = jax.jit(jax.grad(loss)).lower(stack).as_text()
    products = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>\) -> tensor<\S*x(\w+)>", text
    )
    assert len(products) == text.count("stablehlo.dot_general") == 5
    assert set(products) == {("bf16", "bf16", "f32")}
    full = jax.grad(lambda parameters: jnp.sum(MLP.of(NetworkConfig(64, (32,), 8), parameters)(x) ** 2))(
        jax.tree.map(lambda leaf: leaf[0], stack)
    )
    for low, exact in zip(jax.tree.leaves(gradients), jax.tree.leaves(full), strict=True):
        assert np.abs(low[0] - exact).max() < 0.05 * np.abs(exact).max() * n_networks


def test_padding_rounds_widths_up_and_leaves_landmarks():
    assert NetworkConfig(943, (10, 16), 7).padded_to(8) == NetworkConfig(943, (16, 16), 8)
    assert NetworkConfig(943, (10,), 7).padded_to(1) == NetworkConfig(943, (10,), 7)
    assert NetworkConfig(3, (4,), 2).n_parameters == 3 * 4 + 4 + 4 * 2 + 2


def test_networks_of_a_stack_start_differently_and_the_first_as_if_alone():
    stack = initial_parameters(NetworkConfig(5, (4, 3), 6, n_networks=3), epoch_key(0, 0))
    alone = initial_parameters(NetworkConfig(5, (4, 3), 6), epoch_key(0, 0))
    for several, one in zip(jax.tree.leaves(stack), jax.tree.leaves(alone), strict=True):
        assert several.shape == (3, *one.shape[1:])
        np.testing.assert_array_equal(several[:1], one)
    for layer in stack:
        assert len({kernel.tobytes() for kernel in np.asarray(layer.kernel)}) == 3


def test_outputs_without_a_target_start_at_zero():
    present = np.array([[True, True, True], [True, True, False]])
    stack = initial_parameters(NetworkConfig(5, (4,), 3, n_networks=2), epoch_key(0, 0), present)
    assert ((np.asarray(stack[-1].kernel) != 0) == present[:, None]).all()


@pytest.mark.parametrize("partition", [[0, 0, 0, 0], [1, 0, 1, 0], [2, 0, 1, 0]])
def test_parameters_are_shown_by_target(partition):
    targets = TargetSets.of(np.array(partition))
    n_networks, largest = len(targets), targets.largest
    hidden = Layer(np.arange(6.0 * n_networks).reshape(-1, 3, 2), np.arange(2.0 * n_networks).reshape(-1, 2))
    rows = [np.full((2, largest), np.nan) for _ in range(n_networks)]
    for row, members in zip(rows, targets.members, strict=True):
        row[:, : len(members)] = members + np.array([[0], [10]])
    output = Layer(np.array(rows), np.array([row[1] for row in rows]))

    form = shown((hidden, output), targets)
    np.testing.assert_array_equal(form[1].kernel, [[0, 1, 2, 3], [10, 11, 12, 13]])
    np.testing.assert_array_equal(form[1].bias, [10, 11, 12, 13])
    assert form[0].kernel.shape == ((3, 2) if n_networks == 1 else (n_networks, 3, 2))
    back = stacked(form, targets)
    np.testing.assert_array_equal(back[0].kernel, hidden.kernel)
    np.testing.assert_array_equal(back[1].kernel, np.nan_to_num(output.kernel))


@pytest.mark.parametrize("n_profiles", [1, 2, 3, 8, 200])
def test_sum_over_profiles_adds_every_row_once(n_profiles):
    values = np.random.default_rng(0).normal(size=(n_profiles, 5)).astype(np.float32)
    np.testing.assert_allclose(sum_over_profiles(jnp.asarray(values)), values.sum(axis=0), rtol=1e-5, atol=1e-6)
