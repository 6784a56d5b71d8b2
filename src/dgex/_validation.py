"""What a user can get wrong, and the message that tells how to put it right."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils.validation import _num_samples, check_array, check_consistent_length, validate_data

# Names or genes that a message lists before it goes on to count.
N_LISTED = 5

# Floats of these types are taken as they are; everything else becomes float64.
FLOAT_TYPES = (np.float64, np.float32)


def listed(names: Iterable[Any]) -> str:
    """The first five names and how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else ""
    return ", ".join(names[:N_LISTED]) + rest


def column_names(data: Any) -> np.ndarray | None:
    """The names of a DataFrame's columns, None for anything else (or for columns that are only numbered)."""
    names = getattr(data, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return np.asarray(names, dtype=object)


def require_unique(names: Sequence[Any] | np.ndarray | None, what: str) -> None:
    """Raise unless every gene has a name of its own."""
    if names is None:
        return
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Got {len(repeated)} {what} names more than once ({listed(repeated)}), but expected unique names. Average "
            "the columns of a gene first, for example with dgex.preprocessing.collapse_probes, or rename them."
        )


Method = TypeVar("Method", bound=Callable[..., Any])

# What validation records on an estimator before anything is learned.
RECORDED = ("n_features_in_", "feature_names_in_", "n_outputs_", "target_names_", "_y_is_vector")


def all_or_nothing(method: Method) -> Method:
    """Decorate `fit`: if it raises, the estimator still knows the genes of the fit before, or none."""

    @wraps(method)
    def guarded(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        attributes = estimator.__dict__
        before = {name: attributes[name] for name in RECORDED if name in attributes}
        try:
            return method(estimator, *args, **kwargs)
        except BaseException:
            for name in RECORDED:
                attributes.pop(name, None)
            attributes.update(before)
            raise

    return cast(Method, guarded)


def validated_training_data(estimator: Any, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and targets as two-dimensional float arrays, uncopied if they are floats already.

    Records `n_features_in_`, `feature_names_in_`, `n_outputs_`, `target_names_` and whether `y` is a vector on the
    estimator, or checks them.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None. Pass the expression of the "
            "target genes, shape (n_profiles, n_targets)."
        )
    require_unique(column_names(y), "target gene")
    X_array = validated_profiles(estimator, X, reset=reset, ensure_min_samples=2)
    y_array = validated_targets(estimator, y, "y", reset=reset)
    check_consistent_length(X_array, y_array)
    return X_array, y_array


def validated_profiles(
    estimator: Any, X: Any, *, reset: bool, ensure_min_samples: int = 1, allow_missing: bool = False
) -> np.ndarray:
    """Profiles as a two-dimensional float array; names, order and number of genes are recorded or checked."""
    if reset:
        require_unique(column_names(X), "gene")
    try:
        array: np.ndarray = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=FLOAT_TYPES,
            ensure_min_samples=ensure_min_samples,
            ensure_all_finite="allow-nan" if allow_missing else True,
        )
    except ValueError as error:
        expected = None if reset else getattr(estimator, "feature_names_in_", None)
        raise ValueError(f"{error}{_advice(error, X, 'X', expected)}") from None
    return array


def validated_targets(estimator: Any, y: Any, name: str, *, reset: bool) -> np.ndarray:
    """Targets as a two-dimensional float array; their number, names and order are recorded or checked."""
    try:
        array: np.ndarray = check_array(y, dtype=FLOAT_TYPES, ensure_2d=False, input_name=name, estimator=estimator)
    except ValueError as error:
        raise ValueError(f"{error}{_advice(error, y, name, None)}") from None
    columns = array.reshape(-1, 1) if array.ndim == 1 else array
    names = column_names(y)
    if reset:
        estimator.n_outputs_ = columns.shape[1]
        estimator.target_names_ = names
        estimator._y_is_vector = array.ndim == 1
        return columns
    if columns.shape[1] != estimator.n_outputs_:
        raise ValueError(
            f"Got {name} with {columns.shape[1]} target genes, but expected the {estimator.n_outputs_} of training."
        )
    expected = estimator.target_names_
    if expected is not None and names is not None and not np.array_equal(expected, names):
        raise ValueError(f"The target genes of {name} are not those of training.{_difference(expected, names, name)}")
    return columns


def require_single_precision(array: np.ndarray, name: str) -> None:
    """Raise unless the values can be computed with in float32."""
    largest = float(np.finfo(np.float32).max)
    if array.dtype == np.float64 and (array.max() > largest or array.min() < -largest):
        raise ValueError(
            f"Got values up to {max(array.max(), -array.min()):g} in {name}, but expected at most {largest:g}, the "
            "range of float32. Take logarithms, or scale the data."
        )


def validated_sets(estimator: Any, X_val: Any, y_val: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Validation data as a list of sets: none, one (a pair of arrays) or several (a pair of tuples of arrays)."""
    if X_val is None and y_val is None:
        return []
    if X_val is None or y_val is None:
        missing, given = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
        raise ValueError(f"Got {given} without {missing}. Pass both, or neither.")
    if isinstance(X_val, list) and np.ndim(X_val[0]) == 2:
        raise ValueError("Got X_val as a list of arrays, but expected an array, or a tuple of arrays for several sets.")
    X_sets = X_val if isinstance(X_val, tuple) else (X_val,)
    y_sets = y_val if isinstance(y_val, tuple) else (y_val,)
    if len(X_sets) != len(y_sets) or not X_sets:
        raise ValueError(
            f"Got {len(X_sets)} validation sets in X_val and {len(y_sets)} in y_val, but expected the same number, at "
            "least one. Pass two arrays, or two tuples of arrays."
        )
    return [_validated_set(estimator, X, y, index) for index, (X, y) in enumerate(zip(X_sets, y_sets, strict=True))]


def _validated_set(estimator: Any, X: Any, y: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    for name, data in (("X_val", X), ("y_val", y)):
        if _num_samples(data) == 0:
            raise ValueError(f"Validation set {index} is empty: {name} has 0 profiles, but expected at least 1.")
    X_array = validated_profiles(estimator, X, reset=False)
    y_array = validated_targets(estimator, y, f"y_val (set {index})", reset=False)
    check_consistent_length(X_array, y_array)
    return X_array, y_array


def warn_of_measured_targets(estimator: Any, X: np.ndarray, y: np.ndarray) -> None:
    """Warn when targets of the training data are landmarks too, by name or as identical columns.

    Such a target is one of the inputs, and its error says nothing about inference.
    """
    measured = first_equal_column(X, y) >= 0
    measured[measured] = np.ptp(y[:, measured], axis=0) > 0  # genes that never vary tell nothing
    landmark_names = getattr(estimator, "feature_names_in_", None)
    if landmark_names is not None and estimator.target_names_ is not None:
        measured |= np.isin(estimator.target_names_.astype(str), landmark_names.astype(str))
    if not measured.any():
        return
    indices = np.flatnonzero(measured)
    names = indices if estimator.target_names_ is None else estimator.target_names_[indices]
    which = "columns" if estimator.target_names_ is None else "genes"
    warnings.warn(
        f"{len(indices)} of {y.shape[1]} targets are also landmarks ({which} {listed(names)}): they are inputs, not "
        "inferences. Leave them out of accuracy figures, or out of y.",
        UserWarning,
        stacklevel=4,
    )


def first_equal_column(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For every column of `y` the first column of `X` that equals it, -1 for none; shape (n_columns of y,)."""
    # The first profiles tell nearly all columns apart; only the candidates left are compared in full.
    n_head = min(len(X), 16)
    heads_of_X, heads_of_y = (np.ascontiguousarray(data[:n_head].T, dtype=np.float64) for data in (X, y))
    candidates: dict[bytes, list[int]] = {}
    for column, head in enumerate(heads_of_X):
        candidates.setdefault(head.tobytes(), []).append(column)

    def first_equal(target: int, head: np.ndarray) -> int:
        columns = candidates.get(head.tobytes(), [])
        return next((column for column in columns if np.array_equal(X[:, column], y[:, target])), -1)

    return np.array([first_equal(target, head) for target, head in enumerate(heads_of_y)], dtype=np.intp)


def _advice(error: ValueError, data: Any, name: str, expected: np.ndarray | None) -> str:
    """What to add to a message of scikit-learn's: counts, names, and what to do."""
    message = str(error)
    if "feature names should match" in message and expected is not None:
        return _difference(expected, np.asarray(list(data.columns), dtype=object), name)
    if "could not convert string" in message:
        return _text_advice(data, name)
    if "contains NaN" in message or "contains infinity" in message:
        return _finite_advice(data, name)
    return ""


def _difference(expected: np.ndarray, got: np.ndarray, name: str) -> str:
    """How two lists of genes differ, and what to do about it."""
    missing = [gene for gene in expected if gene not in set(got)]
    unknown = [gene for gene in got if gene not in set(expected)]
    if not missing:
        reason = (
            f"{len(unknown)} unknown: {listed(unknown)}." if unknown else "The genes are the same, in another order."
        )
        return f"\n{reason} Select the columns of training, in their order, before passing {name}."
    extra = f", {len(unknown)} unknown ({listed(unknown)})" if unknown else ""
    return (
        f"\n{len(missing)} of {len(expected)} genes are missing ({listed(missing)}){extra}. Pass all genes of "
        "training, in their order; dgex.preprocessing.align_genes does it and says what is missing."
    )


def _text_advice(data: Any, name: str) -> str:
    columns = column_names(data)
    text = [] if columns is None else [column for column in columns if not _is_numeric(np.asarray(data[column]))]
    which = f" (text columns: {listed(text)})" if text else ""
    return f"\n{name} must hold expression values only{which}. Move identifiers into the index, or drop them."


def _is_numeric(values: np.ndarray) -> bool:
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _finite_advice(data: Any, name: str) -> str:
    bad = ~np.isfinite(np.asarray(data, dtype=np.float64))
    genes = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=0))
    names = column_names(data)
    return (
        f"\n{int(bad.sum())} values in {len(genes)} genes of {name} are NaN or infinite "
        f"({listed(genes if names is None else names[genes])}). Impute them, or drop those genes or profiles."
    )
