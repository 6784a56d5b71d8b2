"""What the regressors have in common."""

from __future__ import annotations

from typing import Any

from sklearn.base import RegressorMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from dgex import _validation
from dgex._frames import frame_values


class GeneRegressorMixin(RegressorMixin):
    """A regressor from landmark genes to target genes whose names it knows."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination, averaged over targets.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets) or (n_profiles,)
            Measured expression of the target genes, in the order of training.
        sample_weight : array-like of shape (n_profiles,), default=None
            Weights of the profiles.

        Returns
        -------
        score : float
            R^2 of the predictions.
        """
        check_is_fitted(self)
        _validation.require_same_profiles(X, y)
        _validation.validated_targets(self, y, "y", reset=False)
        return float(super().score(X, frame_values(y), sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def last_step(model: Any) -> Any:
    """The regressor of a Pipeline, or the model itself; of a search in a Pipeline what it has found."""
    return last_step(getattr(model[-1], "best_estimator_", model[-1])) if isinstance(model, Pipeline) else model


def forget_reliability(model: Any) -> Any:
    """The model without what was stored about how well it inferred each target before it changed."""
    vars(model).pop("target_reliability_", None)
    return model
