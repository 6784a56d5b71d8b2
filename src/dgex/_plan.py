"""What inference reads, computes and writes: a model's genes found in a source of profiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from dgex._base import last_step
from dgex._frames import is_missing
from dgex._validation import listed, warn_user
from dgex.io import ExpressionFile
from dgex.io._destination import in_single_precision
from dgex.io._metadata import with_missing
from dgex.preprocessing import find_genes

# Bytes of the profiles that are written at a time; about eight times as many are in memory.
CHUNK_BYTES = 2**27

# Networks predict so many profiles at a time on CPUs, and take as long for fewer.
BLOCK_ROWS = 512

# What a gene of the result is: measured, inferred, or a landmark that was not measured: it has the mean of training,
# nothing where the model is left to impute it, or what an earlier inference has made of it.
ROLE, ROLES = "role", ("landmark", "target", "imputed")

# Columns of `target_reliability_` that are written beside the targets.
RELIABILITY = ("error", "correlation", "r_gene", "well_inferred")


@dataclass(frozen=True)
class InferencePlan:
    """What to read, infer and write."""

    model: Any
    source: ExpressionFile
    landmarks: np.ndarray  # names, in the order of the model
    columns: np.ndarray  # of the landmarks in the source; -1 for those that are not there
    fill: np.ndarray | None  # what missing values of landmarks are replaced by; None to raise
    targets: np.ndarray  # names of the targets to write
    inferred: np.ndarray  # which of the model's targets these are
    n_outputs: int  # targets of the model
    warned_of: set[str] = field(default_factory=set)

    @cached_property
    def gene_ids(self) -> np.ndarray:
        """The genes of the file to be."""
        return np.concatenate([self.landmarks, self.targets])

    @cached_property
    def gene_metadata(self) -> dict[str, np.ndarray]:
        """What the source says of the landmarks, and which genes are inferred."""
        there = np.flatnonzero(self.columns >= 0)
        metadata = {ROLE: self.roles}
        for name, column in self.source.gene_metadata.items():
            if name != ROLE:
                taken, missing = np.zeros(len(self.gene_ids), column.dtype), np.ones(len(self.gene_ids), dtype=bool)
                taken[there], missing[there] = column[self.columns[there]], False
                if column.dtype.kind in "iufb":
                    metadata[name] = with_missing(taken, missing)
                else:
                    taken[missing] = None
                    metadata[name] = taken
        return metadata | self.reliability

    @property
    def roles(self) -> np.ndarray:
        """What each gene is, one of `ROLES`."""
        roles = np.array(["target"] * len(self.gene_ids), dtype=object)
        measured = (self.columns >= 0) & ~inferred_before(self.source)[self.columns]
        roles[: len(self.landmarks)] = np.where(measured, "landmark", "imputed")
        return roles

    @cached_property
    def reliability(self) -> dict[str, np.ndarray]:
        """What is stored with the model about how well it infers each target."""
        table = getattr(last_step(self.model), "target_reliability_", None)
        if table is None:
            return {}
        named = getattr(last_step(self.model), "target_names_", None)
        if len(table) != self.n_outputs or (named is not None and not np.array_equal(table["target"], named)):
            raise ValueError(
                f"The reliability that is stored with the model is of {len(table)} other targets: it was fitted again. "
                "Call dgex.interpretation.target_reliability(..., store=True) again."
            )
        columns = {}
        for name in RELIABILITY:
            columns[name] = np.full(len(self.gene_ids), np.nan)
            columns[name][len(self.landmarks) :] = table[name][self.inferred]
        return columns

    @cached_property
    def replaced(self) -> list[str]:
        """What the source says of genes under names that the result has for something else."""
        known = self.source.gene_metadata
        if roles_before(self.source) is not None:  # numbers were written beside them
            return [name for name in self.reliability if name in known and known[name].dtype.kind not in "iufb"]
        return [name for name in (ROLE, *self.reliability) if name in known]

    @property
    def chunk_size(self) -> int:
        """Profiles at a time: few enough for what is written, and for what is read unless that costs a block."""
        of_result, of_source = (max(1, CHUNK_BYTES // (4 * n)) for n in (len(self.gene_ids), self.source.shape[1]))
        n_profiles = min(of_result, max(of_source, BLOCK_ROWS))
        return n_profiles // BLOCK_ROWS * BLOCK_ROWS or n_profiles

    def chunks(self, start: int, stop: int | None = None) -> Iterator[slice]:
        """The profiles from a position on, to the end or another position, some at a time."""
        stop = len(self.source.profile_ids) if stop is None else stop
        for first in range(start, stop, self.chunk_size):
            yield slice(first, min(first + self.chunk_size, stop))

    def last_rows(self, stop: int) -> slice:
        """The profiles of the chunk that ends at a position."""
        return slice((stop - 1) // self.chunk_size * self.chunk_size, stop)

    def read(self, rows: slice) -> np.ndarray:
        """Measured landmarks of some profiles, in the model's order."""
        there = self.columns >= 0
        X = np.full((rows.stop - rows.start, len(self.landmarks)), np.nan, dtype=self.source.dtype)
        X[:, there] = self.source.read(rows, self.columns[there])
        in_single_precision(X, self.source.profile_ids[rows], self.landmarks)  # as they are written
        absent = np.isnan(X)
        if not absent.any():
            return X
        if self.fill is None:
            profile, landmark = np.argwhere(absent)[0]
            raise ValueError(
                f"{int(absent.sum())} values of landmarks are missing in profiles {rows.start} to {rows.stop - 1} of "
                f"{self.source.path}, the first in profile {self.source.profile_ids[rows.start + profile]!r}, gene "
                f"{self.landmarks[landmark]!r}. Impute them, or pass missing='mean' for the means of training."
            )
        if absent[:, there].any() and not np.isnan(self.fill).all():
            self.warn_of_missing_values()
        return np.where(absent, self.fill.astype(X.dtype), X)

    def warn_of_missing_values(self) -> None:
        """Warn once, however many chunks there are."""
        if self.warned_of:
            return
        self.warned_of.add("missing values")
        warn_user(
            f"Values of landmarks are missing in some profiles of {self.source.path}: the means of training are "
            "written in their place, not marked."
        )

    def room(self, n_profiles: int) -> np.ndarray:
        """An array for the landmarks and targets of some profiles."""
        return np.empty((n_profiles, len(self.gene_ids)), dtype=np.float32)

    def infer(self, X: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        """Landmarks and targets of some profiles; in `room`, if given, which costs no fresh memory."""
        profiles = self.room(len(X)) if room is None else room[: len(X)]
        n_landmarks = len(self.landmarks)
        profiles[:, :n_landmarks] = X
        if len(self.inferred) == self.n_outputs and writes_where_asked(self.model):
            predicted(self.model, X, out=profiles[:, n_landmarks:])
            return profiles
        y = np.asarray(predicted(self.model, X)).reshape(len(X), -1)
        if y.shape[1] != self.n_outputs:
            raise ValueError(
                f"Got {self.n_outputs} target_names, but the model predicts {y.shape[1]} targets. Name each of them, "
                "in the order of training."
            )
        profiles[:, n_landmarks:] = y if len(self.inferred) == y.shape[1] else y[:, self.inferred]
        return profiles


def inference_plan(
    model: Any,
    source: ExpressionFile,
    landmark_names: Sequence[str] | np.ndarray | None,
    target_names: Sequence[str] | np.ndarray | None,
    missing: str,
) -> InferencePlan:
    """Check that the model is fitted and that the source has what it needs."""
    check_is_fitted(model)
    model = getattr(model, "best_estimator_", model)
    last = last_step(model)
    known = getattr(first_step(model), "feature_names_in_", None), getattr(last, "target_names_", None)
    landmarks = names_of(landmark_names, known[0], "landmark_names", first_step(model).n_features_in_)
    targets = names_of(target_names, known[1], "target_names", getattr(last, "n_outputs_", None))
    fill = replacement(model, missing)
    columns = find_genes(landmarks, source.gene_ids)
    absent = landmarks[columns < 0]
    if len(absent) == len(landmarks):
        raise ValueError(
            f"None of the {len(landmarks)} landmarks ({listed(landmarks)}) are in {source.path}. Its genes are called "
            f"{listed(source.gene_ids[:3])}."
        )
    if len(absent) and fill is None:
        raise ValueError(
            f"{len(absent)} of {len(landmarks)} landmarks are not in {source.path}: {listed(absent)}. Its genes "
            f"are called {listed(source.gene_ids[:3])}. Pass missing='mean' for their means of training, which costs "
            "accuracy."
        )
    if len(absent) and missing == "mean":
        warn_user(
            f"{len(absent)} of {len(landmarks)} landmarks are not in {source.path} and have the mean of training "
            f"instead, marked as 'imputed' where files hold metadata: {listed(absent)}."
        )
    warn_of_inferred(source, columns[columns >= 0], "landmarks")
    inferred = np.flatnonzero(~np.isin(targets, landmarks))
    if len(inferred) < len(targets):
        warn_user(f"{len(targets) - len(inferred)} of {len(targets)} targets are landmarks, too: written as measured.")
    return InferencePlan(model, source, landmarks, columns, fill, targets[inferred], inferred, len(targets))


def first_step(model: Any) -> Any:
    """What sees the profiles first: of a Pipeline the first step that is not left out."""
    if not isinstance(model, Pipeline):
        return model
    return first_step(next(step for _, step in model.steps if step is not None and step != "passthrough"))


def roles_before(source: ExpressionFile) -> np.ndarray | None:
    """What an earlier inference has written of each gene of a source, of `ROLES` or missing; None without one."""
    column = source.gene_metadata.get(ROLE, np.array([], dtype=object))
    roles = {role for role in column if not is_missing(role)}
    return column if roles and roles <= set(ROLES) else None


def inferred_before(source: ExpressionFile) -> np.ndarray:
    """Which genes of a source an earlier inference has made; where there are layers, its roles are those of a layer."""
    roles = roles_before(source)
    if roles is None or source.layers:
        return np.zeros(len(source.gene_ids), dtype=bool)
    return np.array([role in ("target", "imputed") for role in roles], dtype=bool)


def warn_of_inferred(source: ExpressionFile, genes: np.ndarray, what: str) -> None:
    """Warn if genes of a source, by their columns, were inferred or imputed, so that they are no measurements."""
    inferred = genes[inferred_before(source)[genes]]
    if len(inferred):
        warn_user(
            f"{len(inferred)} of {len(genes)} {what} in {source.path} are no measurements, by what it says of them "
            f"(role): they were inferred or imputed before. They are {listed(source.gene_ids[inferred])}."
        )


def replacement(model: Any, missing: str) -> np.ndarray | None:
    """What takes the place of missing values of each landmark; None if they are an error."""
    if missing not in ("raise", "mean", "nan"):
        raise ValueError(f"Got missing={missing!r}, but expected 'raise', 'mean' or 'nan'.")
    if missing == "raise":
        return None
    if missing == "nan":
        return np.full(first_step(model).n_features_in_, np.nan)
    first = first_step(model)
    # Those of a dgex estimator, if it standardizes, or of a StandardScaler.
    means = getattr(first, "landmark_mean_", getattr(first, "mean_", None))
    if means is None or not getattr(first, "standardize", True):
        raise ValueError(
            f"Got missing='mean', but {type(first).__name__} does not know the means of its training profiles. Fit it "
            "with standardize=True if it can, or impute in the source, or put a SimpleImputer in front of it in a "
            "Pipeline and pass missing='nan'."
        )
    return np.asarray(means)


def names_of(given: Any, known: np.ndarray | None, what: str, size: int | None) -> np.ndarray:
    """Names as given or as the model knows them."""
    names = known if given is None else given
    if names is None:
        raise ValueError(f"The model was fitted without names of genes. Pass {what}=..., in the order of training.")
    array = np.asarray(names, dtype=object)
    if size is not None and len(array) != size:
        raise ValueError(f"Got {len(array)} {what}, but expected {size}, as the model has.")
    if known is not None and not np.array_equal(array, known) and set(array) == set(known):
        raise ValueError(
            f"Got {what} in another order than that of training, which the model knows. Leave them out: genes are "
            "found by name."
        )
    return array


def writes_where_asked(model: Any) -> bool:
    """Whether the last step can predict into an array that is there, as a `DGEXRegressor` can."""
    return "out" in signature(_final(model).predict).parameters


def predicted(model: Any, X: np.ndarray, out: np.ndarray | None = None) -> Any:
    """Predictions, with names where the model was fitted with names; in `out`, if its last step can write there."""
    with warnings.catch_warnings():
        profiles = named(X, model)
        if profiles is X:
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if out is None:
            return model.predict(profiles)
        # A Pipeline passes `out` on only where scikit-learn's metadata routing is off.
        if isinstance(model, Pipeline) and len(model) > 1:
            profiles = model[:-1].transform(profiles)
        return _final(model).predict(profiles, out=out)


def _final(model: Any) -> Any:
    """What predicts from what the steps before it have made; a search is left as it is, since it may have steps."""
    return model[-1] if isinstance(model, Pipeline) else model


def named(X: np.ndarray, model: Any) -> Any:
    """Profiles as a data frame if the model was fitted with names and pandas is there."""
    names = getattr(first_step(model), "feature_names_in_", None)
    if names is None:
        return X
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names, copy=False)
