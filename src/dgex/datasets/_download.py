"""Files from a server into a folder: gone on with when broken off, checked, and whole under their name or not there."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dgex._files import hidden
from dgex._progress import Progress, amount
from dgex.datasets._folder import one_at_a_time, require_space, require_writable, say, unwritten

if TYPE_CHECKING:
    import requests

# Bytes that are received, decompressed and written at a time.
BLOCK_BYTES = 2**18

# The pause before another attempt is this long, then twice, three times as long.
PAUSE_SECONDS = 1.0

# A server that is silent for longer counts as a broken connection.
TIMEOUT_SECONDS = 60.0

# Answers of a server that may be another one the next time.
TRANSIENT = (408, 429, 500, 502, 503, 504)

# What tells one version of a file on a server from another.
VALIDATORS = ("ETag", "Last-Modified")

Check = Callable[[Path], Any]

# What reading a damaged file raises.
DAMAGE = ValueError, EOFError, zlib.error, gzip.BadGzipFile


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, and what is known of it.

    Parameters
    ----------
    name, folder : str
        The URL is that of the folder with the name, compressed by gzip.
    shape : tuple of int or None
        Profiles and genes, for files of expression.
    sha256 : str or None
        The checksum of the file as it is on the server; None if nobody has published one.
    """

    name: str
    folder: str
    shape: tuple[int, int] | None = None
    sha256: str | None = None

    @property
    def is_unpacked(self) -> bool:
        """Whether it is kept decompressed, since what is inside needs random access."""
        return self.name.endswith(".gctx.gz")

    @property
    def stored_name(self) -> str:
        """What it is called once it is kept."""
        return self.name.removesuffix(".gz") if self.is_unpacked else self.name

    @property
    def n_bytes_unpacked(self) -> int:
        """What it takes of the disk besides, decompressed: numbers in float32."""
        return 4 * self.shape[0] * self.shape[1] if self.is_unpacked and self.shape else 0


def pooch_module() -> ModuleType:
    """The module pooch, or an error that says how to get it."""
    try:
        import pooch
    except ImportError:
        raise ImportError('Fetching data needs pooch, which is not installed: pip install "dgex[fetch]"') from None
    return pooch


def fetch(file: RemoteFile, url: str, folder: Path, check: Check, *, n_retries: int, verbose: bool) -> Path:
    """Get a file into a folder, checked and ready to be read.

    Parameters
    ----------
    file : RemoteFile
        What to get.
    url : str
        From where.
    folder : Path
        The cache.
    check : callable
        Reads a file, and raises ValueError if it is not what it should be.
    n_retries : int
        How often to try again.
    verbose : bool
        Whether to show progress.
    """
    pooch = pooch_module()
    path, packed = folder / file.stored_name, folder / file.name
    require_writable(folder)
    with one_at_a_time(path, verbose=verbose), quiet(pooch.get_logger()):
        if path.exists():  # another process has fetched it meanwhile
            return path
        download = Download(hidden(packed, "part"), file, check, n_retries=n_retries, verbose=verbose)
        was_there = packed.exists()
        registry = pooch.create(folder, base_url="", registry={file.name: file.sha256}, urls={file.name: url})
        try:
            registry.fetch(file.name, downloader=download)
        except ValueError as error:  # of pooch, about the checksum
            raise OSError(f"{url}: {error}") from error
        if file.is_unpacked:
            guard = named_if_damaged(packed) if was_there else refused(url, packed)
            unpack(packed, path, guard, file.n_bytes_unpacked, check, verbose=verbose)
    return path


class Download:
    """Gets a file for pooch. What has been received is kept in a part, and gone on with by whoever comes next.

    A note beside the part says which version of the file it is of. Without one, or if the server has another version,
    the file is begun anew.

    Parameters
    ----------
    part : Path
        Where to keep what has been received.
    file : RemoteFile
        What to get.
    check : callable
        As for :func:`fetch`; for files that are kept as they come.
    n_retries : int
        How often to try again.
    verbose : bool
        Whether to show progress.
    """

    def __init__(self, part: Path, file: RemoteFile, check: Check, *, n_retries: int, verbose: bool):
        self.part = part
        self.note = part.with_suffix(".origin")
        self.file = file
        self.check = check
        self.n_retries = n_retries
        self.verbose = verbose

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Fill a file, the way pooch calls its downloaders."""
        Path(output_file).unlink()  # empty still, and left behind if the process is killed
        for attempt in range(self.n_retries + 1):
            try:
                self._attempt(url)
                break
            except ConnectionError as error:
                if attempt == self.n_retries:
                    raise self._given_up(url, error) from error
                say(f"{self.file.name}: {error}; trying again, {attempt + 1} of {self.n_retries}", verbose=self.verbose)
            time.sleep(PAUSE_SECONDS * (attempt + 1))
        if not self.file.is_unpacked:
            with refused(url, self.part, self.note):
                self.check(self.part)
        self.part.replace(output_file)
        self.note.unlink(missing_ok=True)

    def _attempt(self, url: str) -> None:
        """Ask for what is missing, and receive it; a ConnectionError says why that should be tried again."""
        import requests
        import urllib3

        origin = self._origin()
        try:
            with requests.get(url, headers=_headers(origin), stream=True, timeout=TIMEOUT_SECONDS) as response:
                answer = self._answer(url, response, origin)
                if answer in ("all", "rest"):
                    self._receive(url, response, origin["size"] if answer == "rest" else 0)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ConnectionError(_reason(error)) from error
        if answer == "other":
            self._forget()
            self._attempt(url)

    def _origin(self) -> dict[str, Any]:
        """What the note says of the part, and the size of the part: 0 if it cannot be gone on with."""
        try:
            origin = dict(json.loads(self.note.read_text()))
            size = self.part.stat().st_size
        except (OSError, ValueError, TypeError):
            return {"size": 0}
        return {**origin, "size": size if _condition(origin) else 0}

    def _answer(self, url: str, response: requests.Response, origin: dict[str, Any]) -> str:
        """What the server has: "all" of the file, the "rest", "nothing" more, or "other" bytes than those here."""
        status, size = response.status_code, origin["size"]
        begin, total = _content_range(response)
        same = all(response.headers.get(name, origin[name]) == origin[name] for name in VALIDATORS if name in origin)
        same = same and origin.get("total") in (None, total)
        if status == 200:
            return "all"
        if status == 206 and size:
            return "rest" if same and begin == size else "other"
        if status == 416 and size:  # there is nothing from there on
            return "nothing" if same and total == size else "other"
        answer = f"the server answers {status} {response.reason}"
        if status in TRANSIENT:
            raise ConnectionError(answer)
        raise OSError(
            f"{url} cannot be fetched: {answer}, but expected 200. If the file has moved, pass the folder that it "
            "is in now, or that of another copy, as base_url=..."
        )

    def _receive(self, url: str, response: requests.Response, begin: int) -> None:
        """Write what the server sends behind what is there."""
        total = _content_range(response)[1] if begin else _whole(response.headers.get("Content-Length"))
        self._require_space(total)
        size = "unknown size" if total is None else amount(total, "B")
        say(f"{url}: {size}" + (f", {amount(begin, 'B')} of them are here" if begin else ""), verbose=self.verbose)
        progress = Progress(total, "B", done=begin, title=self.file.name, verbose=self.verbose)
        try:
            with self.part.open("ab" if begin else "wb") as part:
                if not begin:
                    self._take_note(response, total)
                for block in response.raw.stream(BLOCK_BYTES, decode_content=False):
                    part.write(block)
                    progress.show(part.tell())
                part.flush()
                os.fsync(part.fileno())
        except OSError as error:
            raise unwritten(self.part, error, "What has been received is kept.") from error
        received = self.part.stat().st_size
        if total is not None and received != total:
            raise ConnectionError(f"got {received:,} bytes, but expected the {total:,} that the server announced")
        progress.end()

    def _take_note(self, response: requests.Response, total: int | None) -> None:
        note = {"total": total, **{name: response.headers.get(name) for name in VALIDATORS}}
        new = self.note.with_suffix(".new")
        new.write_text(json.dumps(note))
        new.replace(self.note)

    def _forget(self) -> None:
        self.note.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def _require_space(self, total: int | None) -> None:
        there = self.part.stat().st_size if self.part.exists() else 0
        missing = max(0, (total or 0) - there)
        purpose = f"fetch {self.file.name}" + (" and decompress it" if self.file.is_unpacked else "")
        require_space(self.part.parent, missing + self.file.n_bytes_unpacked, purpose)

    def _given_up(self, url: str, reason: Exception) -> ConnectionError:
        size = self._origin()["size"]
        kept = f" {amount(size, 'B')} are kept, and the next call goes on from there." if size else ""
        return ConnectionError(
            f"{url} cannot be fetched: {reason}.{kept} Check the network, or pass the folder of another copy as "
            "base_url=..."
        )


def _condition(origin: dict[str, Any]) -> str | None:
    """What to make a request for the rest depend on: the tag of the version, or its date if the tag is a weak one."""
    tag, date = (origin.get(name) for name in VALIDATORS)
    return tag if tag and not tag.startswith("W/") else date


def _headers(origin: dict[str, Any]) -> dict[str, str]:
    # Servers must not compress what is compressed; they would announce another size, too.
    headers = {"Accept-Encoding": "identity"}
    condition = _condition(origin)
    if origin["size"] and condition:
        headers |= {"Range": f"bytes={origin['size']}-", "If-Range": condition}
    return headers


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Where the bytes begin that the server sends, and of how many they are; None for what it does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    return (_whole(found[1]), _whole(found[2])) if found else (None, None)


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _reason(error: Exception) -> str:
    """The innermost of the errors that are wrapped in each other, as text."""
    first = next(iter(error.args), None)
    for inner in (getattr(error, "reason", None), first):
        if isinstance(inner, Exception):
            return _reason(inner)
    text = first if isinstance(first, str) else str(error)
    return text.rstrip(".") or type(error).__name__


def unpack(
    packed: Path, path: Path, guard: AbstractContextManager[None], n_bytes: int, check: Check, *, verbose: bool
) -> None:
    """Decompress a file, check it, and keep it instead of the compressed one; the guard is told of a damaged one."""
    part = hidden(path, "part")
    part.unlink(missing_ok=True)
    require_space(path.parent, n_bytes, f"decompress {packed.name}")
    try:
        with guard:
            _decompress(packed, part, verbose=verbose)
            check(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    packed.unlink()


def _decompress(packed: Path, part: Path, *, verbose: bool) -> None:
    progress = Progress(packed.stat().st_size, "B", title=f"decompressing {packed.name}", verbose=verbose)
    with packed.open("rb") as raw, gzip.open(raw) as source:
        try:
            with part.open("wb") as destination:
                while block := source.read(BLOCK_BYTES):
                    destination.write(block)
                    progress.show(raw.tell())
                destination.flush()
                os.fsync(destination.fileno())
        except gzip.BadGzipFile:
            raise
        except OSError as error:
            raise unwritten(part, error, "The compressed file is kept.") from error
    progress.end()


def require_readable(path: Path, error: Exception) -> None:
    """Raise if an error is the system's fault, such as too many open files, and not the file's."""
    if getattr(error.__cause__, "errno", None) is not None:
        raise OSError(f"{path} could not be checked: {error}") from error


@contextmanager
def named_if_damaged(path: Path) -> Iterator[None]:
    """Say that a file which was there before is damaged or not what it should be."""
    try:
        yield
    except DAMAGE as error:
        require_readable(path, error)
        raise OSError(
            f"{path} is damaged, or not the file expected: {str(error).rstrip('.')}. Put a whole copy in its place, or "
            "delete it to fetch it anew."
        ) from error


@contextmanager
def refused(url: str, *paths: Path) -> Iterator[None]:
    """Remove what has been received if it turns out to be damaged or not what it should be, and say so."""
    try:
        yield
    except DAMAGE as error:
        require_readable(paths[0], error)
        for path in paths:
            path.unlink(missing_ok=True)
        raise OSError(
            f"What {url} has sent is not the file expected, and was removed: {str(error).rstrip('.')}. Call again to "
            "fetch it anew, or pass the folder of another copy as base_url=..."
        ) from error


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from telling what is told here."""

    def serious(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(serious)
    try:
        yield
    finally:
        logger.removeFilter(serious)
