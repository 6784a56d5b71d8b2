"""h5ad: AnnData's HDF5. AnnData itself reads the metadata; of the matrix, only the part asked for is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dgex.io._ahead import as_slice
from dgex.io._hdf5 import (
    BAND_BYTES,
    ROW_GAP,
    SIGNS_OF_DAMAGE,
    floating,
    hdf5,
    matrix_of,
    require_written,
    runs,
    selected,
)
from dgex.io._hdf5_writer import HDF5Writer
from dgex.io._metadata import categories_of, is_unsigned, kind_of, with_categories, with_missing
from dgex.io._source import ExpressionFile, ExpressionFileError, damage_explained


class H5ADFile(ExpressionFile):
    """An h5ad file: observations are profiles, variables are genes."""

    format = "h5ad"
    signs_of_damage = SIGNS_OF_DAMAGE

    def __init__(self, path: Path, layer: str | None):
        h5py = hdf5(path)
        read_elem = anndata_io(path).read_elem
        with damage_explained(path, Exception):
            self._file = h5py.File(path, "r")
            self.layers = tuple(self._file.get("layers", ()))
        if layer is not None and layer not in self.layers:
            self._file.close()
            raise ValueError(f"Got layer={layer!r}, but {path} has {', '.join(map(repr, self.layers)) or 'none'}.")
        with damage_explained(path, Exception):  # AnnData raises errors of its own
            try:
                name = matrix_name(path, self._file, layer)
                if self._file.get("obs", getclass=True) is h5py.Dataset or "h5sparse_format" in self._file[name].attrs:
                    raise ExpressionFileError(
                        f"{path} was written by AnnData before 0.7, which stored tables and sparse matrices in another "
                        "way. Read it with anndata and write it again."
                    )
                obs, var = read_elem(self._file["obs"]), read_elem(self._file["var"])
                self._matrix: Any
                if self._file.get(name, getclass=True) is h5py.Group:
                    self._matrix = SparseMatrix(self._file[name])
                    self._goes_through = not self._matrix.by_row
                else:
                    self._matrix = matrix_of(path, self._file, name)
                if tuple(self._matrix.shape) != (len(obs), len(var)) or 0 in self._matrix.shape:
                    raise ExpressionFileError(
                        f"{path}: got {name} of shape {self._matrix.shape}, but {len(obs)} observations and {len(var)} "
                        "variables."
                    )
                super().__init__(
                    path,
                    profile_ids=obs.index,
                    gene_ids=var.index,
                    profile_metadata={column: values_of(obs[column]) for column in obs.columns},
                    gene_metadata={column: values_of(var[column]) for column in var.columns},
                    dtype=floating(self._matrix.dtype),
                )
            except BaseException:
                self._file.close()
                raise

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if isinstance(self._matrix, SparseMatrix):
            return self._matrix.selected(rows, columns, self.dtype)
        return selected(self._matrix, rows, columns, self.dtype)

    def _close(self) -> None:
        self._file.close()


class SparseMatrix:
    """A compressed sparse matrix on disk, of which the rows (CSR) or columns (CSC) asked for are read, in parts."""

    def __init__(self, group: Any):
        kind = group.attrs["encoding-type"]
        if kind not in ("csr_matrix", "csc_matrix"):
            raise ExpressionFileError(f"{group.file.filename}: got a matrix of type {kind!r}, but expected CSR or CSC.")
        self.by_row = kind == "csr_matrix"
        self.shape = tuple(map(int, group.attrs["shape"]))
        self.dtype = group["data"].dtype
        self._group = group
        for name in ("data", "indices", "indptr"):
            require_written(Path(group.file.filename), group[name])

    def selected(self, rows: np.ndarray, columns: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows and columns as a dense array."""
        major, minor = (rows, columns) if self.by_row else (columns, rows)
        order = np.argsort(major, kind="stable")
        wanted, inner = major[order], as_slice(minor)
        result = np.zeros((len(major), len(minor)), dtype=dtype)
        for first, last in runs(wanted, ROW_GAP):
            chosen, places = wanted[first:last], order[first:last]
            for top, part in self._parts(int(chosen[0]), int(chosen[-1]) + 1, dtype):
                here = slice(*np.searchsorted(chosen, [top, top + part.shape[0]]))
                values = part[as_slice(chosen[here] - top)][:, inner].tocoo()
                values.sum_duplicates()
                result[places[here][values.row], values.col] += values.data
        return result if self.by_row else result.T

    def _parts(self, low: int, high: int, dtype: np.dtype[Any]) -> Iterator[tuple[int, csr_matrix]]:
        """Rows (columns of CSC) in parts of `BAND_BYTES`, which may begin and end within one: the first, and values."""
        starts = self._starts(low, high)
        values, indices = self._group["data"], self._group["indices"]
        step = BAND_BYTES // (dtype.itemsize + indices.dtype.itemsize)
        for begin in range(starts[0], starts[-1], step):
            end = min(begin + step, starts[-1])
            top = np.searchsorted(starts, begin, side="right") - 1
            edges = np.clip(starts[top : np.searchsorted(starts, end) + 1], begin, end) - begin
            known = values[begin:end].astype(dtype, copy=False)  # SciPy has no float16
            shape = len(edges) - 1, self.shape[1] if self.by_row else self.shape[0]
            part = csr_matrix((known, indices[begin:end], edges), shape=shape)
            part.check_format(full_check=True)  # or a damaged file would be read beyond its arrays
            yield low + int(top), part

    def _starts(self, low: int, high: int) -> np.ndarray:
        """Where the values of these rows (columns of CSC) begin, and where those of the last end."""
        starts: np.ndarray = self._group["indptr"][low : high + 1].astype(np.int64)
        in_order = len(starts) == high - low + 1 and starts[0] >= 0 and (np.diff(starts) >= 0).all()
        if not in_order or starts[-1] > min(self._group[name].size for name in ("data", "indices")):
            raise ExpressionFileError(f"{self._group.file.filename}: the positions in its sparse matrix are damaged.")
        return starts


class H5ADWriter(HDF5Writer):
    """Writes h5ad: profiles are observations, genes are variables, expression is X."""

    format = "h5ad"
    matrix_name = "X"
    id_names = "obs/_index", "var/_index"

    @staticmethod
    def as_read(column: np.ndarray) -> np.ndarray:
        """Metadata as they are read again."""
        return values_of(data_frame(np.arange(len(column)), {"column": column})["column"])

    def _describe(self, file: Any) -> None:
        write_elem = anndata_io(self.path).write_elem
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", data_frame(self.profile_ids, self.profile_metadata))
        write_elem(file, "var", data_frame(self.gene_ids, self.gene_metadata))
        for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
            write_elem(file, name, {})
        file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def anndata_io(path: Path) -> ModuleType:
    """The module anndata.io, or an error that says how to get it."""
    try:
        import anndata.io
    except ImportError:
        raise ImportError(f'{path} is h5ad, and anndata is not installed: pip install "dgex[anndata]"') from None
    return anndata.io


def data_frame(ids: np.ndarray, columns: dict[str, np.ndarray]) -> Any:
    """Ids and metadata as AnnData stores them: text that may be missing is categorical."""
    import pandas as pd

    frame = pd.DataFrame(index=pd.Index(ids, dtype=object))
    for name, column in columns.items():
        kind = kind_of(column)
        if column.dtype.kind != "O":
            frame[name] = column
        elif kind == "b":
            frame[name] = pd.array(column, dtype="boolean")
        elif kind == "i":
            frame[name] = pd.array(column, dtype="UInt64" if is_unsigned(column) else "Int64")
        else:
            frame[name] = categorical(column)
    return frame


def categorical(column: np.ndarray) -> Any:
    """Text as the categories that it had, or else in the order of the alphabet."""
    import pandas as pd

    found = sorted({value for value in column if value is not None})
    categories, ordered = categories_of(column) or (found, False)
    if not {str(category) for category in categories}.issuperset(found):
        categories, ordered = found, False
    place = {str(category): code for code, category in enumerate(categories)}
    codes = [-1 if value is None else place[value] for value in column]
    are_text = all(isinstance(category, str) for category in categories)
    return pd.Categorical.from_codes(codes, pd.Index(categories, dtype=object if are_text else None), ordered=ordered)


def matrix_name(path: Path, file: Any, layer: str | None) -> str:
    """Where the expression is: in X or in a layer."""
    if layer is None and "X" not in file:
        layers = ", ".join(map(repr, file.get("layers", ()))) or "none"
        raise ExpressionFileError(f"{path} has no X. Pass layer=..., one of its layers: {layers}.")
    return "X" if layer is None else f"layers/{layer}"


def values_of(column: Any) -> np.ndarray:
    """A column of a data frame: numbers and booleans as they are, anything else as text, or None and NaN if missing."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        return np.asarray(column)
    if hasattr(dtype, "categories"):
        categories = column.cat.categories.tolist()
        texts = [str(category) for category in categories]
        values = [None if code < 0 else texts[code] for code in column.cat.codes]
        kept = categories if column.cat.categories.dtype.kind in "iufb" else dict.fromkeys(texts)
        return with_categories(values, kept, ordered=column.cat.ordered)
    missing = column.isna().to_numpy()
    if getattr(dtype, "kind", "O") in "iufb":
        plain = getattr(dtype, "numpy_dtype", np.dtype(np.float64))
        return with_missing(column.to_numpy(dtype=plain, na_value=0), missing)
    result = np.empty(len(column), dtype=object)
    result[:] = [None if absent else str(value) for value, absent in zip(column, missing, strict=True)]
    return result
