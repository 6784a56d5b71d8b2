"""Public expression profiles, by name."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload
from urllib.parse import urlsplit

from dgex.datasets._download import RemoteFile, fetch, named_if_damaged, pooch_module
from dgex.datasets._genes import GeneInfo, read_gene_info
from dgex.io import ExpressionFile, open_expression
from dgex.io._hdf5 import hdf5

GEO = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE92nnn/GSE92743/suppl/"
ARRAYEXPRESS = "https://www.ebi.ac.uk/arrayexpress/files/E-GEUV-1/"

FILES = {
    "cmap_training": RemoteFile(
        "GSE92743_Broad_Affymetrix_training_Level3_Q2NORM_n100000x12320.gctx.gz", GEO, shape=(100_000, 12_320)
    ),
    "gtex_rnaseq": RemoteFile(
        "GSE92743_Broad_GTEx_RNAseq_Log2RPKM_q2norm_n3176x12320.gctx.gz", GEO, shape=(3_176, 12_320)
    ),
    "gtex_l1000": RemoteFile("GSE92743_Broad_GTEx_L1000_Level3_Q2NORM_n3176x12320.gctx.gz", GEO, shape=(3_176, 12_320)),
    "ols_weights": RemoteFile("GSE92743_Broad_OLS_WEIGHTS_n979x11350.gctx.gz", GEO, shape=(979, 11_350)),
    "gene_info": RemoteFile("GSE92743_Broad_GTEx_gene_info.txt.gz", GEO),
    "1000genomes": RemoteFile("GD462.GeneQuantRPKM.50FN.samplename.resk10.txt.gz", ARRAYEXPRESS, shape=(462, 23_722)),
}


class Options(TypedDict, total=False):
    """What every file is fetched with."""

    data_home: str | os.PathLike[str] | None
    base_url: str | None
    download_if_missing: bool
    n_retries: int
    verbose: bool


@overload
def fetch_cmap_training(*, return_path: Literal[False] = ..., **options: Unpack[Options]) -> ExpressionFile: ...
@overload
def fetch_cmap_training(*, return_path: Literal[True], **options: Unpack[Options]) -> Path: ...
def fetch_cmap_training(
    *,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    return_path: bool = False,
    verbose: bool = True,
) -> ExpressionFile | Path:
    """Fetch the 100,000 Affymetrix profiles that the Connectivity Map trained its inference on (GSE92743).

    100,000 profiles x 12,320 genes, log2 and quantile normalized, 4.9 GB once decompressed. Genes are called by their
    Entrez ids; :func:`fetch_gene_info` tells which are landmarks.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder to keep the file in; None for the environment variable DGEX_DATA_HOME, or else the user's cache. A
        file that is there is not fetched again, and needs no network.
    base_url : str, default=None
        The folder to fetch the file from, such as that of a mirror; None for that of GEO.
    download_if_missing : bool, default=True
        Whether to fetch the file if it is not there; otherwise that is an error.
    n_retries : int, default=3
        How often to try again when the connection breaks, or the server says that it is busy.
    return_path : bool, default=False
        Whether to return the path instead of the open file.
    verbose : bool, default=True
        Whether to show progress on standard error.

    Returns
    -------
    file : ExpressionFile or Path
        The open file, a context manager, of which nothing is read but names; or its path.

    Raises
    ------
    OSError
        If the file cannot be fetched, is not what it should be, or does not fit on the disk. What has been received
        when the connection breaks, the disk is full or the call is interrupted stays in a hidden part beside the file
        to be, and the next call goes on from there.
    ImportError
        If pooch is not installed and needed, or h5py is not.

    Notes
    -----
    The file has to have the size that the server announces, to decompress without an error, and to be of the shape
    that its name says. No checksum is built in. Processes that fetch the same file into the same folder wait for each
    other, where the system can lock files.

    Examples
    --------
    >>> from dgex.datasets import fetch_cmap_training
    >>> with fetch_cmap_training() as file:  # doctest: +SKIP
    ...     X = file.read(profiles=slice(1000), genes=["780", "7849"])
    """
    return _expression("cmap_training", return_path, data_home, base_url, download_if_missing, n_retries, verbose)


@overload
def fetch_gtex(
    platform: str = ..., *, return_path: Literal[False] = ..., **options: Unpack[Options]
) -> ExpressionFile: ...
@overload
def fetch_gtex(platform: str = ..., *, return_path: Literal[True], **options: Unpack[Options]) -> Path: ...
def fetch_gtex(
    platform: str = "rnaseq",
    *,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    return_path: bool = False,
    verbose: bool = True,
) -> ExpressionFile | Path:
    """Fetch 3,176 samples of GTEx, on either of two platforms (GSE92743).

    3,176 profiles x 12,320 genes, log2 and quantile normalized, 156 MB once decompressed. The samples are the same on
    both platforms, the genes those of :func:`fetch_cmap_training`.

    Parameters
    ----------
    platform : {"rnaseq", "l1000"}, default="rnaseq"
        "rnaseq": RNA-seq, log2 RPKM. "l1000": the L1000 assay, which measures landmarks only: values of other genes
        are inferred ones.
    data_home : str or path-like, default=None
        The folder to keep the file in, as for :func:`fetch_cmap_training`.
    base_url : str, default=None
        The folder to fetch the file from; None for that of GEO.
    download_if_missing : bool, default=True
        Whether to fetch the file if it is not there; otherwise that is an error.
    n_retries : int, default=3
        How often to try again when the connection breaks, or the server says that it is busy.
    return_path : bool, default=False
        Whether to return the path instead of the open file.
    verbose : bool, default=True
        Whether to show progress on standard error.

    Returns
    -------
    file : ExpressionFile or Path
        The open file, a context manager, of which nothing is read but names; or its path.

    Raises
    ------
    ValueError
        If there is no such platform.
    OSError, ImportError
        As for :func:`fetch_cmap_training`.

    Examples
    --------
    >>> from dgex.datasets import fetch_gtex
    >>> with fetch_gtex("l1000") as file:  # doctest: +SKIP
    ...     print(file.shape)
    (3176, 12320)
    """
    if platform not in ("rnaseq", "l1000"):
        raise ValueError(f"Got platform={platform!r}, but expected 'rnaseq' or 'l1000'.")
    return _expression(f"gtex_{platform}", return_path, data_home, base_url, download_if_missing, n_retries, verbose)


@overload
def fetch_ols_weights(*, return_path: Literal[False] = ..., **options: Unpack[Options]) -> ExpressionFile: ...
@overload
def fetch_ols_weights(*, return_path: Literal[True], **options: Unpack[Options]) -> Path: ...
def fetch_ols_weights(
    *,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    return_path: bool = False,
    verbose: bool = True,
) -> ExpressionFile | Path:
    """Fetch the weights by which the Connectivity Map infers genes from landmarks (GSE92743).

    979 inputs, the 978 landmarks and "OFFSET", x 11,350 inferred genes; 44 MB once decompressed. The file has the form
    of one of expression: what it calls profiles are the inputs.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder to keep the file in, as for :func:`fetch_cmap_training`.
    base_url : str, default=None
        The folder to fetch the file from; None for that of GEO.
    download_if_missing : bool, default=True
        Whether to fetch the file if it is not there; otherwise that is an error.
    n_retries : int, default=3
        How often to try again when the connection breaks, or the server says that it is busy.
    return_path : bool, default=False
        Whether to return the path instead of the open file.
    verbose : bool, default=True
        Whether to show progress on standard error.

    Returns
    -------
    file : ExpressionFile or Path
        The open file, a context manager: its `profile_ids` are the inputs, its `gene_ids` the inferred genes. Or its
        path.

    Raises
    ------
    OSError, ImportError
        As for :func:`fetch_cmap_training`.

    Examples
    --------
    >>> from dgex.datasets import fetch_ols_weights
    >>> with fetch_ols_weights() as file:  # doctest: +SKIP
    ...     offset = file.read(profiles="OFFSET")
    """
    return _expression("ols_weights", return_path, data_home, base_url, download_if_missing, n_retries, verbose)


@overload
def fetch_1000genomes(*, return_path: Literal[False] = ..., **options: Unpack[Options]) -> ExpressionFile: ...
@overload
def fetch_1000genomes(*, return_path: Literal[True], **options: Unpack[Options]) -> Path: ...
def fetch_1000genomes(
    *,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    return_path: bool = False,
    verbose: bool = True,
) -> ExpressionFile | Path:
    """Fetch the RNA-seq of 462 lymphoblastoid cell lines of the 1000 Genomes project (GEUVADIS, E-GEUV-1).

    462 profiles x 23,722 genes in RPKM, text compressed by gzip, which is read as it is. Genes are called by their
    Ensembl ids with versions.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder to keep the file in, as for :func:`fetch_cmap_training`.
    base_url : str, default=None
        The folder to fetch the file from; None for that of ArrayExpress.
    download_if_missing : bool, default=True
        Whether to fetch the file if it is not there; otherwise that is an error.
    n_retries : int, default=3
        How often to try again when the connection breaks, or the server says that it is busy.
    return_path : bool, default=False
        Whether to return the path instead of the open file.
    verbose : bool, default=True
        Whether to show progress on standard error.

    Returns
    -------
    file : ExpressionFile or Path
        The open file, a context manager; or its path.

    Raises
    ------
    OSError, ImportError
        As for :func:`fetch_cmap_training`; h5py is not needed.

    Examples
    --------
    >>> from dgex.datasets import fetch_1000genomes
    >>> with fetch_1000genomes() as file:  # doctest: +SKIP
    ...     print(file.shape)
    (462, 23722)
    """
    return _expression("1000genomes", return_path, data_home, base_url, download_if_missing, n_retries, verbose)


@overload
def fetch_gene_info(*, return_path: Literal[False] = ..., **options: Unpack[Options]) -> GeneInfo: ...
@overload
def fetch_gene_info(*, return_path: Literal[True], **options: Unpack[Options]) -> Path: ...
def fetch_gene_info(
    *,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    return_path: bool = False,
    verbose: bool = True,
) -> GeneInfo | Path:
    """Fetch the names of the Connectivity Map's genes, and which of them are landmarks (GSE92743).

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder to keep the file in, as for :func:`fetch_cmap_training`.
    base_url : str, default=None
        The folder to fetch the file from; None for that of GEO.
    download_if_missing : bool, default=True
        Whether to fetch the file if it is not there; otherwise that is an error.
    n_retries : int, default=3
        How often to try again when the connection breaks, or the server says that it is busy.
    return_path : bool, default=False
        Whether to return the path of the file, text compressed by gzip, instead of what is in it.
    verbose : bool, default=True
        Whether to show progress on standard error.

    Returns
    -------
    info : GeneInfo or Path
        Entrez ids, symbols, and whether each gene is a landmark; or the path.

    Raises
    ------
    OSError, ImportError
        As for :func:`fetch_cmap_training`; h5py is not needed.

    Examples
    --------
    >>> from dgex.datasets import fetch_gene_info
    >>> info = fetch_gene_info()  # doctest: +SKIP
    >>> landmarks = info.gene_ids[info.is_landmark]  # doctest: +SKIP
    """
    path = _fetched("gene_info", data_home, base_url, download_if_missing, n_retries, verbose)
    if return_path:
        return path
    with named_if_damaged(path):
        return read_gene_info(path)


def _expression(
    key: str,
    return_path: bool,
    data_home: str | os.PathLike[str] | None,
    base_url: str | None,
    download_if_missing: bool,
    n_retries: int,
    verbose: bool,
) -> ExpressionFile | Path:
    path = _fetched(key, data_home, base_url, download_if_missing, n_retries, verbose)
    return path if return_path else open_expression(path)


def _fetched(
    key: str,
    data_home: str | os.PathLike[str] | None,
    base_url: str | None,
    download_if_missing: bool,
    n_retries: int,
    verbose: bool,
) -> Path:
    """Where a file is, fetched if it is not there."""
    if n_retries < 0:
        raise ValueError(f"Got n_retries={n_retries!r}, but expected 0 or more.")
    file = FILES[key]
    url = _url(file, base_url)
    folder = _home(data_home)
    path = folder / file.stored_name
    if path.exists():
        return path
    if not download_if_missing and not (folder / file.name).exists():
        raise FileNotFoundError(
            f"{path} is not there, and download_if_missing=False. Pass True to fetch it from {url}, or the folder that "
            "it is in as data_home=..."
        )
    if file.is_unpacked:
        hdf5(path)  # says that h5py is missing before gigabytes are fetched
    check = partial(_require_shape, shape=file.shape) if file.shape else read_gene_info
    return fetch(file, url, folder, check, n_retries=n_retries, verbose=verbose)


def _url(file: RemoteFile, base_url: str | None) -> str:
    base = file.folder if base_url is None else str(base_url)
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(
            f"Got base_url={base_url!r}, but expected a folder such as 'https://mirror.example/GSE92743/'."
        )
    return f"{base.rstrip('/')}/{file.name}"


def _home(data_home: str | os.PathLike[str] | None) -> Path:
    chosen = data_home or os.environ.get("DGEX_DATA_HOME") or pooch_module().os_cache("dgex")
    return Path(chosen).expanduser().absolute()


def _require_shape(path: Path, shape: tuple[int, int]) -> None:
    with open_expression(path) as file:
        if file.shape != shape:
            raise ValueError(
                f"got {file.shape[0]} profiles x {file.shape[1]} genes, but expected {shape[0]} x {shape[1]}"
            )
