"""Open a file of expression by what is in it."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgex._files import is_stream
from dgex._frames import is_anndata
from dgex.io._anndata import AnnDataExpression
from dgex.io._delimited import DelimitedFile
from dgex.io._gct import GCTFile
from dgex.io._gctx import MATRIX, GCTXFile
from dgex.io._h5ad import H5ADFile
from dgex.io._hdf5 import hdf5
from dgex.io._npz import NpzFile
from dgex.io._parquet import ParquetFile
from dgex.io._series_matrix import SeriesMatrixFile
from dgex.io._source import ExpressionFile, ExpressionFileError, damage_explained
from dgex.io._text import GZIP, open_lines

HDF5, ZIP, PARQUET = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"PAR1"
HEAD_BYTES = 4096

# The first line of GCT; "#1. landmarks" is a comment.
GCT_VERSION = re.compile(rb"#1\.\d+\s*$", re.MULTILINE)

# Text has none of these bytes.
CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f"))


def open_expression(
    path: str | os.PathLike[str] | Any, *, rows: str = "auto", metadata: Sequence[str] = (), layer: str | None = None
) -> ExpressionFile:
    r"""Open a file of expression profiles: GCTX, GCT, h5ad, Parquet, npz, delimited text, or an AnnData.

    What the file is, is read off its content, not its name. Opening reads identifiers; expression is read when it is
    asked for, and of GCTX, h5ad and Parquet only what is asked for.

    Parameters
    ----------
    path : str, path-like or AnnData
        The file. Text may be compressed by gzip; series matrices of GEO are text, too. An AnnData in memory is read in
        the same way.
    rows : {"auto", "profiles", "genes"}, default="auto"
        What the rows of delimited text or Parquet are. "auto" goes by what identifiers look like, then by the name of
        the first column.
    metadata : sequence of str, default=()
        Columns of delimited text or Parquet that are not expression, besides text and, where rows are genes, leading
        columns of customary names ("Entrez_Gene_Id", "Chr", "Length", ...). A text is one name.
    layer : str, default=None
        The layer of an h5ad file or AnnData to read; None for `X`. Other files have none.

    Returns
    -------
    file : ExpressionFile
        A context manager with `profile_ids`, `gene_ids`, `profile_metadata`, `gene_metadata`, `shape`,
        :meth:`~ExpressionFile.read` and :meth:`~ExpressionFile.chunks`. Matrices are profiles x genes whatever the
        format.

    Raises
    ------
    ExpressionFileError
        If the file is empty, damaged, contradicts itself or is of another format; the message says what was found.
    ValueError
        If the file has no such metadata or layer.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from dgex.io import open_expression
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "expression.tsv")
    ...     _ = path.write_text("gene\tsample 1\tsample 2\nTP53\t7.5\t8.5\nMYC\t9\t3.25\n")
    ...     with open_expression(path) as file:
    ...         print(file.shape, file.gene_ids, file.read(profiles="sample 2", genes=["MYC", "TP53"]))
    (2, 2) ['TP53' 'MYC'] [[3.25 8.5 ]]
    """
    if rows not in ("auto", "profiles", "genes"):
        raise ValueError(f"Got rows={rows!r}, but expected 'auto', 'profiles' or 'genes'.")
    if is_anndata(path):
        return AnnDataExpression(path, layer)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Got a {type(path).__name__}, but expected the path of a file, or an AnnData. Expression in memory is "
            "what `model.predict` takes."
        )
    path = Path(path)
    if is_stream(path):
        raise ExpressionFileError(f"{path} is a pipe or a device, and a file is read more than once. Save it first.")
    metadata = [metadata] if isinstance(metadata, str) else metadata
    magic = first_bytes(path)
    of_anndata = magic == HDF5 and is_h5ad(path)
    if layer is not None and not of_anndata:
        raise ValueError(f"Got layer={layer!r}, but {path} is no h5ad file, and others have no layers. Leave it out.")
    if not magic:
        raise ExpressionFileError(f"{path} is empty. Get the file again.")
    if magic == HDF5:
        return H5ADFile(path, layer) if of_anndata else GCTXFile(path)
    if magic.startswith(ZIP):
        return NpzFile(path)
    if magic.startswith(PARQUET):
        return ParquetFile(path, rows, metadata)
    with damage_explained(path):
        with open_lines(path) as text:
            head = text.read(HEAD_BYTES).removeprefix(BOM_UTF8)
        require_text(path, head, compressed=magic.startswith(GZIP))
        if is_gct(head):
            return GCTFile(path)
        return SeriesMatrixFile(path) if head.lstrip().startswith(b"!") else DelimitedFile(path, rows, metadata)


def first_bytes(path: Path) -> bytes:
    """As many as tell binary formats."""
    with path.open("rb") as raw:
        return raw.read(len(HDF5))


def is_gct(head: bytes) -> bool:
    """Whether text begins as GCT does, whatever its version."""
    return GCT_VERSION.match(head) is not None


def has_layers(path: Path) -> bool:
    """Whether a file is of a format with several matrices of the same profiles and genes."""
    return first_bytes(path) == HDF5 and is_h5ad(path)


def is_h5ad(path: Path) -> bool:
    """Whether an HDF5 file has the groups of AnnData rather than those of GCTX."""
    h5py = hdf5(path)
    with damage_explained(path, RuntimeError, KeyError, ValueError), h5py.File(path, "r") as file:
        return MATRIX not in file and "obs" in file and "var" in file


def require_text(path: Path, head: bytes, *, compressed: bool) -> None:
    """Raise unless these first bytes are of text in an encoding that is read."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ExpressionFileError(f"{path} is text in UTF-16. Save it as UTF-8.")
    if compressed and head.startswith((HDF5, ZIP, PARQUET)):
        raise ExpressionFileError(
            f"{path} is compressed by gzip, and what is inside needs random access. Decompress it first: gunzip "
            f"{path.name}"
        )
    if not head:
        raise ExpressionFileError(f"{path} is empty, though compressed by gzip. Get the file again.")
    text = head.translate(None, CONTROL)
    if text[:8] != head[:8]:
        raise ExpressionFileError(
            f"{path}: got bytes {head[:8].hex(' ')} at the beginning, but expected a file in GCTX, GCT, h5ad, Parquet, "
            "npz or delimited text."
        )
    if text != head:
        place = next(place for place, byte in enumerate(head) if byte in CONTROL)
        raise ExpressionFileError(
            f"{path}: got the byte {head[place]:02x} after {place:,} others, which text does not have. Get the file "
            "again, or remove it."
        )
