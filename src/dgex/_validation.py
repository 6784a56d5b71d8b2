"""What a user can get wrong, and the message that tells how to put it right."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import chain, compress, takewhile
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import _num_samples, check_array, check_consistent_length, validate_data

from dgex._frames import as_frame, column_names, frame_values, holds_dates, is_anndata, row_names, text_columns

# Names or genes that a message lists before it goes on to count.
N_LISTED = 5

# Floats of these types are taken as they are; everything else becomes float64.
FLOAT_TYPES = (np.float64, np.float32)

# `permutation_test_score` mixes rows with their names.
PERMUTED = " Where rows are mixed on purpose, as in a permutation test, pass y.to_numpy()."

# A warning is reported at the first line that called these (`contextlib` calls what is decorated).
LIBRARIES = ("dgex", "sklearn", "contextlib")

# Modules that fit many models, one after the other or at once.
MANY_FITS = (
    "joblib.parallel",
    "joblib.externals.loky",
    *(f"sklearn.{name}" for name in ("model_selection", "ensemble", "feature_selection", "multioutput")),
)


def listed(names: Iterable[Any]) -> str:
    """The first five names and how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else ""
    return ", ".join(names[:N_LISTED]) + rest


def counted(number: int, noun: str) -> str:
    """So many of something: "1 gene", "2 genes"."""
    return f"{number} {noun}" + "s" * (number != 1)


def be(number: int) -> str:
    """What so many of something do."""
    return "is" if number == 1 else "are"


def require_unique(names: Sequence[Any] | np.ndarray | None, what: str) -> None:
    """Raise unless every gene has a name of its own."""
    if names is None:
        return
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Got {counted(len(repeated), f'{what} name')} more than once ({listed(repeated)}), but expected unique "
            "names. Average the columns of a gene first, such as by dgex.preprocessing.collapse_probes, or rename them."
        )


Method = TypeVar("Method", bound=Callable[..., Any])

# What validation records on an estimator before anything is learned.
RECORDED = ("n_features_in_", "feature_names_in_", "n_outputs_", "target_names_", "_y_is_vector")


# What estimators store at the end of a fit.
LEARNED = ("_run", "neighbors_", "reference_quantiles_")


def all_or_nothing(method: Method) -> Method:
    """Decorate `fit`: if it raises before it has learned, the estimator knows the genes of the fit before, or none.

    What raises later, such as a callback, leaves the estimator fitted anew.
    """

    @wraps(method)
    def guarded(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        attributes = estimator.__dict__
        before = dict(attributes)
        try:
            return method(estimator, *args, **kwargs)
        except BaseException:
            if not has_learned(attributes, before):
                for name in RECORDED:
                    attributes.pop(name, None)
                attributes.update({name: before[name] for name in RECORDED if name in before})
            raise

    return cast(Method, guarded)


def has_learned(attributes: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a fit has stored its results."""
    return any(attributes.get(name) is not before.get(name) for name in LEARNED)


def warn_user(message: str) -> None:
    """Warn, at the line of the user's that called the library."""
    inside = takewhile(lambda module: module.partition(".")[0] in LIBRARIES, calling_modules())
    warnings.warn(message, UserWarning, stacklevel=2 + len(list(inside)))


def is_one_of_many_fits() -> bool:
    """Whether a search, an ensemble or the like is calling, which goes on with whatever a fit returns."""
    return any(module == name or module.startswith(f"{name}.") for module in calling_modules() for name in MANY_FITS)


def calling_modules() -> list[str]:
    """Names of the modules whose functions have called the function that asks, the innermost first."""
    return [frame.frame.f_globals.get("__name__", "") for frame in inspect.stack(context=0)[2:]]


def validated_training_data(
    estimator: Any, X: Any, y: Any, *, reset: bool, min_profiles: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and targets as two-dimensional float arrays, uncopied if they are floats already.

    Records `n_features_in_`, `feature_names_in_`, `n_outputs_`, `target_names_` and whether `y` is a vector on the
    estimator, or checks them.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None. Pass the expression of the "
            "target genes, shape (n_profiles, n_targets)."
        )
    require_same_profiles(X, y)
    X_array = validated_profiles(estimator, X, reset=reset, ensure_min_samples=min_profiles)
    y_array = validated_targets(estimator, y, "y", reset=reset)
    require_as_many_profiles(X_array, y_array)
    return X_array, y_array


def require_as_many_profiles(X: np.ndarray, y: np.ndarray) -> None:
    """Raise, with scikit-learn's message and advice, unless landmarks and targets have a row for each profile."""
    try:
        check_consistent_length(X, y)
    except ValueError as error:
        genes_in_rows = X.shape[1] == y.shape[1]
        raise ValueError(
            f"{error}\nGot X of shape {X.shape} and y of shape {y.shape}, but expected as many profiles, in rows, "
            "in both. " + ("Are genes in the rows? Pass X.T and y.T." if genes_in_rows else "Pass the same profiles.")
        ) from None


def require_same_profiles(X: Any, y: Any, names: tuple[str, str] = ("X", "y")) -> None:
    """Raise if the rows of X and y have names that say that they are not the same profiles, or in another order.

    Rows of data frames may have other names in each, for example of libraries, but not each other's; those of AnnData
    may not.
    """
    first, second = row_names(X), row_names(y)
    if first is None or second is None or len(first) != len(second):
        return
    are_anndata = is_anndata(X) and is_anndata(y)
    elsewhere = set(first) & set(second)
    apart = [
        f"{name} and {other}"
        for name, other in zip(first, second, strict=True)
        if name != other and (are_anndata or name in elsewhere or other in elsewhere)
    ]
    if apart:
        one, other = names
        what = "observations" if are_anndata else "rows"
        rows, chosen = (name.partition(" ")[0] for name in names)  # without the number of a set
        select = f"{chosen}[{rows}.obs_names]" if are_anndata else f"{chosen}.loc[{rows}.index]"
        raise ValueError(
            f"{len(apart)} of {len(first)} {what} of {one} and {other} are not the same ({listed(apart)}). Bring "
            f"{other} into the order of {one}: {select}.{PERMUTED if other == 'y' else ''}"
        )


def names_others(series: Any, genes: np.ndarray | None) -> bool:
    """Whether a series, of a number for each gene, is of other genes, or in another order."""
    index = getattr(series, "index", None)
    if genes is None or index is None or callable(index):
        return False
    names = [str(name) for name in index]
    return names not in (genes.tolist(), [str(number) for number in range(len(names))])


def require_alike(y_true: Any, y_pred: Any) -> None:
    """Raise if measured and inferred expression have names of other profiles or genes, or in another order."""
    require_same_profiles(y_true, y_pred, ("y_true", "y_pred"))
    measured, inferred = column_names(y_true), column_names(y_pred)
    if measured is not None and inferred is not None and not np.array_equal(measured, inferred):
        raise ValueError("Got y_true and y_pred with different genes, or in another order. Select the same columns.")


def validated_profiles(
    estimator: Any,
    X: Any,
    name: str = "X",
    *,
    reset: bool,
    dtype: Any = FLOAT_TYPES,
    ensure_min_samples: int = 1,
    allow_missing: bool = False,
) -> np.ndarray:
    """Profiles as a two-dimensional array; names, order and number of genes are recorded or checked."""
    X = as_frame(X)
    if reset:
        require_unique(column_names(X), "gene")
    array = _numbers(
        X, name, estimator, dtype=dtype, ensure_min_samples=ensure_min_samples, allow_missing=allow_missing
    )
    try:
        validate_data(estimator, X if column_names(X) is not None else array, reset=reset, skip_check_array=True)
    except ValueError as error:
        message = str(error)
        if "feature names should match" in message:
            message += _difference(estimator.feature_names_in_, np.asarray(list(X.columns), dtype=object), name)
        raise ValueError(message if name == "X" else message.replace("X has", f"{name} has", 1)) from None
    return array


def validated_targets(estimator: Any, y: Any, name: str, *, reset: bool) -> np.ndarray:
    """Targets as a two-dimensional float array; their number, names and order are recorded or checked."""
    y = as_frame(y)
    names = column_names(y)
    require_unique(names, "target gene")
    array = _numbers(y, name, estimator, ensure_2d=False)
    columns = array.reshape(-1, 1) if array.ndim == 1 else array
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


def _numbers(
    data: Any, name: str, estimator: Any, *, dtype: Any = FLOAT_TYPES, allow_missing: bool = False, **checks: Any
) -> np.ndarray:
    """An array of finite numbers, by scikit-learn's checks and with its messages, and what they leave out."""
    if data is None:
        raise ValueError(f"Got {name}=None, but expected expression, an array of shape (n_profiles, n_genes).")
    if holds_dates(data):
        raise ValueError(f"Got dates in {name}, but expected expression values only. Drop those columns.")
    finite = "allow-nan" if allow_missing else True
    try:
        values = frame_values(data)
        types = getattr(values, "dtypes", ())  # one of a series
        if dtype == "numeric" and np.ndim(types) and not all(isinstance(each, np.dtype) for each in types):
            dtype = FLOAT_TYPES  # scikit-learn leaves what is not NumPy's as it is
        array: np.ndarray = check_array(
            values, dtype=dtype, ensure_all_finite=finite, input_name=name, estimator=estimator, **checks
        )
    except (ValueError, TypeError) as error:
        message = str(error)
        if isinstance(error, TypeError) and not text_columns(data):
            raise
        if isinstance(error, TypeError) or "could not convert string" in message:
            message += _text_advice(data, name)
        elif "contains NaN" in message or "contains infinity" in message:
            message = message.partition("\n")[0] + _finite_advice(data, name, allow_missing=allow_missing)
        raise ValueError(message) from None
    return array


def validated_output(out: Any, shape: tuple[int, int]) -> np.ndarray:
    """The array that predictions are to be written into."""
    if not isinstance(out, np.ndarray) or out.dtype.kind != "f" or out.shape != shape or not out.flags.writeable:
        got = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(
            f"Got out={got}, but expected a writable array of floating-point numbers of shape {shape}: profiles x "
            "targets."
        )
    return out


def require_valid_parameter(estimator: Any, name: str) -> None:
    """Raise unless one parameter is what its constraints allow, as scikit-learn does for all."""
    constraints = {name: estimator._parameter_constraints[name]}
    validate_parameter_constraints(constraints, {name: getattr(estimator, name)}, type(estimator).__name__)


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
    if isinstance(X_val, Mapping) or (isinstance(X_val, list) and X_val and np.ndim(X_val[0]) == 2):
        raise ValueError(
            f"Got X_val as a {type(X_val).__name__} of arrays, but expected an array, or a tuple of arrays for several "
            "sets."
        )
    X_sets = X_val if isinstance(X_val, tuple) else (X_val,)
    y_sets = y_val if isinstance(y_val, tuple) else (y_val,)
    if len(X_sets) != len(y_sets) or not X_sets:
        raise ValueError(
            f"Got {len(X_sets)} validation sets in X_val and {len(y_sets)} in y_val, but expected the same number, at "
            "least one. Pass two arrays, or two tuples of arrays."
        )
    return [_validated_set(estimator, X, y, index) for index, (X, y) in enumerate(zip(X_sets, y_sets, strict=True))]


def _validated_set(estimator: Any, X: Any, y: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    X_name, y_name = f"X_val (set {index})", f"y_val (set {index})"
    require_same_profiles(X, y, (X_name, y_name))
    for name, data in ((X_name, X), (y_name, y)):
        if data is not None and _num_samples(data) == 0:
            raise ValueError(f"Validation set {index} is empty: {name} has 0 profiles, but expected at least 1.")
    X_array = validated_profiles(estimator, X, X_name, reset=False)
    y_array = validated_targets(estimator, y, y_name, reset=False)
    if len(X_array) != len(y_array):
        raise ValueError(
            f"Got {len(X_array)} profiles in {X_name} and {len(y_array)} in {y_name}, but expected as many in both."
        )
    require_single_precision(X_array, X_name)
    require_single_precision(y_array, y_name)
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
    warn_user(
        f"{len(indices)} of {y.shape[1]} targets are also landmarks ({which} {listed(names)}): they are inputs, not "
        "inferences. Leave them out of accuracy figures, or out of y."
    )


def first_equal_column(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For every column of `y` the first column of `X` that equals it, -1 for none; shape (n_columns of y,)."""
    found = np.full(y.shape[1], -1, dtype=np.intp)
    columns: Sequence[int] = range(X.shape[1])
    targets: Sequence[int] = range(y.shape[1])
    # A few profiles tell nearly all columns apart, and more of them those that are mostly zero; only the candidates
    # left are compared in full.
    for n_compared in (16, 1024):
        rows = np.unique(np.linspace(0, len(X) - 1, n_compared).astype(np.intp))
        alike = _by_content(X, rows, columns)
        targets_alike = alike if X is y else _by_content(y, rows, targets)
        shared = alike.keys() & targets_alike.keys()
        columns, targets = (
            sorted(chain.from_iterable(groups[content] for content in shared)) for groups in (alike, targets_alike)
        )
    for content in shared:
        for target in targets_alike[content]:
            is_equal = (
                (X is y and column == target) or np.array_equal(X[:, column], y[:, target]) for column in alike[content]
            )
            found[target] = next(compress(alike[content], is_equal), -1)
    return found


def _by_content(data: np.ndarray, rows: np.ndarray, columns: Sequence[int]) -> dict[bytes, list[int]]:
    """Columns by their numbers in some rows, of which zero has no sign."""
    values = np.ascontiguousarray(data[np.ix_(rows, np.asarray(columns, np.intp))].T, dtype=np.float64) + 0.0
    groups: dict[bytes, list[int]] = {}
    for column, content in zip(columns, values, strict=True):
        groups.setdefault(content.tobytes(), []).append(column)
    return groups


def _difference(expected: np.ndarray, got: np.ndarray, name: str) -> str:
    """How two lists of genes differ, and what to do about it."""
    known, present = set(expected), set(got)
    missing = [gene for gene in expected if gene not in present]
    unknown = [gene for gene in got if gene not in known]
    if not missing and not unknown:
        moved = [gene for gene, before in zip(got, expected, strict=True) if gene != before]
        return (
            f"\nThe genes are the same, in another order: {len(moved)} are not where they were ({listed(moved)}). "
            f"Select the columns of training, in their order, before passing {name}."
        )
    if not missing:
        return (
            f"\n{counted(len(unknown), 'gene')} {be(len(unknown))} unknown ({listed(unknown)}). Select the columns of "
            f"training, in their order, before passing {name}."
        )
    extra = f", {len(unknown)} unknown ({listed(unknown)})" if unknown else ""
    return (
        f"\n{len(missing)} of {len(expected)} genes are missing ({listed(missing)}){extra}. Pass all genes of "
        "training, in their order; dgex.preprocessing.align_genes does it and says what is missing."
    )


def _text_advice(data: Any, name: str) -> str:
    text = text_columns(data)
    which = f" (text columns: {listed(text)})" if text else ""
    return f"\n{name} must hold expression values only{which}. Move identifiers into the index, or drop them."


def _finite_advice(data: Any, name: str, *, allow_missing: bool) -> str:
    values = np.asarray(frame_values(data), dtype=np.float64)
    bad = np.isinf(values) if allow_missing else ~np.isfinite(values)
    genes = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=0))
    names = column_names(data)
    kind = "infinite; missing values must be NaN" if allow_missing else "NaN or infinite"
    n_values = int(bad.sum())
    return (
        f"\n{counted(n_values, 'value')} in {counted(len(genes), 'gene')} of {name} {be(n_values)} {kind} "
        f"({listed(genes if names is None else names[genes])}). Impute them, or drop those genes or profiles."
    )
