"""Preparing expression profiles: probes to genes, near-duplicates, gene identifiers, standardization."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.validation import check_array

from dgex import _statistics
from dgex._frames import column_names, frame_values, is_missing
from dgex._near_duplicates import repeats_an_earlier_row, row_blocks
from dgex._validation import FLOAT_TYPES, listed, names_others, require_same_profiles, require_unique

__all__ = [
    "align_genes",
    "collapse_probes",
    "common_genes",
    "find_genes",
    "find_near_duplicates",
    "gene_scaling",
    "standardize_platforms",
    "standardized",
    "strip_version",
]

# Bytes of probes gathered at a time.
PROBE_BLOCK_BYTES = 2**26


def collapse_probes(
    X: Any, probes: Sequence[str], genes: Mapping[str, Sequence[str]], *, missing: str = "raise"
) -> tuple[np.ndarray, np.ndarray]:
    """Average the probes (probe sets) of each gene.

    Parameters
    ----------
    X : array-like of shape (n_profiles, n_probes)
        Expression by probe, usually log2.
    probes : sequence of str
        Names of the columns of `X`.
    genes : mapping of str to sequence of str
        The probes of each gene.
    missing : {"raise", "ignore"}, default="raise"
        What to do about probes that `X` does not have: raise, or average the others and leave out genes that have none.

    Returns
    -------
    expression : ndarray of shape (n_profiles, n_genes)
        Mean of each gene's probes, in the type of `X`.
    names : ndarray of str of shape (n_genes,)
        The genes, in the order of `genes`.

    Raises
    ------
    ValueError
        If a probe is named twice, is missing and `missing="raise"`, or a data frame has the probes in another order.

    Examples
    --------
    >>> from dgex.preprocessing import collapse_probes
    >>> X = [[1.0, 2.0, 4.0], [3.0, 5.0, 5.0]]
    >>> collapse_probes(X, ["1007_s_at", "1053_at", "117_at"], {"RFC2": ["1053_at", "117_at"], "DDR1": ["1007_s_at"]})
    (array([[3., 1.],
           [5., 3.]]), array(['RFC2', 'DDR1'], dtype=object))
    """
    given = column_names(X)
    X = check_array(frame_values(X), dtype=FLOAT_TYPES, ensure_all_finite="allow-nan")
    require_unique(probes, "probe")
    if given is not None and len(given) == len(probes) and set(given) == set(probes):
        moved = [probe for probe, column in zip(probes, given, strict=True) if probe != column]
        if moved:
            raise ValueError(
                f"{len(moved)} probes are not where they are in X ({listed(moved)}). Pass probes=X.columns."
            )
    if X.shape[1] != len(probes):
        raise ValueError(f"Got {X.shape[1]} columns and {len(probes)} probe names, but expected one name per column.")
    if missing not in ("raise", "ignore"):
        raise ValueError(f"Got missing={missing!r}, but expected 'raise' or 'ignore'.")
    as_text = [gene for gene, members in genes.items() if isinstance(members, str)]
    if as_text:
        raise ValueError(
            f"Got text for the probes of {listed(as_text)}, but expected lists of probes: {{gene: [probe]}}."
        )
    genes = {gene: list(members) for gene, members in genes.items()}
    repeated = [gene for gene, members in genes.items() if len(set(members)) < len(members)]
    if repeated:
        raise ValueError(f"Got probes more than once for {listed(repeated)}, but each counts once. Drop the repeats.")
    position = {probe: index for index, probe in enumerate(probes)}
    unknown = [probe for members in genes.values() for probe in members if probe not in position]
    if unknown and missing == "raise":
        raise ValueError(
            f"{len(unknown)} probes are not in the data: {listed(unknown)}. Drop them from `genes`, or pass "
            "missing='ignore' to average the probes that are there."
        )
    columns = {gene: [position[probe] for probe in members if probe in position] for gene, members in genes.items()}
    columns = {gene: indices for gene, indices in columns.items() if indices}
    if not columns:
        raise ValueError("No gene has a probe in the data. Do `probes` and `genes` use the same identifiers?")

    gathered = np.concatenate([np.asarray(indices) for indices in columns.values()])
    counts = np.array([len(indices) for indices in columns.values()])
    first = np.cumsum(counts) - counts
    expression = np.empty((len(X), len(columns)), dtype=X.dtype)
    for rows in row_blocks(len(X), PROBE_BLOCK_BYTES // (8 * len(gathered)) + 1):
        expression[rows] = np.add.reduceat(X[rows][:, gathered], first, axis=1, dtype=np.float64) / counts
    return expression, np.array(list(columns), dtype=object)


def find_near_duplicates(
    X: Any,
    *,
    threshold: float = 1.0,
    method: str = "kmeans",
    n_clusters: int = 100,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Find profiles that nearly repeat an earlier one.

    Public compendia hold the same sample several times; left in, such profiles are in the training and in the test data
    at once. Chen et al. (2016) cluster the profiles and, within each cluster, drop every profile closer than 1.0 to an
    earlier one.

    Parameters
    ----------
    X : array-like of shape (n_profiles, n_genes)
        Expression profiles, in log2 for the threshold to mean what it does in the paper.
    threshold : float, default=1.0
        Euclidean distance below which two profiles are near-duplicates.
    method : {"kmeans", "exact"}, default="kmeans"
        "kmeans" compares profiles within the clusters of a mini-batch k-means, as the paper does, and can miss pairs
        that clustering separates; "exact" compares all pairs, in blocks, in time proportional to n_profiles^2 n_genes.
    n_clusters : int, default=100
        Number of clusters; no more than there are profiles.
    random_state : int, RandomState instance or None, default=None
        Determines the clustering.

    Returns
    -------
    duplicate : ndarray of bool of shape (n_profiles,)
        True for profiles with an earlier one (in the same cluster) closer than the threshold, whether that one is
        itself a duplicate or not. `X[~duplicate]` are the others.

    Notes
    -----
    Candidates come from a matrix product and are confirmed by their exact distance in float64.

    Examples
    --------
    >>> from dgex.preprocessing import find_near_duplicates
    >>> find_near_duplicates([[0.0, 0.0], [3.0, 0.0], [0.1, 0.2]], method="exact")
    array([False, False,  True])
    """
    X = check_array(frame_values(X), dtype=FLOAT_TYPES)
    if method not in ("kmeans", "exact"):
        raise ValueError(f"Got method={method!r}, but expected 'kmeans' or 'exact'.")
    if method == "exact":
        return repeats_an_earlier_row(X, threshold)
    clusters = MiniBatchKMeans(
        n_clusters=min(n_clusters, len(X)), max_iter=10, batch_size=1000, n_init=3, random_state=random_state
    )
    labels = clusters.fit(X).predict(X)
    duplicate = np.zeros(len(X), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        duplicate[members] = repeats_an_earlier_row(X[members], threshold)
    return duplicate


def strip_version(genes: Sequence[str] | np.ndarray) -> np.ndarray:
    """Ensembl gene identifiers without their version.

    Parameters
    ----------
    genes : sequence of str
        Identifiers such as "ENSG00000141510.16"; others are left as they are.

    Returns
    -------
    stripped : ndarray of str of shape (n_genes,)
        Identifiers such as "ENSG00000141510". The suffix "_PAR_Y" of the pseudoautosomal copies is kept.

    Examples
    --------
    >>> from dgex.preprocessing import strip_version
    >>> strip_version(["ENSG00000141510.16", "ENSG00000002586.20_PAR_Y", "TP53"])
    array(['ENSG00000141510', 'ENSG00000002586_PAR_Y', 'TP53'], dtype=object)
    """
    if isinstance(genes, str):
        raise ValueError(f"Got the text {genes!r}, but expected a sequence of identifiers: [{genes!r}].")
    pattern = re.compile(r"^(ENS[A-Z]*\d+)\.\d+")
    return np.array([pattern.sub(r"\1", str(gene)) for gene in genes], dtype=object)


def common_genes(first: Sequence[str] | np.ndarray, *others: Sequence[str] | np.ndarray) -> np.ndarray:
    """The genes that several platforms share, in the order of the first, without versions.

    Parameters
    ----------
    first, *others : sequence of str
        Gene identifiers of each platform; versions are disregarded.

    Returns
    -------
    genes : ndarray of str
        Identifiers for :func:`align_genes`.

    Examples
    --------
    >>> from dgex.preprocessing import common_genes
    >>> common_genes(["ENSG00000002", "ENSG00000001", "ENSG00000003"], ["ENSG00000001.4", "ENSG00000002.1"])
    array(['ENSG00000002', 'ENSG00000001'], dtype=object)
    """
    shared = set(strip_version(first)).intersection(*(set(strip_version(genes)) for genes in others))
    return np.array([gene for gene in dict.fromkeys(strip_version(first)) if gene in shared], dtype=object)


def find_genes(genes: Sequence[str] | np.ndarray, names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Where genes are among the names of a data set's columns.

    Parameters
    ----------
    genes : sequence of str
        The genes wanted, such as `model.feature_names_in_`.
    names : sequence of str
        Names of the columns. A gene that is not among them (nor the reverse) is looked up without its Ensembl version.

    Returns
    -------
    positions : ndarray of int of shape (n_genes,)
        The column of each gene; -1 for those that are not there.

    Raises
    ------
    ValueError
        If a gene is wanted twice, or a name that is needed occurs twice.

    Examples
    --------
    >>> from dgex.preprocessing import find_genes
    >>> find_genes(["ENSG00000003", "TP53"], ["ENSG00000001.7", "ENSG00000003.2"])
    array([ 1, -1])
    """
    require_unique(genes, "wanted gene")
    names, wanted = np.asarray(names, dtype=object), np.asarray(genes, dtype=object)
    positions = _lookup(names, wanted)
    rest = np.flatnonzero(positions < 0)
    positions[rest] = _lookup(strip_version(names), strip_version(wanted[rest]))
    found, count = np.unique(positions[positions >= 0], return_counts=True)
    shared = names[found[count > 1]]
    if len(shared):
        raise ValueError(
            f"{len(shared)} columns are wanted for several genes ({listed(shared)}), which differ by their version "
            "alone. Ask for each gene once."
        )
    return positions


def align_genes(X: Any, to: Sequence[str] | np.ndarray, *, genes: Any = None, missing: str = "raise") -> Any:
    """Bring the columns of profiles into the order of a list of genes.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_profiles, n_columns)
        Expression profiles.
    to : sequence of str
        The genes wanted, in order, such as `model.feature_names_in_`.
    genes : sequence of str, default=None
        Names of the columns of `X`; None for those of a DataFrame. A name that is not in `to` (nor the reverse) is
        looked up without its Ensembl version.
    missing : {"raise", "nan"}, default="raise"
        What to do about genes that `X` does not have: raise, or fill with NaN.

    Returns
    -------
    aligned : ndarray or DataFrame of shape (n_profiles, len(to))
        A pandas DataFrame if `X` is one, with `to` as its columns.

    Raises
    ------
    ValueError
        If genes are missing, or a name that is needed occurs twice.

    Examples
    --------
    >>> from dgex.preprocessing import align_genes
    >>> align_genes([[1.0, 2.0, 3.0]], ["ENSG00000003", "ENSG00000001"],
    ...             genes=["ENSG00000001.7", "ENSG00000002.1", "ENSG00000003.2"])
    array([[3., 1.]])
    """
    names = column_names(X) if genes is None else np.asarray(genes, dtype=object)
    if names is None:
        raise ValueError("Got an array without gene names. Pass genes=..., the names of its columns, or a DataFrame.")
    values = check_array(frame_values(X), dtype=FLOAT_TYPES, ensure_all_finite="allow-nan")
    if values.shape[1] != len(names):
        raise ValueError(
            f"Got {values.shape[1]} columns and {len(names)} gene names, but expected one name per column."
        )
    if missing not in ("raise", "nan"):
        raise ValueError(f"Got missing={missing!r}, but expected 'raise' or 'nan'.")
    position = find_genes(to, names)
    absent = [gene for gene, column in zip(to, position, strict=True) if column < 0]
    if absent and missing == "raise":
        raise ValueError(
            f"{len(absent)} of {len(to)} genes are not in the data: {listed(absent)}. Pass missing='nan' to fill them "
            "with NaN, or drop them from the genes wanted."
        )
    aligned = values[:, position]
    aligned[:, position < 0] = np.nan
    return type(X)(aligned, index=X.index, columns=list(to)) if hasattr(X, "iloc") else aligned


def gene_scaling(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the paper standardizes each gene by: its mean and its standard deviation + 1e-3.

    Parameters
    ----------
    X : array-like of shape (n_profiles, n_genes)
        Expression profiles, usually log2.

    Returns
    -------
    mean, scale : ndarray of shape (n_genes,)
        In float64. The standard deviation is the population's; the scale of a constant gene is 1.

    Examples
    --------
    >>> from dgex.preprocessing import gene_scaling
    >>> gene_scaling([[1.0, 5.0], [3.0, 5.0]])
    (array([2., 5.]), array([1.001, 1.   ]))
    """
    return _statistics.gene_scaling(check_array(frame_values(X), dtype=FLOAT_TYPES))


def standardized(X: Any, mean: Any, scale: Any) -> np.ndarray:
    """Standardize profiles by given statistics, such as those of the training profiles.

    Parameters
    ----------
    X : array-like of shape (n_profiles, n_genes)
        Expression profiles.
    mean, scale : array-like of shape (n_genes,)
        Statistics from :func:`gene_scaling`.

    Returns
    -------
    Z : ndarray of shape (n_profiles, n_genes)
        (X - mean) / scale; float32 if `X` is, else float64.

    Raises
    ------
    ValueError
        If there is not one mean and one scale for each gene, or series of them have names of other genes.

    Examples
    --------
    >>> from dgex.preprocessing import gene_scaling, standardized
    >>> train, new = [[1.0, 5.0], [3.0, 5.0]], [[2, 6]]
    >>> standardized(new, *gene_scaling(train))
    array([[0., 1.]])
    """
    genes = column_names(X)
    for name, statistics in (("mean", mean), ("scale", scale)):
        if names_others(statistics, genes):
            raise ValueError(f"Got a {name} of other genes, or in another order. Pass {name}[X.columns].")
    X = check_array(frame_values(X), dtype=FLOAT_TYPES)
    mean, scale = np.asarray(mean), np.asarray(scale)
    if mean.shape != (X.shape[1],) or scale.shape != mean.shape:
        raise ValueError(
            f"Got a mean and a scale of shapes {mean.shape} and {scale.shape}, but expected one number for each of the "
            f"{X.shape[1]} genes of X."
        )
    return _statistics.standardized(X, mean, scale)


def standardize_platforms(X: Any, platforms: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Standardize each platform's profiles by its own statistics, as the paper does before going from one to another.

    Parameters
    ----------
    X : array-like of shape (n_profiles, n_genes)
        Expression profiles of one or more platforms.
    platforms : sequence of shape (n_profiles,)
        The platform of each profile, such as "array" or "RNA-seq".

    Returns
    -------
    Z : ndarray of shape (n_profiles, n_genes)
        (x - mean) / (standard deviation + 1e-3) with the statistics of the profile's platform, in the type of `X`. A
        gene that is constant on a platform becomes zero there.

    Raises
    ------
    ValueError
        If there is not one label for each profile, a label is missing (None or NaN), or the rows of a data frame and
        the labels of a series have the same names in another order.

    Examples
    --------
    >>> from dgex.preprocessing import standardize_platforms
    >>> standardize_platforms([[1.0], [3.0], [10.0], [30.0]], ["array", "array", "counts", "counts"]).round(3)
    array([[-0.999],
           [ 0.999],
           [-1.   ],
           [ 1.   ]])
    """
    require_same_profiles(X, platforms, ("X", "platforms"))
    X = check_array(frame_values(X), dtype=FLOAT_TYPES)
    platforms = np.asarray(platforms, dtype=object)  # text would be made of missing values among text
    if platforms.shape != (len(X),):
        raise ValueError(
            f"Got {len(X)} profiles and platforms of shape {platforms.shape}, but expected one label each."
        )
    labels = platforms.tolist()
    unknown = [row for row, label in enumerate(labels) if is_missing(label)]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(X)} profiles have no platform (rows {listed(unknown)}). Name it, or drop them."
        )
    Z = np.empty_like(X)
    for platform in dict.fromkeys(labels):
        rows = np.flatnonzero(platforms == platform)
        Z[rows] = _statistics.standardized(X[rows], *_statistics.gene_scaling(X, rows))
    return Z


def _lookup(names: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    needed = set(wanted)
    require_unique([name for name in names if name in needed], "gene")
    column = {name: index for index, name in enumerate(names)}
    return np.array([column.get(gene, -1) for gene in wanted], dtype=np.intp)
