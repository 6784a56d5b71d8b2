import pytest

from dgex import DGEXRegressor, recipes


def test_the_27_configurations_of_the_paper():
    models = [recipes.paper(name) for name in recipes.PAPER_CONFIGURATIONS]
    shapes = {(model.hidden_layer_sizes, model.dropout) for model in models}
    assert len(shapes) == len(models) == 27
    assert {dropout for _, dropout in shapes} == {0.0, 0.1, 0.25}
    assert {sizes for sizes, _ in shapes} == {(n,) * depth for n in (3000, 6000, 9000) for depth in (1, 2, 3)}
    assert recipes.paper("D-GEX-25%-9000x2").hidden_layer_sizes == (9000, 9000)
    # All else is the estimator's default: the paper's recipe.
    changed = {"hidden_layer_sizes", "dropout"}
    defaults = DGEXRegressor().get_params()
    for model in models:
        assert {name for name, value in model.get_params().items() if value != defaults[name]} <= changed


def test_the_defaults_are_the_papers_method():
    expected = {
        "activation": "tanh",
        "loss": "squared_error",
        "solver": "sgd",
        "batch_size": 200,
        "momentum": 0.5,
        "learning_rate_decay": 0.9,
        "learning_rate_min": 1e-5,
        "max_iter": 200,
        "monitor_size": 5000,
        "standardize": True,
        "early_stopping": False,
    }
    assert expected.items() <= DGEXRegressor().get_params().items()


def test_parameters_are_passed_on_and_unknown_names_refused():
    model = recipes.paper("D-GEX-0%-3000x1", random_state=3, dropout=0.4)
    assert (model.random_state, model.dropout) == (3, 0.4)
    with pytest.raises(ValueError, match="Got name='D-GEX-50%-3000x1'"):
        recipes.paper("D-GEX-50%-3000x1")
