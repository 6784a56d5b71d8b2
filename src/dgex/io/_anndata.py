"""AnnData objects in memory, read like files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dgex._frames import dense
from dgex.io._ahead import as_slice
from dgex.io._h5ad import SparseMatrix, values_of
from dgex.io._hdf5 import floating, selected
from dgex.io._source import ExpressionFile, ExpressionFileError


class AnnDataExpression(ExpressionFile):
    """An AnnData: observations are profiles, variables are genes. It may be backed by a file, or a view."""

    format = "AnnData"

    def __init__(self, adata: Any, layer: str | None):
        path = Path(adata.filename or "AnnData")
        if layer is not None and layer not in adata.layers:
            layers = ", ".join(map(repr, adata.layers)) or "none"
            raise ValueError(f"Got layer={layer!r}, but the AnnData has {layers}.")
        try:
            matrix = adata.X if layer is None else adata.layers[layer]  # of a view of a file, AnnData reads all of it
        except AttributeError as error:  # of a sparse one, with some versions of SciPy
            raise ExpressionFileError(
                f"The installed AnnData cannot read this view ({error}). Pass the AnnData that it is a view of, or "
                "adata.to_memory()."
            ) from error
        if matrix is None:
            raise ExpressionFileError("The AnnData has no X. Pass layer=..., the name of the layer with expression.")
        if matrix.dtype.kind not in "iufb":
            raise ExpressionFileError(f"Got an AnnData with values of type {matrix.dtype}, but expected numbers.")
        self.layers = tuple(adata.layers)
        self._matrix = SparseMatrix(matrix.group) if hasattr(matrix, "group") else matrix
        self._goes_through = not getattr(self._matrix, "by_row", getattr(matrix, "format", "csr") != "csc")
        super().__init__(
            path,
            profile_ids=adata.obs_names,
            gene_ids=adata.var_names,
            profile_metadata={name: values_of(adata.obs[name]) for name in adata.obs.columns},
            gene_metadata={name: values_of(adata.var[name]) for name in adata.var.columns},
            dtype=floating(matrix.dtype),
        )

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        matrix = self._matrix
        if isinstance(matrix, SparseMatrix):
            return matrix.selected(rows, columns, self.dtype)
        if hasattr(matrix, "chunks"):  # of HDF5
            return selected(matrix, rows, columns, self.dtype)
        if self._goes_through:  # of columns in memory, those are taken first
            return dense(matrix[:, columns][as_slice(rows)]).astype(self.dtype, copy=False)
        return dense(matrix[as_slice(rows)][:, columns]).astype(self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<{self.format} object: {self.shape[0]} profiles x {self.shape[1]} genes>"
