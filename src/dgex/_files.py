"""Files that appear under their name whole or not at all, written by one process at a time."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

# What the names of hidden files end in at most.
LONGEST_ENDING = "progress"

# Links that lead to a file, one after the other; systems follow 40.
MOST_LINKS = 40

# Where systems keep what a process has open.
OPEN_FILES = re.compile(r"/dev/fd|/proc/[^/]+/(task/[^/]+/)?fd")

# Bytes that a file takes beyond its numbers, generously.
OVERHEAD_BYTES = 2**20


def hidden(path: Path, ending: str) -> Path:
    """A file beside another that is not meant to be seen."""
    return path.with_name(f".{path.name}.{ending}")


def followed(path: Path) -> Path:
    """The file that a link leads to, or the path itself; an error for what a process has open, such as /dev/stdout."""
    try:
        is_open, target = is_open_file(path), path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            return path
        raise OSError(f"{path} is a link that leads to itself. Remove it, or choose another name.") from None
    if is_open:
        raise OSError(
            f"{path} is a pipe or a device, or a file that is open under that name, but expected the name of a file to "
            "write."
        )
    return target


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def is_open_file(path: Path) -> bool:
    """Whether a path is, or leads through, the name of a file that a process has open, such as /dev/stdout.

    What is behind it, a pipe or a log, cannot be replaced by another file.
    """
    for _ in range(MOST_LINKS):
        folder = Path(os.path.realpath(path.absolute().parent))
        if OPEN_FILES.fullmatch(folder.as_posix()):
            return True
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return False


def require_destination(path: Path, *inputs: str | os.PathLike[str] | None) -> None:
    """Raise unless a file can be written there, before hours are spent on what belongs into it.

    `inputs` are files that it must not be one of.
    """
    path = followed(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write {path.name} into. Create it first.")
    if path.name:
        require_short_name(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but expected the name of a file to write.")
    if is_stream(path):
        raise OSError(f"{path} is a pipe or a device, but expected the name of a file to write.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path} cannot be written. Choose a folder that you may write to.")
    for source in inputs:
        if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
            raise ValueError(f"Got {path} to read and to write, but expected two files. Write under another name.")


def require_short_name(path: Path) -> None:
    """Raise unless there is room in the name of a file for what is hidden beside it while it is written."""
    folder = path.absolute().parent
    most = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    n_bytes, n_hidden = (len(os.fsencode(each.name)) for each in (path, hidden(path, LONGEST_ENDING)))
    if 0 < most < n_hidden:
        raise OSError(
            f"Got the file name {path.name!r} of {n_bytes} bytes, but expected at most {most - n_hidden + n_bytes}: "
            f"while it is written, a file called .NAME.{LONGEST_ENDING} is beside it. Choose a shorter name."
        )


def require_space(path: Path, n_bytes: int) -> None:
    """Raise unless there is room for a file of so many bytes."""
    needed, free = n_bytes + OVERHEAD_BYTES, shutil.disk_usage(path.absolute().parent).free
    if needed > free:
        raise OSError(
            f"{path} may take {needed / 1e9:.3g} GB, but {free / 1e9:.3g} GB are free there. Free some, or write "
            "elsewhere."
        )


def bytes_on_disk(path: Path) -> int:
    """What a file takes of the disk, without the holes in it."""
    if not path.exists():
        return 0
    status = path.stat()
    return 512 * status.st_blocks if hasattr(status, "st_blocks") else status.st_size


def explained(path: Path, error: BaseException) -> BaseException:
    """An error of the system that says which file could not be written; any other as it is."""
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return PermissionError(f"{path} cannot be written: {error}. Choose a folder that you may write to.")
    if isinstance(error, FileNotFoundError) or not isinstance(error, OSError | RuntimeError):
        return error
    return OSError(f"{path} could not be written, and nothing under that name has changed: {error}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A part to write into; it takes the name of the file when all went well, and is removed otherwise."""
    require_destination(path)
    path = followed(path)
    part = hidden(path, "part")
    with writing(path):
        try:
            yield part
            synchronize(part)
            part.replace(path)
        except BaseException as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise explained(path, error) from error


def synchronize(path: Path) -> None:
    """Return when a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have a file to oneself, or raise because another process writes it."""

    def refuse() -> None:
        raise BlockingIOError(
            f"{path} is being written by another process. Wait until it has ended, or write under another name."
        )

    with alone(hidden(path, "lock"), refuse):
        yield


@contextmanager
def alone(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Let one process through at a time, by a lock on a file, which the system lifts when the process ends.

    While another process has the lock, `busy` is called: it may raise; otherwise the lock is waited for. Where the
    system has no such locks (Windows, some network file systems), all are let through.
    """
    if sys.platform == "win32":
        yield
        return
    file = _open(path)
    try:
        while not _has_lock(path, file, busy):
            file.close()
            file = _open(path)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("ab")
    except OSError as error:
        raise explained(path, error) from error


def _has_lock(path: Path, file: BinaryIO, busy: Callable[[], None]) -> bool:
    """Wait for the lock; False if the file was removed meanwhile by the process that had it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
