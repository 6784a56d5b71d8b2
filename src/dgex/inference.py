"""Infer the profiles of a file into another, in bounded memory: read, align genes, predict, write, all at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from dgex._progress import Progress
from dgex._validation import listed, warn_user
from dgex.io import ExpressionFile, create_expression, open_expression
from dgex.preprocessing import find_genes

__all__ = ["predict_to_file"]

# Bytes of the profiles that are written at a time; about eight times as many are in memory.
CHUNK_BYTES = 2**27

ROLE = "role"


def predict_to_file(
    model: Any,
    source: str | os.PathLike[str] | ExpressionFile,
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
    number. The file written has the landmarks, as measured, before the targets, and says which is which in the gene
    metadata "role"; metadata of profiles and landmarks are taken over.

    Parameters
    ----------
    model : estimator or Pipeline
        A fitted regressor from landmarks to targets.
    source : str, path-like or ExpressionFile
        Profiles with the landmarks among their genes, in any order; a file as for :func:`dgex.io.open_expression`, or
        one that is open.
    destination : str or path-like
        The file to write, as for :func:`dgex.io.create_expression`.
    landmark_names, target_names : sequence of str, default=None
        The genes of the model's input and output; None for the names it was fitted with.
    missing : {"raise", "mean"}, default="raise"
        What to do about landmarks that the source does not have, and about missing values of those that it has: raise,
        or take the mean of training. Genes are looked up by name, then without Ensembl versions.
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
    check_is_fitted(model)
    destination = Path(destination)
    with nullcontext(source) if isinstance(source, ExpressionFile) else open_expression(source) as file:
        _require_another_file(file.path, destination)
        plan = _plan(model, file, landmark_names, target_names, missing)
        _run(plan, destination, compression, resume, verbose)
    return destination


@dataclass(frozen=True)
class _Plan:
    """What to read, infer and write."""

    model: Any
    source: ExpressionFile
    landmarks: np.ndarray  # names, in the order of the model
    columns: np.ndarray  # of the landmarks in the source; -1 for those that are not there
    fill: np.ndarray | None  # what missing values of landmarks are replaced by
    targets: np.ndarray  # names of the targets to write
    inferred: np.ndarray  # which of the model's targets these are

    @property
    def gene_ids(self) -> np.ndarray:
        """The genes of the file to be."""
        return np.concatenate([self.landmarks, self.targets])

    @property
    def gene_metadata(self) -> dict[str, np.ndarray]:
        """What the source says of the landmarks, and which genes are inferred."""
        metadata = {ROLE: np.repeat(["landmark", "target"], [len(self.landmarks), len(self.targets)]).astype(object)}
        there = np.flatnonzero(self.columns >= 0)
        for name, column in self.source.gene_metadata.items():
            if name != ROLE:
                taken = np.full(len(self.gene_ids), None if column.dtype.kind not in "iufb" else np.nan, dtype=object)
                taken[there] = column[self.columns[there]]
                metadata[name] = taken.astype(np.float64) if column.dtype.kind in "iufb" else taken
        return metadata

    @property
    def chunk_size(self) -> int:
        """Profiles at a time."""
        return max(1, CHUNK_BYTES // (4 * len(self.gene_ids)))

    def last_rows(self, stop: int) -> slice:
        """The profiles of the last chunk before a position."""
        return slice(max(0, stop - self.chunk_size), stop)

    def read(self, rows: slice) -> np.ndarray:
        """Measured landmarks of some profiles, in the model's order."""
        there = self.columns >= 0
        X = np.full((rows.stop - rows.start, len(self.landmarks)), np.nan, dtype=self.source.dtype)
        X[:, there] = self.source.read(rows, self.columns[there])
        absent = np.isnan(X)
        if not absent.any():
            return X
        if self.fill is None:
            profile, landmark = np.argwhere(absent)[0]
            raise ValueError(
                f"{int(absent.sum())} values of landmarks are missing in profiles {rows.start} to {rows.stop - 1} of "
                f"{self.source.path}, the first in profile {self.source.profile_ids[rows.start + profile]!r}, gene "
                f"{self.landmarks[landmark]!r}. Impute them, or pass missing='mean' for the means of training."
            )
        return np.where(absent, self.fill.astype(X.dtype), X)

    def infer(self, X: np.ndarray) -> np.ndarray:
        """Landmarks and targets of some profiles."""
        y = np.asarray(_predicted(self.model, X)).reshape(len(X), -1)
        profiles = np.empty((len(X), len(self.gene_ids)), dtype=np.float32)
        profiles[:, : len(self.landmarks)] = X
        profiles[:, len(self.landmarks) :] = y if len(self.inferred) == y.shape[1] else y[:, self.inferred]
        return profiles


def _plan(
    model: Any,
    source: ExpressionFile,
    landmark_names: Sequence[str] | np.ndarray | None,
    target_names: Sequence[str] | np.ndarray | None,
    missing: str,
) -> _Plan:
    """Check that the source has what the model needs."""
    if missing not in ("raise", "mean"):
        raise ValueError(f"Got missing={missing!r}, but expected 'raise' or 'mean'.")
    last = model[-1] if isinstance(model, Pipeline) else model
    known = getattr(model, "feature_names_in_", None), getattr(last, "target_names_", None)
    landmarks = _names(landmark_names, known[0], "landmark_names", model.n_features_in_)
    targets = _names(target_names, known[1], "target_names", getattr(last, "n_outputs_", None))
    columns = find_genes(landmarks, source.gene_ids)
    absent = landmarks[columns < 0]
    fill = None
    if missing == "mean":
        fill = getattr(model, "landmark_mean_", None)
        if fill is None:
            raise ValueError(
                f"Got missing='mean', but {type(model).__name__} does not know the means of its training profiles. "
                "Impute in the source, and pass missing='raise'."
            )
    elif len(absent):
        raise ValueError(
            f"{len(absent)} of {len(landmarks)} landmarks are not in {source.path}: {listed(absent)}. Its genes "
            f"are called {listed(source.gene_ids[:3])}. Pass missing='mean' for their means of training, which costs "
            "accuracy."
        )
    if len(absent) == len(landmarks):
        raise ValueError(f"None of the {len(landmarks)} landmarks ({listed(landmarks)}) are in {source.path}.")
    inferred = np.flatnonzero(~np.isin(targets, landmarks))
    if len(inferred) < len(targets):
        warn_user(f"{len(targets) - len(inferred)} of {len(targets)} targets are landmarks, too: written as measured.")
    return _Plan(model, source, landmarks, columns, fill, targets[inferred], inferred)


def _names(given: Any, known: np.ndarray | None, what: str, size: int | None) -> np.ndarray:
    """Names as given or as the model knows them."""
    names = known if given is None else given
    if names is None:
        raise ValueError(f"The model was fitted without names of genes. Pass {what}=..., in the order of training.")
    array = np.asarray(names, dtype=object)
    if size is not None and len(array) != size:
        raise ValueError(f"Got {len(array)} {what}, but expected {size}, as the model has.")
    return array


def _predicted(model: Any, X: np.ndarray) -> Any:
    """Predictions, with names where the model was fitted with names."""
    if hasattr(model, "feature_names_in_"):
        try:
            import pandas as pd
        except ImportError:
            pass
        else:
            return model.predict(pd.DataFrame(X, columns=model.feature_names_in_, copy=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return model.predict(X)


def _require_another_file(source: Path, destination: Path) -> None:
    if destination.exists() and destination.samefile(source):
        raise ValueError(f"Got {destination} as source and destination, but expected two files.")


def _run(plan: _Plan, destination: Path, compression: int, resume: bool, verbose: bool) -> None:
    """Read ahead, infer, and write behind."""
    source, n_profiles = plan.source, len(plan.source.profile_ids)
    writer = create_expression(
        destination,
        profile_ids=source.profile_ids,
        gene_ids=plan.gene_ids,
        profile_metadata=source.profile_metadata,
        gene_metadata=plan.gene_metadata,
        compression=compression,
        resume=resume,
    )
    if resume and not writer.part.exists() and _is_finished(plan, destination):
        return
    with writer, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as scribe:
        _require_same_inference(plan, writer)
        progress = Progress(n_profiles, "profiles", done=writer.n_written, verbose=verbose)
        chunks = list(_chunks(writer.n_written, n_profiles, plan.chunk_size))
        coming = [reader.submit(plan.read, rows) for rows in chunks[:1]]
        written = scribe.submit(lambda: None)
        for number, rows in enumerate(chunks):
            X = coming.pop().result()
            if number + 1 < len(chunks):
                coming.append(reader.submit(plan.read, chunks[number + 1]))
            profiles = plan.infer(X)
            written.result()
            written = scribe.submit(writer.write, profiles)
            progress.show(rows.stop)
        written.result()
        progress.end()


def _chunks(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _is_finished(plan: _Plan, destination: Path) -> bool:
    """Whether the destination is what an earlier call has made of the same model and source, as its end tells."""
    if not destination.exists():
        return False
    with open_expression(destination) as file:
        ids = (file.profile_ids, plan.source.profile_ids), (file.gene_ids, plan.gene_ids)
        rows = plan.last_rows(len(file.profile_ids))
        return all(np.array_equal(*pair) for pair in ids) and np.array_equal(
            plan.infer(plan.read(rows)), file.read(rows)
        )


def _require_same_inference(plan: _Plan, writer: Any) -> None:
    """Raise if what is to be resumed holds other values than this model infers from this source."""
    if writer.n_written == 0:
        return
    rows = plan.last_rows(writer.n_written)
    if not np.array_equal(plan.infer(plan.read(rows)), writer.read_back(rows.start, rows.stop)):
        raise ValueError(
            f"{writer.part} cannot be resumed: its last {rows.stop - rows.start} profiles are not those that this "
            "model infers from this source. Delete it to begin anew, or pass what it was begun with."
        )
