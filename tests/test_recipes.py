import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dgex import DGEXRegressor, recipes
from dgex.datasets import make_expression_profiles
from dgex.inference import predict_to_file
from dgex.io import ExpressionFileError, open_expression, write_expression


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


def test_the_modern_recipe_is_what_it_says():
    model = recipes.modern(random_state=0, hidden_layer_sizes=50)
    expected = recipes.MODERN | {"random_state": 0, "hidden_layer_sizes": 50}
    defaults = DGEXRegressor().get_params()
    assert model.get_params() == defaults | expected
    assert {name for name, value in recipes.MODERN.items() if value == defaults[name]} == set()
    clone(model)
    assert expected["start_epochs"] < expected["max_iter"]


@pytest.mark.parametrize("nonlinearity", [0.0, 0.8])
def test_the_modern_recipe_is_no_worse_than_ridge_and_better_where_it_can_be(nonlinearity):
    data = make_expression_profiles(1300, n_landmarks=60, n_targets=100, nonlinearity=nonlinearity, random_state=0)
    train, validation, test = slice(0, 800), slice(800, 1000), slice(1000, None)
    model = recipes.modern(hidden_layer_sizes=(500,), random_state=0)
    model.fit(data.X[train], data.y[train], data.X[validation], data.y[validation])
    ridges = [make_pipeline(StandardScaler(), Ridge(alpha)) for alpha in 10.0 ** np.arange(-1, 4)]

    def error(fitted, rows):
        return np.abs(fitted.predict(data.X[rows]) - data.y[rows]).mean()

    ridge = min(
        (ridge.fit(data.X[train], data.y[train]) for ridge in ridges), key=lambda ridge: error(ridge, validation)
    )
    ratio = error(model, test) / error(ridge, test)
    assert ratio < (1.01 if nonlinearity == 0 else 0.9)


LANDMARKS, TARGETS = [str(n) for n in (5720, 466, 6009, 2309)], [str(n) for n in range(8, 15)]


@pytest.fixture(scope="module")
def least_squares():
    """What a pipeline would ship: weights of landmarks and intercept, and the model that they are of."""
    rng = np.random.default_rng(0)
    X, y = (pd.DataFrame(rng.normal(8, 2, (50, len(genes))), columns=genes) for genes in (LANDMARKS, TARGETS))
    model = LinearRegression().fit(X, y)
    return X, model, np.vstack([model.intercept_, model.coef_.T])


@pytest.mark.parametrize("ending", [".gctx", ".tsv.gz"])
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_of_the_cmap_pipeline_predict_what_they_were_fitted_for(least_squares, ending, transposed, tmp_path):
    X, fitted, weights = least_squares
    inputs, path = ["OFFSET", *LANDMARKS], tmp_path / f"weights{ending}"
    if transposed:
        write_expression(path, weights.T, profile_ids=TARGETS, gene_ids=inputs)
    else:
        write_expression(path, weights, profile_ids=inputs, gene_ids=TARGETS)
    model = recipes.cmap_linear(path)
    assert model.feature_names_in_.tolist() == LANDMARKS
    assert model.target_names_.tolist() == TARGETS
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), rtol=1e-4)
    assert clone(model).fit(X, X).coef_ is model.coef_, "fitting changes nothing"


def test_weights_of_the_cmap_pipeline_infer_files(least_squares, tmp_path):
    X, fitted, weights = least_squares
    write_expression(tmp_path / "w.gctx", weights, profile_ids=["OFFSET", *LANDMARKS], gene_ids=TARGETS)
    order = LANDMARKS[::-1]
    write_expression(tmp_path / "x.gctx", X[order], profile_ids=[f"p{n}" for n in range(50)], gene_ids=order)
    model = recipes.cmap_linear(tmp_path / "w.gctx")
    path = predict_to_file(model, tmp_path / "x.gctx", tmp_path / "y.gctx", verbose=False)
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == LANDMARKS + TARGETS
        np.testing.assert_allclose(file.read(genes=TARGETS), fitted.predict(X), rtol=1e-4)


def test_matrices_that_are_not_weights_are_refused(least_squares, tmp_path):
    _, _, weights = least_squares
    path = tmp_path / "weights.gctx"
    write_expression(path, weights[1:], profile_ids=LANDMARKS, gene_ids=TARGETS)
    with pytest.raises(ExpressionFileError, match=r"0 inputs called like an intercept.*'OFFSET'.*rows are 5720, 466"):
        recipes.cmap_linear(path)
    write_expression(path, weights[:2], profile_ids=["OFFSET", "Intercept"], gene_ids=TARGETS)
    with pytest.raises(ExpressionFileError, match="got 2 inputs called like an intercept"):
        recipes.cmap_linear(path)
    weights = weights.copy()
    weights[2, 3] = np.nan
    write_expression(path, weights, profile_ids=["OFFSET", *LANDMARKS], gene_ids=TARGETS)
    with pytest.raises(ExpressionFileError, match="weights of 1 targets are not finite: 11"):
        recipes.cmap_linear(path)
