"""`train`: from a file of expression to a file of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline

from dgex._base import last_step
from dgex._commands._genes import columns_of, gene_list, opened_beside
from dgex._files import require_destination
from dgex._plan import warn_of_inferred
from dgex._progress import Progress, amount
from dgex._validation import counted, listed, warn_user
from dgex.io import ExpressionFile, open_expression
from dgex.metrics import overall_error
from dgex.persistence import save_model
from dgex.preprocessing import find_genes, gene_scaling

# What is tried, and chosen by validation profiles, of the models that are not networks.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
NEIGHBORS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)

# The part of the profiles that is held out for that, as of the network's default.
HELD_OUT = 0.1

FEWEST_PROFILES = 2


@dataclass(frozen=True)
class Profiles:
    """What to learn from, and what to choose by."""

    X: np.ndarray
    y: np.ndarray
    validation: tuple[np.ndarray, np.ndarray] | None
    seed: int

    def split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Landmarks and targets to learn from and to choose by; a tenth is held out unless others were given."""
        if self.validation is not None:
            return self.X, self.y, *self.validation
        held_out = np.zeros(len(self.X), dtype=bool)
        n_held_out = max(1, round(HELD_OUT * len(self.X)))
        if len(self.X) - n_held_out < FEWEST_PROFILES:
            raise ValueError(
                f"Got {counted(len(self.X), 'profile')}, of which {n_held_out} would be held out to choose by, but at "
                f"least {FEWEST_PROFILES} have to be left to learn from. Add profiles, or pass validation='other file'."
            )
        held_out[np.random.default_rng(self.seed).permutation(len(self.X))[:n_held_out]] = True
        return self.X[~held_out], self.y[~held_out], self.X[held_out], self.y[held_out]


def train(
    expression: str,
    destination: str,
    *,
    landmarks: str,
    targets: str | None,
    validation: str | None,
    method: str,
    recipe: str | None,
    hidden: list[int] | None,
    dropout: float | None,
    epochs: int | None,
    seed: int,
    settings: list[tuple[str, Any]],
    quiet: bool,
    **reading: Any,
) -> None:
    """Train a model on a file, and save it."""
    parameters = chosen_parameters(
        method, recipe, {"hidden_layer_sizes": hidden, "dropout": dropout, "max_iter": epochs}, dict(settings)
    )
    require_destination(Path(destination), expression, landmarks, targets, validation)
    with open_expression(expression, **reading) as file:
        told = {name: reading[name] for name in ("rows", "metadata")}
        wanted = (None if genes is None else gene_list(genes, **told) for genes in (landmarks, targets))
        names = genes_to_learn(file, *wanted)
        warn_of_inferred(file, find_genes(np.concatenate(names), file.gene_ids), "genes")
        X, y = (complete(file, genes) for genes in names)
        require_profiles(len(X), file.path)
    sets = None
    if validation is not None:
        with opened_beside(validation, **reading) as file:
            columns = [columns_of(file, genes, "genes") for genes in names]
            warn_of_inferred(file, np.concatenate(columns), "genes")
            X_val, y_val = (complete(file, file.gene_ids[genes]) for genes in columns)
            sets = X_val, y_val
    if not quiet:
        print(f"{len(X):,} profiles, {X.shape[1]:,} landmarks, {y.shape[1]:,} targets", flush=True)
    model, error = TRAINERS[method](Profiles(X, y, sets, seed), parameters, quiet)
    first = model[0] if isinstance(model, Pipeline) else model
    first.feature_names_in_, last_step(model).target_names_ = names
    save_model(model, destination)
    if not quiet:
        if not np.isnan(error):
            print(f"mean absolute error on validation profiles, standardized: {error:.4f}")
        print(f"{destination}: {amount(Path(destination).stat().st_size, 'B')}")


def chosen_parameters(
    method: str, recipe: str | None, of_network: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Parameters of the estimator: those of the recipe, then what was asked for."""
    of_network = {name: value for name, value in of_network.items() if value is not None}
    if method != "network" and (recipe is not None or of_network):
        raise ValueError(f"Got --method {method} with options of a network. Leave them out, or use --set NAME=VALUE.")
    if recipe is None:
        return of_network | settings
    from dgex import recipes

    if recipe == "modern":
        return recipes.MODERN | of_network | settings
    if recipe not in recipes.PAPER_CONFIGURATIONS:
        raise ValueError(
            f"Got --recipe {recipe}, but expected 'modern' or a configuration of the paper, such as 'D-GEX-10%-3000x1'."
        )
    network = recipes.paper(recipe)
    return {"hidden_layer_sizes": network.hidden_layer_sizes, "dropout": network.dropout} | of_network | settings


def complete(file: ExpressionFile, genes: np.ndarray) -> np.ndarray:
    """Expression of genes for all profiles; an error that names those with missing values."""
    values = file.read(genes=genes)
    missing = genes[~np.isfinite(values).all(axis=0)]
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {len(genes)} genes of {file.path} have missing values: {listed(missing)}. Impute them, "
            "or leave these genes out."
        )
    return values


def require_profiles(number: int, path: Path | str) -> None:
    """Raise unless there are enough to learn from."""
    if number < FEWEST_PROFILES:
        raise ValueError(f"{path} has {counted(number, 'profile')}, but at least {FEWEST_PROFILES} are needed.")


def genes_to_learn(
    file: ExpressionFile, landmarks: np.ndarray | None, targets: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The names, in a file, of the landmarks and of the targets: those asked for, or all others."""
    assert landmarks is not None
    columns = columns_of(file, landmarks, "landmarks")
    if targets is None:
        others = np.setdiff1d(np.arange(len(file.gene_ids)), columns)
    else:
        others = columns_of(file, targets, "targets")
        both = np.isin(others, columns)
        if both.any():
            warn_user(f"{both.sum()} targets are landmarks, too, and left out: {listed(file.gene_ids[others[both]])}.")
        others = others[~both]
    if not len(others):
        raise ValueError(f"Every target in {file.path} is a landmark; none is left to infer.")
    return file.gene_ids[columns], file.gene_ids[others]


def train_network(profiles: Profiles, parameters: dict[str, Any], quiet: bool) -> tuple[Any, float]:
    """The network, and its error on validation profiles."""
    from dgex import DGEXRegressor

    model = DGEXRegressor(random_state=profiles.seed).set_params(**parameters)
    if not quiet:
        model.set_callbacks(EpochProgress(model.max_iter))
    X_val, y_val = profiles.validation or (None, None)
    model.fit(profiles.X, profiles.y, X_val=X_val, y_val=y_val)
    vars(model).pop("_skl_callbacks", None)
    if profiles.validation is None and not model.validation_fraction:
        return model, np.nan
    score = model.best_score_
    return model, score if model.standardize else np.nan


def train_nearest_genes(profiles: Profiles, parameters: dict[str, Any], quiet: bool) -> tuple[Any, float]:
    """KNN-GE with the number of neighbours that is best on validation profiles."""
    from dgex import KNNGeneRegressor

    X, y, X_val, y_val = profiles.split()
    tried = [parameters["n_neighbors"]] if "n_neighbors" in parameters else [k for k in NEIGHBORS if k <= X.shape[1]]
    model = KNNGeneRegressor(standardize=True).set_params(**{**parameters, "n_neighbors": max(tried)}).fit(X, y)
    scale = gene_scaling(y)[1]
    errors = {k: overall_error(y_val, model.set_params(n_neighbors=k).predict(X_val), scale=scale).mean for k in tried}
    best = min(tried, key=errors.__getitem__)
    return model.set_params(n_neighbors=best).fit(profiles.X, profiles.y), errors[best]


def train_ridge(profiles: Profiles, parameters: dict[str, Any], quiet: bool) -> tuple[Any, float]:
    """Ridge regression on standardized landmarks, with the penalty that is best on validation profiles."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    X, y, X_val, y_val = profiles.split()
    tried = [parameters["alpha"]] if "alpha" in parameters else PENALTIES
    model = make_pipeline(StandardScaler(), Ridge().set_params(**parameters))
    scale = gene_scaling(y)[1]
    errors = {}
    for penalty in tried:
        model[-1].set_params(alpha=penalty)
        errors[penalty] = overall_error(y_val, model.fit(X, y).predict(X_val), scale=scale).mean
    best = min(tried, key=errors.__getitem__)
    model[-1].set_params(alpha=best)
    return model.fit(profiles.X, profiles.y), errors[best]


TRAINERS = {"network": train_network, "knn": train_nearest_genes, "ridge": train_ridge}


class EpochProgress:
    """A callback of scikit-learn's that shows how far training is."""

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin."""
        self.progress, self.n_done = Progress(self.n_epochs, "epochs"), 0

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to show yet."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Count an epoch."""
        if context.task_name == "epoch":
            self.n_done += 1
            self.progress.show(self.n_done)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Say how long it took; training may have ended early."""
        self.progress.total = self.n_done
        self.progress.end()
