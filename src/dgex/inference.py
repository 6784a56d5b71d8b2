"""From landmarks to all genes: from file to file in bounded memory, or from AnnData to AnnData."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from dgex._files import require_destination
from dgex._plan import ROLE, InferencePlan, inference_plan
from dgex._progress import Progress
from dgex._validation import listed, warn_user
from dgex.io import ExpressionFile, ExpressionFileError, ExpressionWriter, create_expression, open_expression
from dgex.io._delimited import PROFILE_ID
from dgex.io._destination import TAKEN_NAMES
from dgex.io._h5ad import data_frame
from dgex.io._metadata import categories_of
from dgex.preprocessing import find_genes

__all__ = ["predict_anndata", "predict_to_file"]

Metadata = Mapping[str, np.ndarray]


def predict_to_file(
    model: Any,
    source: str | os.PathLike[str] | ExpressionFile | Any,
    destination: str | os.PathLike[str],
    *,
    landmark_names: Sequence[str] | np.ndarray | None = None,
    target_names: Sequence[str] | np.ndarray | None = None,
    missing: str = "raise",
    compression: int = 0,
    resume: bool = False,
    verbose: bool = True,
) -> Path:
    """Infer the targets of all profiles of a file, and write them and the measured landmarks into another.

    Reading, inference and writing go on at the same time, some profiles at a time: memory does not grow with their
    number, but for their ids and metadata, and for sources in .npz, which are read at once. The file written has the
    landmarks, as measured, before the targets, and says which is which in the gene metadata "role": "landmark",
    "target", or "imputed", a landmark that was not measured and has the mean of training (NaN with
    ``missing="nan"``). Metadata of profiles and landmarks are taken over. Text holds no metadata.

    Parameters
    ----------
    model : estimator or Pipeline
        A fitted regressor from landmarks to targets.
    source : str, path-like, AnnData or ExpressionFile
        Profiles with the landmarks among their genes, in any order; a file or AnnData as for
        :func:`dgex.io.open_expression`, or a file that is open.
    destination : str or path-like
        The file to write, as for :func:`dgex.io.create_expression`.
    landmark_names, target_names : sequence of str, default=None
        The genes of the model's input and output; None for the names it was fitted with.
    missing : {"raise", "mean", "nan"}, default="raise"
        What to do about landmarks that the source does not have, and about missing values of those that it has: raise,
        take the mean of training, or leave NaN to a model that can do with it, such as a Pipeline that imputes. Genes
        are looked up by name, then without Ensembl versions.
    compression : int, default=0
        As for :func:`dgex.io.create_expression`.
    resume : bool, default=False
        Whether to keep what is written when an error, an interrupt or a crash ends the call, and to go on with what an
        earlier call has left. The file is the same to the last byte. GCTX and h5ad without compression.
    verbose : bool, default=True
        Whether to show progress on standard error: a line that is updated on a terminal, else one every half a minute.

    Returns
    -------
    path : Path
        The file written.

    Raises
    ------
    ValueError
        If landmarks or values are missing, names are unknown, or what is to be resumed was begun with another model.
    dgex.io.ExpressionFileError
        If the source is damaged.
    OSError
        If the destination cannot be written. A file that was there before is left as it was.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.inference import predict_to_file
    >>> from dgex.io import open_expression, write_expression
    >>> data = make_expression_profiles(200, n_landmarks=20, n_targets=50, random_state=0)
    >>> X, y = pd.DataFrame(data.X, columns=data.landmark_names), pd.DataFrame(data.y, columns=data.target_names)
    >>> model = KNNGeneRegressor().fit(X[:150], y[:150])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     measured = pathlib.Path(folder, "measured.tsv")
    ...     write_expression(measured, data.X[150:], profile_ids=range(50), gene_ids=data.landmark_names)
    ...     path = predict_to_file(model, measured, measured.with_name("inferred.tsv"), verbose=False)
    ...     open_expression(path, rows="profiles")
    <delimited text file 'inferred.tsv': 50 profiles x 70 genes>
    """
    destination = Path(destination)
    with nullcontext(source) if isinstance(source, ExpressionFile) else open_expression(source) as file:
        require_destination(destination, file.path)
        plan = inference_plan(model, file, landmark_names, target_names, missing)
        _run(plan, destination, compression, resume, verbose)
    return destination


def predict_anndata(
    model: Any,
    adata: Any,
    *,
    layer: str | None = None,
    to_layer: str | None = None,
    landmark_names: Sequence[str] | np.ndarray | None = None,
    target_names: Sequence[str] | np.ndarray | None = None,
    missing: str = "raise",
    verbose: bool = False,
) -> Any:
    """Infer the targets of all observations of an AnnData: as a new AnnData, or as a layer.

    Parameters
    ----------
    model : estimator or Pipeline
        A fitted regressor from landmarks to targets.
    adata : AnnData of shape (n_profiles, n_genes)
        Profiles with the landmarks among their variables, in any order; dense, sparse or backed by a file.
    layer : str, default=None
        The layer with the expression of the landmarks; None for `X`.
    to_layer : str, default=None
        The layer of `adata` to write into; None for a new AnnData.
    landmark_names, target_names : sequence of str, default=None
        The genes of the model's input and output; None for the names it was fitted with.
    missing : {"raise", "mean", "nan"}, default="raise"
        As for :func:`predict_to_file`.
    verbose : bool, default=False
        Whether to show progress on standard error.

    Returns
    -------
    inferred : AnnData
        Without `to_layer` a new AnnData of float32 with the landmarks, as measured, before the targets; `obs`, `obsm`,
        `obsp` and `uns` are those of `adata`, and `var` has what it says of the landmarks. With `to_layer` it is
        `adata`: the layer holds those of its variables that are landmarks, as measured, or targets, as inferred, and
        NaN for others. Either way ``var["role"]`` tells "landmark" from "target", and from "imputed", a landmark that
        was not measured and has the mean of training (NaN with ``missing="nan"``).

    Raises
    ------
    ValueError
        If landmarks or values are missing, names are unknown, or the layer cannot be written.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.inference import predict_anndata
    >>> data = make_expression_profiles(200, n_landmarks=20, n_targets=50, random_state=0)
    >>> landmarks, targets = AnnData(data.X), AnnData(data.y)
    >>> landmarks.var_names, targets.var_names = data.landmark_names, data.target_names
    >>> model = KNNGeneRegressor().fit(landmarks[:150], targets[:150])
    >>> inferred = predict_anndata(model, landmarks[150:])
    >>> inferred.shape, inferred.var["role"].value_counts().to_dict()
    ((50, 70), {'target': 50, 'landmark': 20})
    """
    if to_layer is not None and to_layer == layer:
        raise ValueError(f"Got layer={layer!r} to read and to write. Name another layer in to_layer.")
    plan = inference_plan(model, open_expression(adata, layer=layer), landmark_names, target_names, missing)
    if to_layer is None:
        return _as_anndata(adata, plan, verbose)
    columns = _columns_of_layer(adata, plan)
    values = np.full(adata.shape, np.nan, dtype=np.float32)
    there = columns >= 0
    for rows, profiles in _inferred(plan, verbose):
        values[rows, columns[there]] = profiles[:, there]
    role = np.full(adata.n_vars, None, dtype=object)
    role[columns[there]] = plan.roles[there]
    reliability = {name: np.full(adata.n_vars, np.nan) for name in plan.reliability}
    for name, column in plan.reliability.items():
        reliability[name][columns[there]] = column[there]
    adata.layers[to_layer] = values
    for name, column in data_frame(adata.var_names, {ROLE: role, **reliability}).items():
        adata.var[name] = column.array
    return adata


def _as_anndata(adata: Any, plan: InferencePlan, verbose: bool) -> Any:
    """A new AnnData of landmarks and targets with all that is known of the observations."""
    from anndata import AnnData

    X = np.empty((adata.n_obs, len(plan.gene_ids)), dtype=np.float32)
    for rows, profiles in _inferred(plan, verbose):
        X[rows] = profiles
    _warn_of_replaced(plan)
    about = {name: {key: value.copy() for key, value in getattr(adata, name).items()} for name in ("obsm", "obsp")}
    about["uns"] = {key: _copied(value) for key, value in adata.uns.items()}
    return AnnData(X, obs=adata.obs.copy(), var=_variables(adata.var, plan), **about)


def _copied(value: Any) -> Any:
    """A copy of anything that can be copied."""
    try:
        return deepcopy(value)
    except TypeError:
        return value


def _warn_of_replaced(plan: InferencePlan) -> None:
    """Warn of what the source says of genes and the result does not."""
    if plan.replaced:
        warn_user(
            f"The result has {listed(plan.replaced)} of its own for each gene, so what the source says under these "
            "names is left out. Rename it to keep it."
        )


def _variables(known: Any, plan: InferencePlan) -> Any:
    """What is known of the landmarks, in its types as far as these have missing values, and what each gene is."""
    import pandas as pd

    names = [ROLE, *plan.reliability]
    variables = data_frame(plan.gene_ids, {name: plan.gene_metadata[name] for name in names})
    place = np.concatenate([plan.columns, np.full(len(plan.targets), -1)])
    for name in known.columns.difference(names, sort=False):
        column, dtype = known[name].array, known[name].dtype
        if dtype.kind == "O" and not isinstance(dtype, pd.CategoricalDtype):  # text
            variables[name] = data_frame(plan.gene_ids, {name: plan.gene_metadata[name]})[name]
            continue
        if isinstance(dtype, np.dtype) and dtype.kind in "iub":
            column = pd.array(column.to_numpy())  # of a type that has missing values
        variables[name] = column.take(place, allow_fill=True)
    return variables


def _columns_of_layer(adata: Any, plan: InferencePlan) -> np.ndarray:
    """Where landmarks and targets are among the variables, -1 for those that are not; or why that does not work."""
    if adata.is_view:
        raise ValueError("Got a view of an AnnData, which cannot hold a layer of its own. Pass a copy: adata.copy().")
    if plan.replaced:
        raise ValueError(
            f"adata.var has {listed(plan.replaced)} of other content, which would be lost. Rename these columns."
        )
    of_targets = find_genes(plan.targets, plan.source.gene_ids)
    of_targets[np.isin(of_targets, plan.columns)] = -1  # landmarks of another version
    absent = plan.targets[of_targets < 0]
    if len(absent) == len(plan.targets):
        raise ValueError(
            f"None of the {len(absent)} targets ({listed(absent)}) are among the variables of the AnnData, so a layer "
            "cannot hold them. Leave out to_layer for a new AnnData."
        )
    if len(absent):
        warn_user(
            f"{len(absent)} of {len(plan.targets)} targets are not among the variables of the AnnData and left out: "
            f"{listed(absent)}. Leave out to_layer for a new AnnData with all of them."
        )
    return np.concatenate([plan.columns, of_targets])


def _inferred(plan: InferencePlan, verbose: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """All landmarks and targets, some profiles at a time."""
    n_profiles = len(plan.source.profile_ids)
    with Progress(n_profiles, "profiles", verbose=verbose) as progress:
        for rows in plan.chunks(0):
            yield rows, plan.infer(plan.read(rows))
            progress.show(rows.stop)


def _run(plan: InferencePlan, destination: Path, compression: int, resume: bool, verbose: bool) -> None:
    """Read ahead, infer, and write behind."""
    source, n_profiles = plan.source, len(plan.source.profile_ids)
    writer = create_expression(
        destination,
        profile_ids=source.profile_ids,
        gene_ids=plan.gene_ids,
        profile_metadata=_storable(source.profile_metadata, plan.gene_ids),
        gene_metadata=_storable(plan.gene_metadata),
        compression=compression,
        resume=resume,
    )
    if resume and not writer.part.exists() and _is_finished(plan, writer, destination):
        return
    _warn_of_replaced(plan)
    with writer, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as scribe:
        _require_same_inference(plan, writer)
        chunks = list(plan.chunks(writer.n_written))
        coming = [reader.submit(plan.read, rows) for rows in chunks[:1]]
        written = scribe.submit(lambda: None)
        rooms = [plan.room(plan.chunk_size) for _ in range(2)]  # one is inferred into while the other is written
        with Progress(n_profiles, "profiles", done=writer.n_written, verbose=verbose) as progress:
            for number, rows in enumerate(chunks):
                X = coming.pop().result()
                if number + 1 < len(chunks):
                    coming.append(reader.submit(plan.read, chunks[number + 1]))
                profiles = plan.infer(X, rooms[number % 2])
                written.result()
                written = scribe.submit(writer.write, profiles)
                progress.show(rows.stop)
            written.result()


def _storable(metadata: Mapping[str, np.ndarray], gene_ids: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Metadata under names that every format can store, some in one table with these genes."""
    columns: dict[str, np.ndarray] = {}
    changed = []
    taken = {*TAKEN_NAMES, PROFILE_ID, *gene_ids}
    for name in metadata:
        new = name.replace("/", "_")
        while new in taken or new in columns or (new != name and new in metadata):
            new += "_"
        columns[new] = metadata[name]
        changed += [f"{name} is called {new}"] * (new != name)
    if changed:
        warn_user(f"Some metadata have names that files cannot store, and are renamed: {', '.join(changed)}.")
    return columns


def _is_finished(plan: InferencePlan, writer: ExpressionWriter, destination: Path) -> bool:
    """Whether the destination is what an earlier call has made of the same model and source."""
    if not destination.exists():
        return False
    try:
        with open_expression(destination) as file:
            ids = (file.profile_ids, plan.source.profile_ids), (file.gene_ids, plan.gene_ids)
            same = all(np.array_equal(*pair) for pair in ids)
            same = same and _say_the_same(writer, writer.profile_metadata, file.profile_metadata)
            same = same and _say_the_same(writer, writer.gene_metadata, file.gene_metadata)
            return same and _holds(plan, len(file.profile_ids), file.read)
    except ExpressionFileError:
        return False


def _say_the_same(writer: ExpressionWriter, given: Metadata, stored: Metadata) -> bool:
    """Whether a file has the metadata that a writer is given, as far as the format gives them back."""
    same = set(given) == set(stored)
    return same and all(_equal(writer.as_read(column), stored[name]) for name, column in given.items())


def _equal(column: np.ndarray, stored: np.ndarray) -> bool:
    """Whether columns have the same values, of the same kind and of the same categories."""
    same = column.dtype.kind == stored.dtype.kind and categories_of(column) == categories_of(stored)
    return same and np.array_equal(column, stored, equal_nan=column.dtype.kind == "f")


def _require_same_inference(plan: InferencePlan, writer: Any) -> None:
    """Raise if what is to be resumed is not what this model infers from this source."""
    if writer.n_written and not _holds(plan, writer.n_written, writer.read_back):
        raise ValueError(
            f"{writer.part} cannot be resumed: its {writer.n_written} profiles are not those that this model infers "
            "from this source. Delete it to begin anew, or pass what it was begun with."
        )


def _holds(plan: InferencePlan, n_written: int, read: Callable[[slice, slice], np.ndarray]) -> bool:
    """Whether what was written has the landmarks of the source, and in its last chunk what the model infers."""
    measured = slice(len(plan.landmarks))
    for rows in plan.chunks(0, n_written):
        if not np.array_equal(plan.read(rows).astype(np.float32), read(rows, measured), equal_nan=True):
            return False
    last = plan.last_rows(n_written)
    return np.array_equal(plan.infer(plan.read(last)), read(last, slice(None)), equal_nan=True)
