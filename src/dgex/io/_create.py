"""Write a file of expression, in the format that its name asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgex._frames import column_names, row_names
from dgex.io._delimited import DelimitedWriter
from dgex.io._destination import ExpressionWriter
from dgex.io._gctx import GCTXWriter
from dgex.io._h5ad import H5ADWriter
from dgex.io._parquet import ParquetWriter

WRITERS: dict[str, type[ExpressionWriter]] = {
    ".gctx": GCTXWriter,
    ".h5ad": H5ADWriter,
    ".parquet": ParquetWriter,
    ".tsv": DelimitedWriter,
    ".tsv.gz": DelimitedWriter,
}


def create_expression(
    path: str | os.PathLike[str],
    *,
    profile_ids: Sequence[str] | np.ndarray,
    gene_ids: Sequence[str] | np.ndarray,
    profile_metadata: Mapping[str, Any] | None = None,
    gene_metadata: Mapping[str, Any] | None = None,
    compression: int = 0,
    resume: bool = False,
) -> ExpressionWriter:
    """Create a file of expression that is written some profiles at a time.

    Parameters
    ----------
    path : str or path-like
        The file. Its ending decides the format: ".gctx", ".h5ad", ".parquet", ".tsv" or ".tsv.gz".
    profile_ids, gene_ids : sequence of str
        Names of the profiles and of the genes, each unique.
    profile_metadata, gene_metadata : mapping of str to array-like, default=None
        What else to say of each profile and each gene: numbers, or text; NaN and None are missing values. Tables in
        text hold ids and expression only.
    compression : int, default=0
        Level of compression by gzip, from 0 (none, and fastest) to 9. A ".tsv.gz" is always compressed, Parquet by its
        own means.
    resume : bool, default=False
        Whether to keep the part that is written when an error or a crash ends the writing, and to go on with the part
        that an earlier call has left: `n_written` says how many profiles it holds. GCTX and h5ad without compression.

    Returns
    -------
    writer : ExpressionWriter
        A context manager whose :meth:`~ExpressionWriter.write` takes the next profiles. The file appears when it ends
        without an error, and not before.

    Raises
    ------
    ValueError
        If ids are not unique, or sizes do not agree.
    OSError
        If the folder is missing, read-only or has no room. A file that was there before is left as it was.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from dgex.io import create_expression, open_expression
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "inferred.gctx")
    ...     with create_expression(path, profile_ids=["a", "b", "c"], gene_ids=["TP53", "MYC"]) as writer:
    ...         writer.write(np.zeros((2, 2)))
    ...         writer.write(np.ones((1, 2)))
    ...     open_expression(path)
    <GCTX file 'inferred.gctx': 3 profiles x 2 genes>
    """
    path = Path(path)
    ending = next((ending for ending in WRITERS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise ValueError(f"Got the file name {path.name!r}, but expected one that ends in {', '.join(WRITERS)}.")
    if compression not in range(10):
        raise ValueError(f"Got compression={compression!r}, but expected a whole number from 0 to 9.")
    if compression and ending == ".tsv":
        raise ValueError(
            f"Got compression={compression!r} for {path.name}, which is text. Call it {path.name}.gz to compress it."
        )
    metadata = profile_metadata or {}, gene_metadata or {}
    return WRITERS[ending](path, profile_ids, gene_ids, *metadata, compression, resume)


def write_expression(path: str | os.PathLike[str], X: Any, **described: Any) -> None:
    """Write a file of expression at once.

    Parameters
    ----------
    path : str or path-like
        The file, as in :func:`create_expression`.
    X : array-like, sparse matrix or AnnData of shape (n_profiles, n_genes)
        Expression; stored as float32.
    **described
        The other arguments of :func:`create_expression`: ids, metadata, compression. Ids may be left out where `X`
        names its rows and columns.

    Raises
    ------
    ValueError
        If ids are missing, or as in :func:`create_expression` and :meth:`ExpressionWriter.write`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from dgex.io import open_expression, write_expression
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "expression.tsv.gz")
    ...     write_expression(path, [[7.5, 9.0], [8.5, 3.25]], profile_ids=["a", "b"], gene_ids=["TP53", "MYC"])
    ...     open_expression(path).read("b")
    array([[8.5 , 3.25]], dtype=float32)
    """
    for ids, names in (("profile_ids", row_names(X)), ("gene_ids", column_names(X))):
        described.setdefault(ids, names)
        if described[ids] is None:
            raise ValueError(
                f"Got no {ids}, and expression whose {ids.partition('_')[0]}s have no names. Pass {ids}=[...]."
            )
    with create_expression(path, **described) as writer:
        writer.write(X)
