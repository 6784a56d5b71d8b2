"""Models in files that can be opened without running code; `docs/saving.md` describes the format."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

from dgex import __version__
from dgex._base import last_step
from dgex._encoding import ARRAY_KINDS, CONTENTS, Decoder, Encoder, ModelFileError, is_plain, versions
from dgex._files import is_stream, require_space, whole
from dgex._validation import warn_user

__all__ = ["ModelFileError", "is_model_file", "load_model", "model_summary", "save_model"]

FORMAT = "dgex model"
FORMAT_VERSION = 1

# Bytes read at a time.
CHUNK_BYTES = 2**22

# Items of a parameter that a summary shows.
N_SHOWN = 20

# What reading a broken or forged file raises.
SIGNS_OF_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

_Members = dict[str, zipfile.ZipInfo]


def save_model(model: Any, path: str | os.PathLike[str]) -> Path:
    """Write an estimator, fitted or not, into a file that can be loaded without running code.

    The loaded estimator predicts the same to the last bit, has the same parameters and attributes, and `partial_fit`
    and `warm_start` go on as if it had never been saved.

    Parameters
    ----------
    model : estimator or Pipeline
        An estimator of dgex, one of scikit-learn that consists of numbers, text and arrays, or a `Pipeline` of such.
    path : str or path-like
        The file, by convention called ".dgex". One that is there is replaced when the new one is complete.

    Returns
    -------
    path : Path
        The file written.

    Raises
    ------
    TypeError
        If the model holds something else, such as a function; the message says what and where.
    OSError
        If the file cannot be written. One that was there before is left as it was.

    See Also
    --------
    load_model : The reverse.

    Notes
    -----
    The file is about as large as the arrays of the model, and is written without copying them. Among several processes
    (:mod:`dgex.distributed`) let one of them save.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.persistence import load_model, save_model
    >>> data = make_expression_profiles(n_profiles=60, n_landmarks=10, n_targets=20, random_state=0)
    >>> model = KNNGeneRegressor().fit(data.X, data.y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(model, pathlib.Path(folder, "knn.dgex"))
    ...     loaded = load_model(path)
    >>> np.array_equal(loaded.predict(data.X), model.predict(data.X))
    True
    """
    path = Path(path)
    if not isinstance(model, BaseEstimator):
        raise TypeError(f"Got {reprlib.repr(model)} to save, but expected an estimator of dgex or scikit-learn.")
    encoder = Encoder()
    encoded = encoder.encode(model, "")
    contents = {
        "format": FORMAT,
        "format version": FORMAT_VERSION,
        "written by": versions(),
        "summary": _summary(model),
        "model": encoded,
    }
    text = json.dumps(contents, indent=1, allow_nan=False).encode()
    with whole(path) as part:
        require_space(path, len(text) + sum(array.nbytes for array in encoder.arrays.values()))
        with part.open("wb") as file:
            _write(file, text, encoder.arrays)
    return path


def load_model(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that :func:`save_model` has written.

    Nothing that the file says is executed: it can come from a stranger.

    Parameters
    ----------
    path : str or path-like
        The file; what it is called does not matter.

    Returns
    -------
    model : estimator or Pipeline
        The estimator as it was.

    Raises
    ------
    ModelFileError
        If the file is damaged, not a model, or of a version that this one cannot read.

    Warns
    -----
    UserWarning
        If estimators of scikit-learn in it are of another release than the one installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from dgex import QuantileJointNormalizer
    >>> from dgex.persistence import load_model, save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_model(save_model(QuantileJointNormalizer(ties="mean"), pathlib.Path(folder, "normalizer.dgex")))
    QuantileJointNormalizer(ties='mean')
    """
    path = Path(path)
    with _opened(path) as (archive, members, contents):
        written_by = _known_version(path, contents)
        decoder = Decoder(path, partial(_read_array, archive, members), written_by)
        model = decoder.decode(contents["model"])
        if not isinstance(model, BaseEstimator):
            raise ValueError(f"{CONTENTS} describes no estimator, but {type(model).__name__}")
        release = written_by["scikit-learn"]
    if decoder.uses_sklearn and release != sklearn.__version__:
        warn_user(
            f"{path} has estimators of scikit-learn {release}, but {sklearn.__version__} is installed, which may take "
            "their attributes for something else. Compare predictions with earlier ones and save the model again, or "
            f"install scikit-learn {release}."
        )
    return model


def model_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model file is about, without its arrays.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    summary : dict
        "class", "model" (its representation as text), "n_landmarks" and "n_targets" (None where the model does not
        tell), "landmarks_named" and "targets_named" (whether it knows the genes' names), "parameters" (those of a
        `Pipeline` with its steps'), and "written by", the versions of dgex, numpy, scikit-learn and jax.

    Raises
    ------
    ModelFileError
        If the file is damaged, not a model, or of a version that this one cannot read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.persistence import model_summary, save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = model_summary(save_model(KNNGeneRegressor(), pathlib.Path(folder, "knn.dgex")))
    >>> summary["class"], summary["n_landmarks"], summary["parameters"]["n_neighbors"]
    ('KNNGeneRegressor', None, 5)
    """
    path = Path(path)
    with _opened(path) as (_, _, contents):
        written_by = _known_version(path, contents)
        return {**contents["summary"], "written by": {**written_by}}


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that :func:`save_model` has written, of whichever version.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    is_model : bool
        By what is in the file, not by its name; False if there is none.

    Examples
    --------
    >>> from dgex.persistence import is_model_file
    >>> is_model_file("not there.dgex")
    False
    """
    try:
        with _opened(Path(path)):
            return True
    except (ModelFileError, OSError):
        return False


def _summary(model: Any) -> dict[str, Any]:
    """What a reader would like to know at first sight."""
    last = last_step(model)
    n_landmarks, names = getattr(model, "n_features_in_", None), getattr(last, "target_names_", None)
    n_targets = getattr(last, "n_outputs_", None if names is None else len(names))
    return {
        "class": type(model).__name__,
        "model": re.sub(r" at 0x\w+", "", " ".join(repr(model).split())),  # without addresses of generators
        "n_landmarks": _readable(n_landmarks),
        "n_targets": _readable(n_targets),
        "landmarks_named": getattr(model, "feature_names_in_", None) is not None,
        "targets_named": names is not None,
        "parameters": {name: _readable(value) for name, value in model.get_params().items()},
    }


def _readable(value: Any) -> Any:
    """A parameter as JSON for readers, who can do without the details."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple) and len(value) <= N_SHOWN:
        return [_readable(item) for item in value]
    return repr(value) if isinstance(value, float) else type(value).__name__


def _write(file: IO[bytes], text: bytes, arrays: Mapping[str, np.ndarray]) -> None:
    """The archive, the same to the last byte for the same model."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(CONTENTS), text)
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, _Members, dict[str, Any]]]:
    """The archive, its arrays and its JSON; whatever shows that the file is broken becomes one error."""
    if is_stream(path):
        raise ModelFileError(f"{path} is a pipe or a device, and a model is not read in order. Save it first.")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, os.fstat(file.fileno()).st_size)  # another save may replace what path names
            yield archive, members, _contents(archive, members)
    except (ModelFileError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except SIGNS_OF_DAMAGE as error:
        raise ModelFileError(
            f"{path} cannot be loaded: it is damaged, or not a model file ({str(error) or type(error).__name__}). Get "
            "it again and compare its size with the original's, or write it again with save_model. Files of joblib are "
            "for joblib.load, if you trust them."
        ) from error


def _members(archive: zipfile.ZipFile, n_bytes: int) -> _Members:
    """The members of an archive, each with a place of its own in the file."""
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if len(members) < len(entries) or sum(entry.compress_size for entry in entries) > n_bytes:
        raise ValueError("its members overlap")
    return members


def _taken(members: _Members, name: str) -> zipfile.ZipInfo:
    """A member that is asked for once and is no larger in memory than in the file: a small file is a small model."""
    entry = members.pop(name, None)
    if entry is None:
        raise ValueError(f"{name!r} is not in it, or is asked for twice")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise ValueError(f"{name!r} is compressed, which members of model files are not")
    return entry


def _contents(archive: zipfile.ZipFile, members: _Members) -> dict[str, Any]:
    """The JSON of a model file."""
    contents = json.loads(archive.read(_taken(members, CONTENTS)))
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise ValueError(f"its {CONTENTS} is not of the format {FORMAT!r}")
    return contents


def _known_version(path: Path, contents: dict[str, Any]) -> dict[str, str]:
    """What wrote a file; an error if that was a version whose format is unknown here."""
    written_by: dict[str, str] = contents["written by"]
    if contents["format version"] > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by dgex {written_by['dgex']} in version {contents['format version']} of the format, "
            f"but this is dgex {__version__}, which reads up to version {FORMAT_VERSION}. Update dgex."
        )
    return written_by


def _read_array(archive: zipfile.ZipFile, members: _Members, name: str, dtype: str, shape: list[int]) -> np.ndarray:
    """An array, read into its place once the file turns out to have as many bytes as it announces."""
    entry = _taken(members, name)
    with archive.open(entry) as member:
        stored_shape, by_columns, stored = _npy_header(member)
        if not is_plain(stored, ARRAY_KINDS) or (stored.str, [*stored_shape]) != (dtype, shape):
            raise ValueError(f"the array {name!r} is {stored} of shape {stored_shape}, which {CONTENTS} denies")
        n_bytes = entry.file_size - member.tell()
        if math.prod(shape) * stored.itemsize != n_bytes:
            raise ValueError(f"the array {name!r} has {n_bytes} bytes for {stored} of shape {stored_shape}")
        array = np.empty(math.prod(shape), dtype=stored)
        octets, start = array.view(np.uint8), 0
        while start < n_bytes:  # reading to the end compares the checksum
            chunk = member.read(CHUNK_BYTES)
            if not chunk:
                raise EOFError(f"the array {name!r} ends early")
            octets[start : start + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
            start += len(chunk)
    return array.reshape(shape, order="F" if by_columns else "C")


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of an array."""
    try:
        major, _ = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        return read(member)
    except Exception as error:  # NumPy evaluates a literal, which can end in nearly anything
        raise ValueError(f"an array has no header that NumPy can read: {error}") from error
