"""h5ad: AnnData's HDF5. AnnData itself reads the metadata; of the matrix, only the part asked for is read."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dgex.io._hdf5 import (
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
    """A compressed sparse matrix on disk, of which the rows (CSR) or columns (CSC) asked for are read."""

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
        n_minor = self.shape[1] if self.by_row else self.shape[0]
        wanted, order = np.unique(major, return_inverse=True)
        result = np.empty((len(wanted), len(minor)), dtype=dtype)
        starts = self._group["indptr"][()]
        for first, last in runs(wanted, ROW_GAP):
            chosen = wanted[first:last]
            low, high = chosen[0], chosen[-1] + 1
            stored = slice(starts[low], starts[high])
            values = self._group["data"][stored].astype(dtype, copy=False)  # SciPy has no float16
            arrays = values, self._group["indices"][stored], starts[low : high + 1] - starts[low]
            part = csr_matrix(arrays, shape=(high - low, n_minor))
            part.check_format(full_check=True)  # or a damaged file would be read beyond its arrays
            result[first:last] = part[chosen - low][:, minor].toarray()
        result = result[order]
        return result if self.by_row else result.T


class H5ADWriter(HDF5Writer):
    """Writes h5ad: profiles are observations, genes are variables, expression is X."""

    format = "h5ad"
    matrix_name = "X"
    id_names = "obs/_index", "var/_index"

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
        if column.dtype.kind == "O":
            categories = pd.Index(sorted({value for value in column if value is not None}), dtype=object)
            frame[name] = pd.Categorical(column, categories=categories)
        else:
            frame[name] = column
    return frame


def matrix_name(path: Path, file: Any, layer: str | None) -> str:
    """Where the expression is: in X or in a layer."""
    if layer is None and "X" not in file:
        layers = ", ".join(map(repr, file.get("layers", ()))) or "none"
        raise ExpressionFileError(f"{path} has no X. Pass layer=..., one of its layers: {layers}.")
    return "X" if layer is None else f"layers/{layer}"


def values_of(column: Any) -> np.ndarray:
    """A column of a data frame: numbers as they are, anything else as text; missing values are NaN and None."""
    kind = getattr(column.dtype, "kind", "O")
    if kind in "iufb" and isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    if kind in "iuf":
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values = np.empty(len(column), dtype=object)
    values[:] = [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    return values
