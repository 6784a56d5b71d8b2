"""Sweep over dropout, architecture and loss on the paper's terms, a fixed validation set, and go on after an interrupt.

First all candidates (`GridSearchCV`), then successive halving over epochs (`HalvingGridSearchCV`), in which most
candidates get few of them. What was fitted is kept in a folder: run it again after an interrupt, and only the rest is
trained. Candidates that differ in their dropout rate alone share one compiled program.

Writes `sweep.png`, the validation error by architecture, dropout and loss, as Figure 1 of the paper has it. Needs
matplotlib; about three minutes on two cores, a few seconds the second time.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, PredefinedSplit

from dgex import DGEXRegressor
from dgex.datasets import make_expression_profiles
from dgex.metrics import neg_standardized_error_scorer
from dgex.plotting import ArchitectureDisplay

LOSSES = ("squared_error", "absolute_error")
CANDIDATES = {
    "estimator__hidden_layer_sizes": [(100,), (300,), (100, 100), (300, 300)],
    "estimator__dropout": [0.1, 0.25, 0.5],
    "estimator__loss": list(LOSSES),
}
EPOCHS = 60


class Remembered(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """An estimator whose fits are looked up in a folder before they are done again."""

    def __init__(self, estimator: Any, folder: str):
        self.estimator = estimator
        self.folder = folder

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Remembered":
        """Fit, or take what was fitted with the same parameters to the same profiles."""
        self.estimator_ = Memory(self.folder, verbose=0).cache(fitted)(clone(self.estimator), X, y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict with what was fitted."""
        return self.estimator_.predict(X)


def fitted(estimator: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """What the folder remembers."""
    return estimator.fit(X, y)


def search(kind: type, model: Any, X: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    """Search the candidates; the last fifth of the profiles is for validation in every one of them."""
    is_validation = np.arange(len(X)) >= 0.8 * len(X)
    fold = np.where(is_validation, 0, -1)  # -1 is in training always
    scoring = neg_standardized_error_scorer
    return kind(model, CANDIDATES, scoring=scoring, cv=PredefinedSplit(fold), refit=False, **options).fit(X, y)


def draw(results: Any, path: Path) -> None:
    """A panel for each loss."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, loss in zip(figure.subplots(1, len(LOSSES), sharey=True), LOSSES, strict=True):
        of_loss = np.flatnonzero(np.array(results["param_estimator__loss"]) == loss)
        chosen = {name: [column[row] for row in of_loss] for name, column in results.items() if name != "params"}
        ArchitectureDisplay.from_cv_results(chosen, label="validation error").plot(ax=axes)
        axes.set_title(loss.replace("_", " "), pad=24)
    figure.savefig(path, dpi=150)


def main(folder: Path, n_profiles: int, epochs: int) -> None:
    """Search twice, print the best candidates and draw."""
    data = make_expression_profiles(n_profiles, n_landmarks=60, n_targets=200, nonlinearity=0.6, random_state=0)
    network = DGEXRegressor(max_iter=epochs, batch_size=50, validation_fraction=0, random_state=0)
    model = Remembered(network, str(folder / "fits"))

    everything = search(GridSearchCV, model, data.X, data.y)
    order = np.argsort(everything.cv_results_["rank_test_score"])
    print(f"{len(order)} candidates, {epochs} epochs each; the best:")
    for row in order[:5]:
        chosen = {name.partition("__")[2]: value for name, value in everything.cv_results_["params"][row].items()}
        print(f"  {-everything.cv_results_['mean_test_score'][row]:.4f}  {chosen}")

    halving = {"resource": "estimator__max_iter", "max_resources": epochs, "min_resources": max(1, epochs // 9)}
    some = search(HalvingGridSearchCV, model, data.X, data.y, **halving)
    best = some.cv_results_["params"][some.best_index_]
    print(f"halving over {some.n_resources_} epochs keeps {some.n_candidates_} candidates and chooses")
    print(f"  { ({name.partition('__')[2]: value for name, value in best.items()}) }")
    draw(everything.cv_results_, folder / "sweep.png")
    print(f"wrote {folder / 'sweep.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("sweep"), help="for fits and the figure")
    parser.add_argument("--n-profiles", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    main(arguments.folder, arguments.n_profiles, arguments.epochs)
