"""The methods of the protocol, each a function of a split and a seed, that choose on validation profiles only."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

from benchmarks.accuracy._datasets import Profiles, Split
from benchmarks.accuracy._linear import Fitted, lasso, least_squares, partial_least_squares, ridge
from dgex import DGEXRegressor, KNNGeneRegressor, recipes
from dgex.metrics import overall_error

# Numbers of neighbours, of profiles and of genes.
PROFILE_NEIGHBORS = 300
GENE_NEIGHBORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 70, 100)

# One hidden layer, wider than the landmarks; weight decay and epochs are chosen. The largest weight decay was the best
# of five between 1e-4 and 300 on arrays, E. coli and 2,000 generated profiles, and batches of 200 better than of 32.
MLP = {"hidden_layer_sizes": (1000,), "activation": "relu", "learning_rate_init": 1e-3}
MLP_PENALTIES = (1e-4, 10.0, 100.0)
MLP_EPOCHS = 1000
MLP_PATIENCE = 10

# Trees: targets that are drawn, and boosting rounds.
TREE_TARGETS = 50
TREE_ROUNDS = 200
TREES = {
    "learning_rate": 0.1,
    "max_iter": TREE_ROUNDS,
    "max_leaf_nodes": 16,
    "max_features": 0.3,
    "early_stopping": False,
}

# Configurations of the paper that are tried where 27 are too many.
PAPER_CELLS = ("D-GEX-0%-3000x1", "D-GEX-10%-3000x1", "D-GEX-25%-3000x1", "D-GEX-25%-3000x2")

MODERN = "D-GEX modern"

# Networks of which a mean is taken, and what their seeds differ by.
MEMBERS = 4
MEAN = f"{MODERN}, mean of {MEMBERS}"
MEMBER_STEP = 100

# The recommended recipe without the epochs that follow where gentle ones are worth it.
GENTLE = f"{MODERN}, 20 epochs"

Method = Callable[[Split, int], Fitted]


def profile_neighbors(split: Split, seed: int) -> Fitted:
    """The mean of the nearest training profiles, all numbers of neighbours from one search."""
    n_neighbors = min(PROFILE_NEIGHBORS, len(split.train.X))
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(split.train.X)
    errors = [
        overall_error(split.validation.y, predicted).mean
        for predicted in neighbor_means(search, split.train.y, split.validation.X)
    ]
    chosen = int(np.argmin(errors)) + 1

    def predict(X: np.ndarray) -> np.ndarray:
        return next(islice(neighbor_means(search, split.train.y, X), chosen - 1, None))

    return Fitted(predict, {"neighbors": chosen})


def neighbor_means(search: NearestNeighbors, y: np.ndarray, X: np.ndarray) -> Iterator[np.ndarray]:
    """Predictions with one neighbour, two, and so on."""
    total = np.zeros((len(X), y.shape[1]))
    for rank, neighbors in enumerate(search.kneighbors(X, return_distance=False).T, start=1):
        total += y[neighbors]
        yield total / rank


def gene_neighbors(split: Split, seed: int) -> Fitted:
    """KNN-GE, the paper's baseline: the mean of the landmarks nearest to a target."""
    candidates = [n_neighbors for n_neighbors in GENE_NEIGHBORS if n_neighbors <= split.train.X.shape[1]]
    model = KNNGeneRegressor(n_neighbors=max(candidates)).fit(*split.train)
    errors = {
        n_neighbors: overall_error(
            split.validation.y, model.set_params(n_neighbors=n_neighbors).predict(split.validation.X)
        ).mean
        for n_neighbors in candidates
    }
    chosen = min(errors, key=errors.get)
    return Fitted(model.set_params(n_neighbors=chosen).predict, {"neighbors": chosen})


def perceptron(split: Split, seed: int) -> Fitted:
    """scikit-learn's multi-layer perceptron."""
    candidates = [trained_perceptron(split, seed, penalty) for penalty in MLP_PENALTIES]
    _, model, chosen = min(candidates, key=lambda candidate: candidate[0])
    return Fitted(model.predict, chosen)


def trained_perceptron(split: Split, seed: int, penalty: float) -> tuple[float, MLPRegressor, dict]:
    """Validation error and weights of the best epoch; ends when MLP_PATIENCE epochs were no better."""
    model = MLPRegressor(**MLP, alpha=penalty, random_state=seed)
    best_error, best_epoch, weights = np.inf, 0, None
    for epoch in range(1, MLP_EPOCHS + 1):
        model.partial_fit(*split.train)
        error = overall_error(split.validation.y, model.predict(split.validation.X)).mean
        if error < best_error:
            best_error, best_epoch = error, epoch
            weights = [[array.copy() for array in arrays] for arrays in (model.coefs_, model.intercepts_)]
        if epoch - best_epoch == MLP_PATIENCE:
            break
    model.coefs_, model.intercepts_ = weights
    return best_error, model, {"alpha": penalty, "epochs": best_epoch}


def boosted_trees(split: Split, seed: int) -> Fitted:
    """Gradient-boosted trees for some of the targets; the number of rounds is chosen, the same for all of them."""
    n_targets = split.train.y.shape[1]
    targets = np.sort(np.random.default_rng(seed).choice(n_targets, min(TREE_TARGETS, n_targets), replace=False))
    models = [
        HistGradientBoostingRegressor(**TREES, random_state=seed).fit(split.train.X, split.train.y[:, target])
        for target in targets
    ]
    validation = Profiles(split.validation.X, split.validation.y[:, targets])
    errors = np.mean([staged_errors(*pair) for pair in zip(models, paired(validation), strict=True)], axis=0)
    n_rounds = int(errors.argmin()) + 1
    return Fitted(partial(after_rounds, models, n_rounds), {"rounds": n_rounds}, targets)


def paired(profiles: Profiles) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The landmarks with each of the targets."""
    return ((profiles.X, target) for target in profiles.y.T)


def staged_errors(model: HistGradientBoostingRegressor, profiles: tuple[np.ndarray, np.ndarray]) -> list[float]:
    """Mean absolute error after every round."""
    X, y = profiles
    return [float(np.abs(y - predicted).mean()) for predicted in model.staged_predict(X)]


def after_rounds(models: list[HistGradientBoostingRegressor], n_rounds: int, X: np.ndarray) -> np.ndarray:
    """Predictions of the first rounds."""
    return np.column_stack([next(islice(model.staged_predict(X), n_rounds - 1, None)) for model in models])


def paper_recipe(split: Split, seed: int, cells: tuple[str, ...]) -> Fitted:
    """The configuration of the paper with the lowest validation error, of those given."""
    best, errors = None, {}
    for cell in cells:
        model = recipes.paper(cell, standardize=False, random_state=seed)
        model.fit(*split.train, X_val=split.validation.X, y_val=split.validation.y)
        errors[cell] = overall_error(split.validation.y, model.predict(split.validation.X)).mean
        if errors[cell] == min(errors.values()):
            best = model
    name = min(errors, key=errors.get)
    candidates = {cell: float(f"{error:.5g}") for cell, error in errors.items()}
    return Fitted(best.predict, {"configuration": name, "validation MAE by configuration": candidates})


def modern_recipe(split: Split, seed: int, **changes: Any) -> Fitted:
    """What is recommended, as it is or with something changed."""
    return network(recipes.modern(standardize=False, random_state=seed, **changes), split)


def mean_of_modern(split: Split, seed: int) -> Fitted:
    """The mean of several networks of the recommended recipe, which differ by their seeds only."""
    members = [modern_recipe(split, member) for member in range(seed, seed + MEMBERS * MEMBER_STEP, MEMBER_STEP)]
    epochs = [member.chosen["epoch"] for member in members]
    return Fitted(lambda X: np.mean([member.predict(X) for member in members], axis=0), {"epochs": epochs})


def smallest_of_the_paper(split: Split, seed: int, **changes: Any) -> Fitted:
    """The paper's smallest network with dropout, with something changed."""
    return network(recipes.paper("D-GEX-10%-3000x1", standardize=False, random_state=seed, **changes), split)


def network(model: DGEXRegressor, split: Split) -> Fitted:
    """A network whose epoch the validation profiles select."""
    model.fit(*split.train, X_val=split.validation.X, y_val=split.validation.y)
    return Fitted(model.predict, {"epoch": int(model.best_epoch_)})


METHODS: dict[str, Method] = {
    "least squares": least_squares,
    "ridge": ridge,
    "lasso": lasso,
    "partial least squares": partial_least_squares,
    "sample KNN": profile_neighbors,
    "KNN-GE": gene_neighbors,
    "MLPRegressor": perceptron,
    "boosted trees": boosted_trees,
    "D-GEX paper": partial(paper_recipe, cells=PAPER_CELLS),
    MODERN: modern_recipe,
    MEAN: mean_of_modern,
    GENTLE: partial(modern_recipe, max_iter=20),
    "D-GEX paper, 27 cells": partial(paper_recipe, cells=tuple(recipes.PAPER_CONFIGURATIONS)),
}

# What each ingredient of the recipe adds, in the bundle (all but it) and alone (the paper's smallest network with it).
WITHOUT = {
    "training": {"max_iter": 0},
    "the closed form": {"start": "random", "max_iter": 100, "weight_decay": 0.0},
    "the linear path": {"linear_path": False},
    "absolute units": {"activation": "relu"},
    "noise of profiles": {"start_profile_noise": False},
    "penalties of targets": {"start_target_penalties": False},
    "the prior": {"start_prior": False},
    "centring": {"start_centring": False},
    "the absolute error": {"loss": "squared_error"},
    "half of the units": {"hidden_layer_sizes": (3000,)},
}
WITH = {
    "nothing": {},
    "the closed form": {"start": "closed_form"},
    "the linear path": {"linear_path": True},
    "absolute units": {"activation": "abs"},
    "GELU": {"activation": "gelu"},
    "the absolute error": {"loss": "absolute_error"},
    "AdamW and a cosine": {"solver": "adamw", "learning_rate_schedule": "cosine", "max_iter": 100},
    "half of the units dropped": {"dropout": 0.5},
    "batches of 32": {"batch_size": 32},
}
ABLATIONS = {f"modern without {name}": partial(modern_recipe, **changes) for name, changes in WITHOUT.items()}
ABLATIONS |= {f"paper with {name}": partial(smallest_of_the_paper, **changes) for name, changes in WITH.items()}
METHODS |= ABLATIONS

# Not run unless asked for.
ON_REQUEST = (MEAN, GENTLE, "D-GEX paper, 27 cells", *ABLATIONS)

# What the others are compared with: ridge, KNN-GE, and the linear model with the lowest validation error.
LINEAR = ("least squares", "ridge", "lasso")
BASELINES = (*LINEAR, "KNN-GE")
