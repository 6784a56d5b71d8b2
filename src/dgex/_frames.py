"""DataFrames of pandas and polars, and AnnData: the names of their genes and their values."""

from __future__ import annotations

from typing import Any

import numpy as np


def column_names(data: Any) -> np.ndarray | None:
    """The names of a DataFrame's columns or an AnnData's variables, whole numbers such as Entrez ids as text.

    None for anything else, and for columns that are only numbered.
    """
    names = data.var_names if is_anndata(data) else getattr(data, "columns", None)
    if names is None:
        return None
    if all(isinstance(name, int | np.integer) for name in names):
        is_numbering = all(name == number for number, name in enumerate(names))
        return None if is_numbering else np.array([str(name) for name in names], dtype=object)
    other = [name for name in names if not isinstance(name, str)]
    if other:
        as_one = "map('|'.join)" if isinstance(other[0], tuple) else "astype(str)"
        raise TypeError(
            f"Got {len(other)} of {len(names)} column names that are not text, such as {other[0]!r}, but expected "
            f"names of genes. Make all names text: data.columns = data.columns.{as_one}."
        )
    return np.asarray(names, dtype=object)


def row_names(data: Any) -> np.ndarray | None:
    """The names of an AnnData's observations, or of a DataFrame's rows, if they are text; None for anything else.

    Numbers may count rows, and be mixed on purpose, as by scikit-learn's `permutation_test_score`.
    """
    names = data.obs_names if is_anndata(data) else getattr(data, "index", None)
    if names is None or not hasattr(names, "dtype") or not all(isinstance(name, str) for name in names):
        return None
    return np.asarray(names, dtype=object)


def frame_values(data: Any) -> Any:
    """The values of a frame, series or AnnData as an array, missing ones as NaN and float32 kept; or `data` itself.

    scikit-learn would make float64 of a frame of polars, or of nullable columns, whatever is in it.
    """
    if is_anndata(data):
        return dense(data.X)
    if isinstance(data, np.ma.MaskedArray):
        return np.ma.filled(data.astype(np.promote_types(data.dtype, np.float16)), np.nan)
    if hasattr(data, "get_columns") or hasattr(data, "is_null"):  # polars
        return data.to_numpy()
    types = getattr(data, "dtypes", None)
    if types is None:
        return data
    types = list(types) if hasattr(types, "__iter__") else [types]
    plain = [getattr(dtype, "numpy_dtype", dtype) for dtype in types]
    nullable = any(dtype is not of_numpy for dtype, of_numpy in zip(types, plain, strict=True))
    if nullable and all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in plain):
        dtype = np.float32 if all(dtype == np.float32 for dtype in plain) else np.float64
        return data.to_numpy(dtype=dtype, na_value=np.nan)
    if any(isinstance(dtype, np.dtype) and dtype.kind == "O" for dtype in types):
        return data.to_numpy(dtype=object, na_value=np.nan)  # NA of pandas is no number
    has_unique_names = getattr(getattr(data, "columns", None), "is_unique", True)
    return data if has_unique_names else data.to_numpy()  # scikit-learn does not take repeated names


def is_missing(value: Any) -> bool:
    """Whether this is None, NaN, or what pandas has for it."""
    equals_itself = value == value  # NaN does not, and NA of pandas cannot tell
    return value is None or not (isinstance(equals_itself, bool | np.bool_) and equals_itself)


def is_anndata(data: Any) -> bool:
    """Whether these are observations x variables of AnnData (or of what behaves like it)."""
    return hasattr(data, "obs_names") and hasattr(data, "var_names")


def as_frame(data: Any) -> Any:
    """The expression (X) of an AnnData as a DataFrame that shares its memory if it can; anything else as it is.

    But for columns whose names are whole numbers, which get text.
    """
    if not is_anndata(data):
        names = column_names(data)
        if names is not None and not isinstance(data.columns[0], str):
            data = data.copy(deep=False)
            data.columns = names
        return data
    import pandas as pd  # comes with AnnData

    return pd.DataFrame(dense(data.X), columns=list(data.var_names), copy=False)


def dense(matrix: Any) -> np.ndarray:
    """A matrix of AnnData, which may be sparse or on disk, as an array."""
    if matrix is None:
        raise ValueError("Got an AnnData without X. Pass the layer that holds expression: adata.to_df(layer=...).")
    if hasattr(matrix, "to_memory"):  # sparse, on disk
        matrix = matrix.to_memory()
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def text_columns(data: Any) -> list[str]:
    """The columns of a DataFrame that do not hold numbers."""
    names = column_names(data)
    if names is None:
        return []
    pairs = zip(names, data.columns, strict=True)
    return [name for name, column in pairs if not _is_numeric(np.asarray(data[column]))]


def holds_dates(data: Any) -> bool:
    """Whether some values are dates or durations, which NumPy would take for numbers."""
    types: Any = getattr(data, "dtypes", getattr(data, "dtype", None))
    return any(_is_date(dtype) for dtype in (types if hasattr(types, "__iter__") else [types]))


def _is_date(dtype: Any) -> bool:
    if hasattr(dtype, "is_temporal"):  # polars
        return bool(dtype.is_temporal())
    return getattr(dtype, "kind", "") in ("m", "M")


def _is_numeric(values: np.ndarray) -> bool:
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
