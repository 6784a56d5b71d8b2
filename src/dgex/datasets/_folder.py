"""The folder of fetched files: room in it, hidden files, and one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dgex._progress import amount

if sys.platform != "win32":
    import fcntl

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def hidden(path: Path, ending: str) -> Path:
    """A file beside another that is not meant to be seen."""
    return path.with_name(f".{path.name}.{ending}")


def require_writable(folder: Path) -> None:
    """Make the folder, and raise unless it can be written into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f"{folder} cannot be written: {error}. Pass data_home=..., or set DGEX_DATA_HOME, to a folder that you may "
            "write to."
        ) from error


def require_space(folder: Path, n_bytes: int, purpose: str) -> None:
    """Raise unless the folder has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(
            f"{amount(n_bytes, 'B')} are needed to {purpose}, but {amount(free, 'B')} are free in {folder}. Free some, "
            "or choose another folder by data_home=..."
        )


def unwritten(part: Path, error: OSError, kept: str) -> OSError:
    """An error of the system that says what could not be written, and what to do."""
    if error.errno not in FULL:
        return OSError(f"{part} could not be written: {error}. {kept}")
    free = amount(shutil.disk_usage(part.parent).free, "B")
    return OSError(
        f"The disk is full ({error}; {free} are free in {part.parent}). {kept} Free some space and call again, or "
        "choose another folder by data_home=..."
    )


@contextmanager
def alone(path: Path, *, verbose: bool) -> Iterator[None]:
    """Let one process through at a time, by a lock on a file, which the system lifts when the process ends.

    Where the system has no such locks (Windows, some network file systems), all are let through.
    """
    if sys.platform == "win32":
        yield
    else:
        file = path.open("ab")
        while not _has_lock(path, file, verbose=verbose):
            file.close()
            file = path.open("ab")
        with file:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


def _has_lock(path: Path, file: BinaryIO, *, verbose: bool) -> bool:
    """Wait for the lock; False if the file was removed meanwhile by the process that had it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another process that fetches {path.stem[1:]}.", verbose=verbose)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def say(message: str, *, verbose: bool) -> None:
    """A line on standard error, in place of the progress that may stand there."""
    if verbose:
        print(("\r\x1b[K" if sys.stderr.isatty() else "") + message, file=sys.stderr)
