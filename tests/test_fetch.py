"""Public data, fetched from a server on this machine that can be told to misbehave."""

import errno
import gzip
import hashlib
import http.server
import logging.handlers
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pooch
import pytest

import dgex.datasets
from dgex import _files, recipes
from dgex.datasets import (
    _download,
    _fetch,
    _folder,
    fetch_1000genomes,
    fetch_cmap_training,
    fetch_gene_info,
    fetch_gtex,
    fetch_ols_weights,
)
from dgex.io import open_expression, write_expression

GENES = [str(number) for number in range(101, 131)]
LANDMARKS = GENES[3:13]
PROFILES = [f"GSM{number}" for number in range(12)]
TRAINING, WEIGHTS, INFO, TEXT = "training_n12x30.gctx.gz", "weights_n11x20.gctx.gz", "info.txt.gz", "rpkm.txt.gz"


class Server(http.server.ThreadingHTTPServer):
    """Sends files, with ranges and tags as a good server does, unless it is told otherwise.

    Parameters
    ----------
    files : dict of str to bytes
        What it has.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.asked = []  # the name and the range of each request
        self.begins = []  # from where each file was sent
        self.breaks = []  # after how many bytes to break the next connections; None for not
        self.statuses = []  # what to answer the next requests instead
        self.knows_ranges = self.knows_conditions = True
        self.announced = 0  # bytes more than there are
        self.announces = True
        self.headers = {}  # to send besides, or None to leave out
        self.before_sending = lambda: None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/"

    def handle_error(self, request, client_address):
        """Be quiet about clients that go away."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.rpartition("/")[2]
        server.asked.append((name, self.headers["Range"]))
        if server.statuses or name not in server.files:
            self.send_error(server.statuses.pop(0) if server.statuses else 404)
            return
        content = server.files[name]
        tag = hashlib.md5(content).hexdigest()
        own = {"ETag": f'"{tag}"', "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT", **server.headers}
        begin = self.first_byte(own)
        if begin >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        server.begins.append(begin)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if server.announces:
            self.send_header("Content-Length", str(len(content) - begin + server.announced))
        for key, value in own.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        server.before_sending()
        most = server.breaks.pop(0) if server.breaks else None
        self.wfile.write(content[begin : None if most is None else begin + most])

    def first_byte(self, own):
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        if not wanted or not self.server.knows_ranges:
            return 0
        strong = {own["ETag"], own["Last-Modified"]} - {'W/"weak"'}
        if self.server.knows_conditions and condition not in strong:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *arguments):
        """Be quiet on standard error, which tests read."""


@pytest.fixture(scope="module")
def expression():
    return np.random.default_rng(0).normal(8, 2, (12, 30)).astype(np.float32)


@pytest.fixture(scope="module")
def files(expression, tmp_path_factory):
    """Look-alikes of the files, small."""
    folder = tmp_path_factory.mktemp("source")
    write_expression(folder / "training.gctx", expression, profile_ids=PROFILES, gene_ids=GENES)
    targets = [gene for gene in GENES if gene not in LANDMARKS]
    weights = np.random.default_rng(1).normal(size=(11, 20))
    write_expression(folder / "weights.gctx", weights, profile_ids=["OFFSET", *LANDMARKS], gene_ids=targets)
    info = "pr_gene_id\tpr_gene_symbol\tpr_gene_title\tpr_is_lm\tpr_is_bing\n" + "".join(
        f"{gene}\tSYM{gene}\t5'-\"nucleotidase\t{int(gene in LANDMARKS)}\t1\n" for gene in GENES
    )
    text = "TargetID\tGene_Symbol\tChr\tCoord\tHG00096\tHG00097\tHG00099\n" + "".join(
        f"ENSG{number:011d}.{number}\tENSG{number:011d}.{number}\t{number}\t{10**6 + number}\t0.5\t{number}\t1.25\n"
        for number in range(1, 6)
    )
    return {
        TRAINING: gzip.compress((folder / "training.gctx").read_bytes(), mtime=0),
        WEIGHTS: gzip.compress((folder / "weights.gctx").read_bytes(), mtime=0),
        INFO: gzip.compress(info.encode(), mtime=0),
        TEXT: gzip.compress(text.encode(), mtime=0),
    }


@pytest.fixture
def server(files, monkeypatch):
    with Server(dict(files)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for key, name, shape in (
            ("cmap_training", TRAINING, (12, 30)),
            ("gtex_rnaseq", TRAINING, (12, 30)),
            ("gtex_l1000", TRAINING, (12, 30)),
            ("ols_weights", WEIGHTS, (11, 20)),
            ("gene_info", INFO, None),
            ("1000genomes", TEXT, (3, 5)),
        ):
            monkeypatch.setitem(_fetch.FILES, key, _download.RemoteFile(name, server.url, shape))
        monkeypatch.setattr(_download, "PAUSE_SECONDS", 0)
        monkeypatch.setattr(_download, "BLOCK_BYTES", 500)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("DGEX_DATA_HOME", raising=False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def kept(home):
    """How much of the training profiles is there of an unfinished download."""
    return (home / f".{TRAINING}.part").stat().st_size


def set_sha256(monkeypatch, content):
    file = _fetch.FILES["cmap_training"]
    known = _download.RemoteFile(file.name, file.folder, file.shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(_fetch.FILES, "cmap_training", known)


# What is fetched.


@pytest.mark.parametrize("fetch", [fetch_cmap_training, fetch_gtex, lambda **options: fetch_gtex("l1000", **options)])
def test_profiles_are_fetched_decompressed_and_open(fetch, server, home, expression):
    with fetch(data_home=home) as file:
        assert file.path == home / "training_n12x30.gctx"
        assert file.profile_ids.tolist() == PROFILES
        assert file.gene_ids.tolist() == GENES
        np.testing.assert_array_equal(file.read(), expression)
    assert names(home) == ["training_n12x30.gctx"]
    assert server.asked == [(TRAINING, None)]


def test_a_path_is_returned_if_asked_for(server, home):
    path = fetch_ols_weights(data_home=home, return_path=True)
    assert path == home / "weights_n11x20.gctx"
    with open_expression(path) as file:
        assert file.profile_ids[0] == "OFFSET"
        assert file.shape == (11, 20)
    assert fetch_gene_info(data_home=home, return_path=True) == home / INFO
    assert fetch_1000genomes(data_home=str(home), return_path=True) == home / TEXT


def test_text_stays_compressed(server, home):
    with fetch_1000genomes(data_home=home) as file:
        assert file.shape == (3, 5)
        assert file.profile_ids.tolist() == ["HG00096", "HG00097", "HG00099"]
        assert file.read(profiles="HG00097").tolist() == [[1, 2, 3, 4, 5]]
    assert names(home) == [TEXT]


def test_gene_info_tells_landmarks_from_targets(server, home):
    info = fetch_gene_info(data_home=home)
    assert info.gene_ids.tolist() == GENES
    assert info.symbols[:2].tolist() == ["SYM101", "SYM102"]
    assert info.gene_ids[info.is_landmark].tolist() == LANDMARKS
    assert repr(info) == "GeneInfo(30 genes, 10 landmarks)"
    with fetch_cmap_training(data_home=home) as file:
        assert file.read(genes=info.gene_ids[~info.is_landmark]).shape == (12, 20)


def test_the_table_of_files_agrees_with_their_names():
    for file in _fetch.FILES.values():
        announced = re.search(r"_n(\d+)x(\d+)\.gctx\.gz$", file.name)
        if announced:
            assert file.shape == (int(announced[1]), int(announced[2]))
        assert file.folder.startswith("https://")
        assert file.folder.endswith("/")
    assert _fetch.FILES["cmap_training"].n_bytes_unpacked == 4_928_000_000
    assert _fetch.FILES["1000genomes"].n_bytes_unpacked == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pr_gene_id\tpr_gene_symbol\n1\tA\n", "got the columns pr_gene_id, pr_gene_symbol, but expected pr_is_lm"),
        ("", "expected pr_gene_id, pr_gene_symbol, pr_is_lm among them"),
        ("pr_gene_id\tpr_gene_symbol\tpr_is_lm\n", "got 0 genes"),
        ("pr_gene_id\tpr_gene_symbol\tpr_is_lm\n1\tA\n", "got 1 genes, 1 of them with other than 3 columns"),
        ("pr_gene_id\tpr_gene_symbol\tpr_is_lm\n1\tA\tyes\n", "got yes in the column pr_is_lm, but expected 0 and 1"),
        ("pr_gene_id\tpr_gene_symbol\tpr_is_lm\n1\tA\t1\n1\tB\t0\n", "Got 1 gene name more than once"),
    ],
)
def test_a_table_of_genes_that_is_none_is_refused(content, message, server, home):
    server.files[INFO] = gzip.compress(content.encode())
    with pytest.raises(OSError, match=message):
        fetch_gene_info(data_home=home)
    assert names(home) == []


def test_columns_of_genes_are_found_by_name(server, home):
    table = '\ufeff"pr_is_lm"\t"pr_gene_symbol"\t"pr_gene_id"\r\n"1"\t"A"\t"7"\r\n"0"\t"B"\t"8"\r\n\r\n'
    server.files[INFO] = gzip.compress(table.encode())
    info = fetch_gene_info(data_home=home)
    assert info.gene_ids.tolist() == ["7", "8"]
    assert info.symbols.tolist() == ["A", "B"]
    assert info.is_landmark.tolist() == [True, False]


# The cache.


def test_what_is_there_is_not_fetched_again(server, home, monkeypatch):
    fetch_cmap_training(data_home=home).close()
    fetch_gene_info(data_home=home)
    monkeypatch.setitem(sys.modules, "pooch", None)
    fetch_cmap_training(data_home=home).close()
    fetch_gene_info(data_home=home, download_if_missing=False)
    assert len(server.asked) == 2


def test_a_compressed_file_that_somebody_put_there_is_only_decompressed(server, home, files):
    home.mkdir()
    (home / TRAINING).write_bytes(files[TRAINING])
    fetch_cmap_training(data_home=home, download_if_missing=False).close()
    assert server.asked == []
    assert names(home) == ["training_n12x30.gctx"]


def test_nothing_is_fetched_unasked(server, home):
    message = r"training_n12x30\.gctx is not there, and download_if_missing=False.*fetch it from http://127"
    with pytest.raises(FileNotFoundError, match=message):
        fetch_cmap_training(data_home=home, download_if_missing=False)
    assert not home.exists()
    assert server.asked == []


def test_the_folder_is_an_argument_or_a_variable_or_the_cache_of_the_user(server, home, tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    assert fetch_gene_info(return_path=True).parent == tmp_path / "cache" / "dgex"
    monkeypatch.setenv("DGEX_DATA_HOME", str(tmp_path / "variable"))
    assert fetch_gene_info(return_path=True).parent == tmp_path / "variable"
    assert fetch_gene_info(data_home=home, return_path=True).parent == home
    monkeypatch.chdir(tmp_path)
    assert fetch_gene_info(data_home="here", return_path=True) == tmp_path / "here" / INFO
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_gene_info(data_home="~/mine", return_path=True) == tmp_path / "mine" / INFO


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(server, home):
    home.write_text("a file")
    with pytest.raises(
        PermissionError, match=r"home cannot be written: .* Pass data_home=\.\.\., or set DGEX_DATA_HOME"
    ):
        fetch_cmap_training(data_home=home)
    assert server.asked == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_of_somebody_else_is_an_error_with_advice(number, server, home, monkeypatch):
    def refuse(**options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_folder.tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=rf"home cannot be written: .*{os.strerror(number)}\. Pass data_home"):
        fetch_cmap_training(data_home=home)
    assert server.asked == []


def test_a_mirror_is_fetched_from(server, home, monkeypatch):
    file = _download.RemoteFile(TRAINING, "http://127.0.0.1:1/nowhere/", (12, 30))
    monkeypatch.setitem(_fetch.FILES, "cmap_training", file)
    fetch_cmap_training(data_home=home, base_url=server.url.rstrip("/")).close()
    assert server.asked == [(TRAINING, None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "/a/folder"}, r"Got base_url='/a/folder', but expected a folder such as 'https://"),
        ({"base_url": "ftp://127.0.0.1/"}, "Got base_url='ftp://127"),
        ({"base_url": "http://"}, "Got base_url='http://'"),
        ({"n_retries": -1}, "Got n_retries=-1, but expected 0 or more"),
        ({"platform": "array"}, "Got platform='array', but expected 'rnaseq' or 'l1000'"),
    ],
)
def test_arguments_are_checked(options, message, home):
    with pytest.raises(ValueError, match=message):
        fetch_gtex(data_home=home, **options)


# Going on.


def interrupted(server, home, n_bytes=1200, **options):
    """Begin to fetch the training profiles, and break the connection after so many bytes."""
    server.breaks = [n_bytes]
    with pytest.raises(ConnectionError) as caught:
        fetch_cmap_training(data_home=home, n_retries=0, **options)
    server.breaks = []
    return str(caught.value)


def test_a_broken_connection_keeps_what_there_is_and_the_next_call_goes_on(server, home, expression):
    message = interrupted(server, home)
    assert message.startswith(f"{server.url}{TRAINING} cannot be fetched: ")
    assert "1.2 kB are kept, and the next call goes on from there. Check the network, or pass" in message
    assert kept(home) == 1200
    assert not any(name.startswith("training") for name in names(home))
    with fetch_cmap_training(data_home=home, n_retries=0) as file:
        np.testing.assert_array_equal(file.read(), expression)
    assert server.asked == [(TRAINING, None), (TRAINING, "bytes=1200-")]
    assert names(home) == ["training_n12x30.gctx"]


def test_a_broken_connection_is_tried_again(server, home, expression, monkeypatch):
    pauses = []
    monkeypatch.setattr(_download, "PAUSE_SECONDS", 2)
    monkeypatch.setattr(_download.time, "sleep", pauses.append)
    server.breaks = [700, 0, 300]
    with fetch_cmap_training(data_home=home) as file:
        np.testing.assert_array_equal(file.read(), expression)
    assert [wanted for _, wanted in server.asked] == [None, "bytes=700-", "bytes=700-", "bytes=1000-"]
    assert pauses == [2, 4, 6]


def test_a_connection_that_breaks_too_often_is_an_error_and_a_later_call_finishes(server, home, expression):
    server.breaks = [500, 100, 100]
    with pytest.raises(ConnectionError, match="700 B are kept"):
        fetch_cmap_training(data_home=home, n_retries=2)
    assert kept(home) == 700
    with fetch_cmap_training(data_home=home) as file:
        np.testing.assert_array_equal(file.read(), expression)
    assert server.asked[-1] == (TRAINING, "bytes=700-")


@pytest.mark.parametrize("headers", [{}, {"ETag": None}, {"ETag": 'W/"weak"'}])
def test_the_same_file_is_gone_on_with(headers, server, home):
    server.headers = headers
    interrupted(server, home)
    server.breaks = [0]  # a note is kept through failures, too
    fetch_cmap_training(data_home=home).close()
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1200-", "bytes=1200-"]
    assert server.begins == [0, 1200, 1200]


@pytest.mark.parametrize("knows_conditions", [True, False])
def test_a_file_that_has_changed_is_begun_anew(knows_conditions, server, home, expression, tmp_path):
    interrupted(server, home)
    write_expression(tmp_path / "new.gctx", expression + 1, profile_ids=PROFILES, gene_ids=GENES)
    server.files[TRAINING] = gzip.compress((tmp_path / "new.gctx").read_bytes(), mtime=0)
    server.knows_conditions = knows_conditions
    with fetch_cmap_training(data_home=home, n_retries=0) as file:
        np.testing.assert_array_equal(file.read(), expression + 1)
    assert server.asked[1] == (TRAINING, "bytes=1200-")


def test_a_file_that_has_shrunk_is_begun_anew(server, home, files):
    server.files[TRAINING] = files[TRAINING] + bytes(10**4)
    interrupted(server, home, n_bytes=len(files[TRAINING]) + 100)
    server.files[TRAINING] = files[TRAINING]
    server.knows_conditions = False  # answers 416
    fetch_cmap_training(data_home=home, n_retries=0).close()
    assert [wanted for _, wanted in server.asked[1:]] == [f"bytes={len(files[TRAINING]) + 100}-", None]


def test_a_server_without_ranges_begins_anew(server, home, expression):
    interrupted(server, home)
    server.knows_ranges = False
    with fetch_cmap_training(data_home=home, n_retries=0) as file:
        np.testing.assert_array_equal(file.read(), expression)


def test_a_file_that_nothing_tells_from_its_next_version_is_begun_anew(server, home):
    server.headers = {"ETag": None, "Last-Modified": None}
    assert "are kept" not in interrupted(server, home)
    fetch_cmap_training(data_home=home, n_retries=0).close()
    assert server.asked == [(TRAINING, None)] * 2


@pytest.mark.parametrize("note", [None, "", "no JSON", "[1]", "{}"])
def test_a_part_without_a_proper_note_is_begun_anew(note, server, home, expression):
    interrupted(server, home)
    (home / f".{TRAINING}.origin").unlink()
    if note is not None:
        (home / f".{TRAINING}.origin").write_text(note)
    with fetch_cmap_training(data_home=home) as file:
        np.testing.assert_array_equal(file.read(), expression)
    assert server.asked == [(TRAINING, None)] * 2


def test_a_part_that_is_complete_is_taken_as_it_is(server, home, files, expression):
    interrupted(server, home)
    (home / f".{TRAINING}.part").write_bytes(files[TRAINING])
    with fetch_cmap_training(data_home=home, n_retries=0) as file:
        np.testing.assert_array_equal(file.read(), expression)
    assert server.asked[1:] == [(TRAINING, f"bytes={len(files[TRAINING])}-")]


def test_a_part_is_gone_on_with_from_another_server(server, home, files):
    interrupted(server, home)
    with Server(dict(files)) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        fetch_cmap_training(data_home=home, base_url=mirror.url).close()
        mirror.shutdown()
        thread.join()
    assert mirror.asked == [(TRAINING, "bytes=1200-")]


def test_an_interrupt_keeps_what_there_is(server, home, monkeypatch):
    def interrupt(progress, done):
        if done >= 1000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_download.Progress, "show", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_cmap_training(data_home=home)
    assert kept(home) == 1000
    assert names(home) == [f".{TRAINING}.origin", f".{TRAINING}.part"]
    fetch_cmap_training(data_home=home).close()
    assert server.asked == [(TRAINING, None), (TRAINING, "bytes=1000-")]


def test_an_interrupt_while_decompressing_keeps_the_compressed_file(server, home, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_download, "_decompress", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_cmap_training(data_home=home)
    assert names(home) == [TRAINING]
    fetch_cmap_training(data_home=home).close()
    assert len(server.asked) == 1
    assert names(home) == ["training_n12x30.gctx"]


# What is wrong with what is sent.


def test_a_length_that_is_not_kept_is_an_error(server, home):
    server.announced = 10
    with pytest.raises(ConnectionError, match=r"cannot be fetched: .*10 more expected"):
        fetch_cmap_training(data_home=home, n_retries=1)
    assert not any(name.startswith("training") for name in names(home))
    server.announced = 0
    fetch_cmap_training(data_home=home).close()


def test_a_length_that_is_too_short_is_an_error(server, home, files):
    server.announced = -10
    with pytest.raises(OSError, match=r"is not the file expected, and was removed: .*ended before the end"):
        fetch_cmap_training(data_home=home)
    assert names(home) == []


def test_received_bytes_are_counted(server, home, files, monkeypatch):
    import urllib3

    original = urllib3.HTTPResponse.stream
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", lambda *arguments, **keywords: [files[TRAINING][:3]])
    with pytest.raises(
        ConnectionError, match=rf"got 3 bytes, but expected the {len(files[TRAINING]):,} that the server"
    ):
        fetch_cmap_training(data_home=home, n_retries=0)
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", original)
    fetch_cmap_training(data_home=home).close()


def test_a_server_need_not_announce_a_length(server, home, capsys):
    server.announces = False
    fetch_cmap_training(data_home=home).close()
    assert f"{TRAINING}: unknown size" in capsys.readouterr().err


def test_a_server_that_calls_the_compression_of_the_file_one_of_its_own_changes_nothing(server, home):
    server.headers = {"Content-Encoding": "gzip"}
    fetch_cmap_training(data_home=home).close()
    fetch_gene_info(data_home=home)


def damaged(content):
    middle = len(content) // 2
    return content[:middle] + bytes(value ^ 255 for value in content[middle : middle + 8]) + content[middle + 8 :]


@pytest.mark.parametrize("fetch", [fetch_cmap_training, fetch_1000genomes, fetch_gene_info])
@pytest.mark.parametrize(
    "broken",
    [
        damaged,
        lambda content: content[:-8] + bytes(8),  # another checksum
        lambda content: content[:-20],
        lambda content: b"<html>The service is being moved.</html>",
        lambda content: b"",
    ],
    ids=["damaged", "checksum", "truncated", "html", "empty"],
)
def test_a_damaged_file_is_removed_and_the_next_call_fetches_another(fetch, broken, server, home, files):
    server.files.update({name: broken(content) for name, content in files.items()})
    with pytest.raises(
        OSError, match=r"is not the file expected, and was removed: .* Call again to fetch it anew, or pass"
    ):
        fetch(data_home=home)
    assert names(home) == []
    server.files.update(files)
    fetch(data_home=home, return_path=True)
    assert len(server.asked) == 2


@pytest.mark.parametrize(("fetch", "key"), [(fetch_cmap_training, "cmap_training"), (fetch_1000genomes, "1000genomes")])
def test_a_file_of_another_shape_is_removed(fetch, key, server, home, monkeypatch):
    file = _fetch.FILES[key]
    profiles, genes = file.shape
    monkeypatch.setitem(_fetch.FILES, key, _download.RemoteFile(file.name, file.folder, (13, 31)))
    message = f"was removed: got {profiles} profiles x {genes} genes, but expected 13 x 31. Call again"
    with pytest.raises(OSError, match=message):
        fetch(data_home=home)
    assert names(home) == []


def test_trouble_of_this_machine_does_not_remove_a_file(server, home, monkeypatch):
    def too_many(*arguments):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("h5py.File", too_many)
        with pytest.raises(OSError, match=r"could not be checked: .*Too many open files"):
            fetch_cmap_training(data_home=home)
    assert names(home) == [TRAINING]
    fetch_cmap_training(data_home=home).close()
    assert len(server.asked) == 1


def test_a_known_checksum_is_checked(server, home, files, monkeypatch):
    set_sha256(monkeypatch, b"something else")
    with pytest.raises(OSError, match=r"SHA256 hash of downloaded file \(training.* does not match"):
        fetch_cmap_training(data_home=home)
    assert names(home) == []
    set_sha256(monkeypatch, files[TRAINING])
    fetch_cmap_training(data_home=home).close()
    assert names(home) == ["training_n12x30.gctx"]
    assert len(server.asked) == 2


# Servers that do not answer.


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_error_of_the_server_names_the_address_and_hints_at_mirrors(status, server, home):
    server.statuses = [status]
    message = rf"{server.url}{TRAINING} cannot be fetched: the server answers {status} \w+.* as base_url=\.\.\."
    with pytest.raises(OSError, match=message) as caught:
        fetch_cmap_training(data_home=home)
    assert type(caught.value) is OSError
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_error_of_the_server_is_tried_again(status, server, home):
    server.statuses = [status] * 3
    fetch_cmap_training(data_home=home).close()
    server.statuses = [status] * 2
    with pytest.raises(ConnectionError, match=f"cannot be fetched: the server answers {status} "):
        fetch_gene_info(data_home=home, n_retries=1)


def test_an_error_of_the_server_keeps_what_there_is(server, home):
    interrupted(server, home)
    server.statuses = [404]
    with pytest.raises(OSError, match="404"):
        fetch_cmap_training(data_home=home)
    assert kept(home) == 1200


def test_a_server_that_is_not_there_is_one_clear_error(server, home):
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:1/x/training\S* cannot be fetched: .*refused"):
        fetch_cmap_training(data_home=home, base_url="http://127.0.0.1:1/x/")
    assert names(home) == []


def test_a_server_that_does_not_speak_https_is_one_clear_error(server, home):
    with pytest.raises(ConnectionError, match=r"cannot be fetched: \[SSL.*\. Check the network"):
        fetch_cmap_training(data_home=home, base_url=server.url.replace("http:", "https:"), n_retries=0)


# Full disks.


def test_room_is_looked_for_before_anything_is_written(server, home, files, monkeypatch):
    room = len(files[TRAINING]) + 12 * 30 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=room - 1))
    message = (
        r"\d.* kB are needed to fetch training_n12x30.gctx.gz and decompress it, but .* kB are free in .*home\. Free"
    )
    with pytest.raises(OSError, match=message):
        fetch_cmap_training(data_home=home)
    assert names(home) == []
    assert len(server.asked) == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=room))
    fetch_cmap_training(data_home=home).close()


def test_what_is_there_needs_no_room(server, home, files, monkeypatch):
    interrupted(server, home)
    room = len(files[TRAINING]) - 1200 + 12 * 30 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=room))
    fetch_cmap_training(data_home=home).close()


def test_room_is_looked_for_before_decompressing(server, home, files, monkeypatch):
    home.mkdir()
    (home / TRAINING).write_bytes(files[TRAINING])
    (home / ".training_n12x30.gctx.part").write_bytes(b"left behind by a process that was killed")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"1\.44 kB are needed to decompress training.* but 1 kB are free"):
        fetch_cmap_training(data_home=home)
    assert names(home) == [TRAINING]


class Full:
    """A file on a disk that fills up."""

    def __init__(self, file, room, number):
        self.file, self.room, self.number = file, room, number

    def write(self, block):
        if self.file.tell() + len(block) > self.room:
            raise OSError(self.number, os.strerror(self.number))
        return self.file.write(block)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.file.close()


def fill_disk(monkeypatch, name, room, number=errno.ENOSPC):
    """Let writing a file fail beyond so many bytes."""
    original = Path.open

    def opened(path, mode="r", *arguments, **keywords):
        file = original(path, mode, *arguments, **keywords)
        return Full(file, room, number) if path.name == name and mode in ("ab", "wb") else file

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, r"The disk is full \(.*free in"), (errno.EIO, "part could not be written: .*")],
)
def test_a_disk_that_fills_up_keeps_what_there_is(number, message, server, home, monkeypatch):
    with monkeypatch.context() as patch:
        fill_disk(patch, f".{TRAINING}.part", 1200, number)
        with pytest.raises(OSError, match=rf"{message}\. What has been received is kept\.|{message}"):
            fetch_cmap_training(data_home=home)
    assert kept(home) == 1000
    assert len(server.asked) == 1
    fetch_cmap_training(data_home=home).close()
    assert server.asked[1:] == [(TRAINING, "bytes=1000-")]


def test_a_disk_that_fills_up_while_decompressing_keeps_the_compressed_file(server, home, monkeypatch):
    with monkeypatch.context() as patch:
        fill_disk(patch, ".training_n12x30.gctx.part", 1200)
        with pytest.raises(OSError, match=r"The disk is full .* The compressed file is kept\. Free some space"):
            fetch_cmap_training(data_home=home)
    assert names(home) == [TRAINING]
    fetch_cmap_training(data_home=home).close()
    assert len(server.asked) == 1


# Several at a time.


def test_two_at_a_time_fetch_once(server, home, monkeypatch, expression):
    second_waits = threading.Event()

    def say(message, *, verbose):
        if message == "Waiting for another process that fetches training_n12x30.gctx.":
            second_waits.set()

    monkeypatch.setattr(_folder, "say", say)
    results = []
    second = threading.Thread(target=lambda: results.append(fetch_cmap_training(data_home=home, return_path=True)))

    def start_second():
        second.start()
        assert second_waits.wait(60)

    server.before_sending = start_second
    results.append(fetch_cmap_training(data_home=home, return_path=True))
    second.join()
    assert results == [home / "training_n12x30.gctx"] * 2
    assert server.asked == [(TRAINING, None)]
    assert names(home) == ["training_n12x30.gctx"]


def test_who_waited_goes_on_with_what_the_other_has_left(server, home, monkeypatch):
    second_waits = threading.Event()
    monkeypatch.setattr(_folder, "say", lambda message, *, verbose: second_waits.set())
    second = threading.Thread(target=fetch_cmap_training, kwargs={"data_home": home, "return_path": True})

    def start_second():
        server.before_sending = lambda: None
        second.start()
        assert second_waits.wait(60)

    server.before_sending = start_second
    interrupted(server, home)
    second.join()
    assert server.asked == [(TRAINING, None), (TRAINING, "bytes=1200-")]
    assert names(home) == ["training_n12x30.gctx"]


def test_a_process_that_was_killed_holds_up_nobody(server, home):
    code = f"""
import os
from dgex.datasets import _download, fetch_cmap_training, _fetch
_download.BLOCK_BYTES = 500
_fetch.FILES["cmap_training"] = _download.RemoteFile({TRAINING!r}, {server.url!r}, (12, 30))
_download.Progress.show = lambda progress, done: os._exit(9) if done >= 1000 else None
fetch_cmap_training(data_home={str(home)!r}, verbose=False)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert names(home) == [f".{TRAINING}.origin", f".{TRAINING}.part", ".training_n12x30.gctx.lock"]
    fetch_cmap_training(data_home=home).close()
    assert names(home) == ["training_n12x30.gctx"]


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / ".name.lock"
    with path.open("ab") as first, path.open("ab") as second:
        assert _files._has_lock(path, first, pytest.fail)
        path.unlink()
        first.close()
        assert not _files._has_lock(path, second, pytest.fail)
        path.touch()
        assert not _files._has_lock(path, second, pytest.fail)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_systems_without_locks_will_do(number, server, home, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unknown(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unknown)
    fetch_cmap_training(data_home=home).close()
    assert names(home) == ["training_n12x30.gctx"]


# What is said, and what is needed.


def test_progress_is_shown(server, home, capsys, monkeypatch):
    monkeypatch.setattr("dgex._progress.LOG_SECONDS", -1)
    server.breaks = [1500]
    fetch_cmap_training(data_home=home).close()
    lines = capsys.readouterr().err.splitlines()
    total = len(server.files[TRAINING])
    size = f"{total / 1e3:.3g} kB"
    assert lines[0] == f"{server.url}{TRAINING}: {size}"
    assert lines[1].startswith(f"{TRAINING}: 500 B of {size} ({500 / total:.0%}), ")
    assert any(re.match(rf"{TRAINING}: .*; trying again, 1 of 3$", line) for line in lines)
    assert f"{server.url}{TRAINING}: {size}, 1.5 kB of them are here" in lines
    assert any(line.startswith(f"{TRAINING}: {size} in ") for line in lines)
    assert any(line.startswith(f"decompressing {TRAINING}: ") for line in lines)
    assert lines[-1].startswith(f"decompressing {TRAINING}: {size} in ")


def test_nothing_is_said_if_so_wished(server, home, capsys, monkeypatch):
    said = logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(pooch.get_logger(), "handlers", [said])
    server.breaks = [1500]
    fetch_cmap_training(data_home=home, verbose=False).close()
    assert capsys.readouterr() == ("", "")
    assert said.buffer == []
    assert pooch.get_logger().filters == []


def test_pooch_is_an_extra(server, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "dgex\[fetch\]"'):
        fetch_cmap_training(data_home=home)
    with pytest.raises(ImportError, match=r'pip install "dgex\[fetch\]"'):
        fetch_cmap_training()
    assert server.asked == []


def test_h5py_is_asked_for_before_anything_is_fetched(server, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "dgex\[gctx\]"'):
        fetch_cmap_training(data_home=home)
    assert server.asked == []
    fetch_gene_info(data_home=home)


def test_neither_is_imported_before_it_is_needed():
    code = (
        "import sys, dgex.datasets; print(*sorted({'pooch', 'requests', 'urllib3', 'h5py', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_page_about_public_data_is_right(server, home, tmp_path, monkeypatch):
    """What the page shows is run on look-alikes."""
    monkeypatch.setenv("DGEX_DATA_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    for name in recipes.PAPER_CONFIGURATIONS:
        tiny = {"hidden_layer_sizes": (3, 3), "dropout": 0.1, "max_iter": 2}
        monkeypatch.setitem(recipes.PAPER_CONFIGURATIONS, name, tiny)
    page = (Path(__file__).parents[1] / "docs" / "public-data.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```", page, flags=re.M | re.S)
    assert len(blocks) >= 4
    namespace = {}
    for block in blocks:
        exec(compile(block, "public-data.md", "exec"), namespace)
    with open_expression("inferred.gctx") as file:
        assert set(file.gene_ids) == set(GENES)


def test_every_function_is_on_the_page_about_public_data():
    page = (Path(__file__).parents[1] / "docs" / "public-data.md").read_text()
    for name in dgex.datasets.__all__:
        assert name in page or not name.startswith("fetch")
    for file in _fetch.FILES.values():
        assert file.name in page


def test_a_damaged_file_that_somebody_put_there_stays(server, home, files):
    home.mkdir(exist_ok=True)
    (home / INFO).write_bytes(files[INFO][:-20])
    with pytest.raises(
        OSError, match=rf"{INFO} is damaged, or not the file expected: .* Put a whole copy in its place"
    ):
        fetch_gene_info(data_home=home, download_if_missing=False)
    assert (home / INFO).read_bytes() == files[INFO][:-20]
    (home / TRAINING).write_bytes(files[TRAINING][:-20])
    with pytest.raises(OSError, match=f"{TRAINING} is damaged, or not the file expected"):
        fetch_cmap_training(data_home=home, download_if_missing=False)
    assert (home / TRAINING).read_bytes() == files[TRAINING][:-20]
    assert server.asked == []
