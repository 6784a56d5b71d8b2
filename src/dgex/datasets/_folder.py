"""The folder of fetched files: room in it, and one process at a time."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dgex._files import alone, hidden
from dgex._progress import amount

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


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
def one_at_a_time(path: Path, *, verbose: bool) -> Iterator[None]:
    """Wait for another process that fetches the same file."""
    wait = partial(say, f"Waiting for another process that fetches {path.name}.", verbose=verbose)
    with alone(hidden(path, "lock"), wait):
        yield


def say(message: str, *, verbose: bool) -> None:
    """A line on standard error, in place of the progress that may stand there."""
    if verbose:
        print(("\r\x1b[K" if sys.stderr.isatty() else "") + message, file=sys.stderr)
