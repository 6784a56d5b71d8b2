"""Files that are read and written in parts: what is in memory and what is read again does not grow with them."""

import shutil
import types

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.sparse

from dgex import _files
from dgex.io import (
    ExpressionFileError,
    _ahead,
    _destination,
    _h5ad,
    _metadata,
    _parquet,
    _text,
    create_expression,
    open_expression,
    write_expression,
)
from dgex.io._metadata import categories_of

N_PROFILES, N_GENES = 600, 40
GENES = [f"gene {number}" for number in range(N_GENES)]


def names(what, size):
    return pd.Index([f"{what} {number}" for number in range(size)], dtype=object)


@pytest.fixture(scope="module")
def values():
    X = scipy.sparse.random(N_PROFILES, N_GENES, 0.3, random_state=0, dtype=np.float32).toarray()
    X[7] = np.arange(N_GENES)  # a profile of many values
    X[:, 11] = np.arange(N_PROFILES)  # and a gene
    return X


def stored(kind, values, folder):
    """The profiles in a file of some kind."""
    if kind == "parquet":
        frame = pd.DataFrame(values, names("profile", N_PROFILES).rename("sample"), GENES)
        frame.to_parquet(folder / "x.parquet", row_group_size=400)
        return folder / "x.parquet"
    X = scipy.sparse.csr_matrix(values).asformat(kind)
    obs, var = (pd.DataFrame(index=names(*what)) for what in (("profile", N_PROFILES), ("gene", N_GENES)))
    anndata.AnnData(X, obs, var).write_h5ad(folder / f"{kind}.h5ad")
    return folder / f"{kind}.h5ad"


@pytest.fixture
def small(monkeypatch):
    """200 profiles of 10 genes are read ahead; 20 rows, 4 columns or 50 values at a time."""
    monkeypatch.setattr(_ahead, "AHEAD_BYTES", 4 * 10 * 200)
    monkeypatch.setattr(_h5ad, "BAND_BYTES", 8 * 50)
    monkeypatch.setattr(_parquet, "BATCH_ROWS", 20)
    monkeypatch.setattr(_parquet, "BAND_COLUMNS", 4)


@pytest.fixture
def amounts(monkeypatch):
    """How many values each reading of HDF5 and of Parquet has brought into memory, by the name of the dataset."""
    read = []
    get, batches = h5py.Dataset.__getitem__, pyarrow.parquet.ParquetFile.iter_batches

    def counted(dataset, selection, **options):
        result = get(dataset, selection, **options)
        read.append((dataset.name.rpartition("/")[2], np.size(result)))
        return result

    def counted_batches(file, *given, **options):
        for batch in batches(file, *given, **options):
            read.append(("batch", batch.num_rows * batch.num_columns))
            yield batch

    def whole(file, *given, **options):
        raise AssertionError("a row group in memory")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", counted_batches)
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", whole)
    return read


def amount(amounts, name):
    return sum(size for of, size in amounts if of == name)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["parquet", "csc", "csr"])
def test_every_way_of_reading_gives_the_same(kind, values, tmp_path):
    some, others = np.arange(25, 5, -2), np.arange(10)
    with open_expression(stored(kind, values, tmp_path)) as file:
        for rows, genes in [
            (slice(0, 30), some),
            (slice(30, 60), some),  # goes on
            (slice(60, 70), some),
            (slice(40, 75), some),  # back, within what is held
            ([5, 3, 3, 599], some),  # here and there
            (slice(75, 290), some),  # on, over several times what is read ahead
            (slice(290, 600), some),  # to the end
            (slice(600, 600), some),
            (slice(0, 30), some),  # from the beginning
            (slice(30, 60), others),  # other genes
            (slice(60, 61), others),
            (slice(61, 599), others),
            (slice(599, 600), others),
            ([], others),
            (slice(0, 5), []),
            (slice(None), [3, 3, 11]),
        ]:
            got = file.read(rows, genes)
            np.testing.assert_array_equal(got, values[rows if rows != [] else slice(0)][:, list(genes)])
            got[:] = -1  # which changes nothing that is read next
        np.testing.assert_array_equal(np.vstack([X for _, X in file.chunks(77)]), values)
        np.testing.assert_array_equal(file.read(), values)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [5, 20])
def test_of_parquet_a_row_group_is_never_in_memory_nor_read_for_every_chunk(size, values, amounts, tmp_path):
    path = stored("parquet", values, tmp_path)
    with open_expression(path) as file:
        amounts.clear()
        np.testing.assert_array_equal(np.vstack([X for _, X in file.chunks(size, range(10))]), values[:, :10])
        assert max(size for _, size in amounts) <= 20 * 4
        # The first chunk, then four times 200 profiles at most, from the beginning of a group of 400 each time.
        assert amount(amounts, "batch") <= 10 * (20 + 4 * 400)
        assert file._ahead._held.size == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [5, 20])
def test_of_sparse_columns_little_is_in_memory_and_few_passes_are_made(size, values, amounts, tmp_path):
    with open_expression(stored("csc", values, tmp_path)) as file:
        amounts.clear()
        held = 0
        for rows, X in file.chunks(size, range(10)):
            np.testing.assert_array_equal(X, values[rows, :10])
            held = max(held, file._ahead._held.nbytes)
        assert max(size for _, size in amounts) <= 50
        assert amount(amounts, "data") <= (1 + 3) * np.count_nonzero(values[:, :10])
        assert 0 < held <= _ahead.AHEAD_BYTES
        assert file._ahead._held.size == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [5, 300])
def test_of_sparse_rows_each_value_is_read_once_and_few_at_a_time(size, values, amounts, tmp_path):
    with open_expression(stored("csr", values, tmp_path)) as file:
        amounts.clear()
        np.testing.assert_array_equal(np.vstack([X for _, X in file.chunks(size, [11, 2])]), values[:, [11, 2]])
        assert max(n for name, n in amounts if name != "indptr") <= 50
        assert amount(amounts, "data") == amount(amounts, "indices") == np.count_nonzero(values)
        assert amount(amounts, "indptr") == N_PROFILES + N_PROFILES // size


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("ending", "rows_are_genes", "n_passes"), [("csv", True, 4), ("csv.gz", False, 4), ("csv", False, 30)]
)
def test_text_is_gone_through_a_few_times_only(values, monkeypatch, tmp_path, ending, rows_are_genes, n_passes):
    passes, read = [], _text.TextTable.read
    monkeypatch.setattr(_text.TextTable, "read", lambda *given: [passes.append(given), read(*given)][1])
    frame = pd.DataFrame(values, names("profile", N_PROFILES), GENES)
    path = tmp_path / f"x.{ending}"
    (frame.T if rows_are_genes else frame).to_csv(path)
    with open_expression(path, rows="genes" if rows_are_genes else "profiles") as file:
        np.testing.assert_array_equal(np.vstack([X for _, X in file.chunks(20, range(10))]), values[:, :10])
    assert len(passes) == n_passes


@pytest.mark.usefixtures("small")
def test_what_a_sparse_matrix_has_twice_is_added(tmp_path, values):
    path = stored("csr", values, tmp_path)
    with h5py.File(path, "r+") as file:
        for name, column in (("data", np.float32([1, 2, 4])), ("indices", np.int32([5, 5, 6]))):
            del file[f"X/{name}"]
            file[f"X/{name}"] = column
        file["X/indptr"][:] = [0, *[3] * N_PROFILES]
    with open_expression(path) as file:
        assert file.read(0, [6, 5]).tolist() == [[4, 3]]


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("change", [-5, 10**6])
def test_damaged_positions_of_a_sparse_matrix_are_noticed(kind, change, values, tmp_path):
    path = stored(kind, values, tmp_path)
    with h5py.File(path, "r+") as file:
        file["X/indptr"][3] = change
    with open_expression(path) as file, pytest.raises(ExpressionFileError, match="sparse matrix are damaged"):
        file.read(range(10), range(10))


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_sparse_anndata_in_memory_are_not_made_dense_beyond_what_is_asked_for(kind, values, monkeypatch):
    adata = anndata.AnnData(scipy.sparse.csr_matrix(values).asformat(kind))
    made = []
    toarray = type(adata.X).toarray
    monkeypatch.setattr(type(adata.X), "toarray", lambda X, *given: made.append(X.shape) or toarray(X, *given))
    file = open_expression(adata)
    np.testing.assert_array_equal(np.vstack([X for _, X in file.chunks(100, [3, 1])]), values[:, [3, 1]])
    assert {n_genes for _, n_genes in made} == {2}
    assert len(made) == (2 if kind == "csc" else 6)  # of columns the first chunk, then what is read ahead


def test_dense_booleans_are_numbers(tmp_path):
    X = np.random.default_rng(0).random((20, 5)) < 0.5
    obs, var = pd.DataFrame(index=names("profile", 20)), pd.DataFrame(index=names("gene", 5))
    anndata.AnnData(X, obs, var).write_h5ad(tmp_path / "x.h5ad")
    with open_expression(tmp_path / "x.h5ad") as file:
        got = file.read()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, X)


def test_a_row_group_with_fewer_rows_than_announced_is_damaged(values, tmp_path, monkeypatch):
    path = stored("parquet", values, tmp_path)
    batches = pyarrow.parquet.ParquetFile.iter_batches
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", lambda *a, **k: list(batches(*a, **k))[:-1])
    with open_expression(path) as file, pytest.raises(ExpressionFileError, match="but expected 400"):
        file.read(range(10))


BIG = 2**60 + 1
METADATA = {
    "flag": np.array([True, False, True, False]),
    "known": np.array([True, None, False, None], dtype=object),
    "entrez": np.array([BIG, None, 3, -(2**61)], dtype=object),
    "unsigned": np.array([2**63 + 5, None, 3, 4], dtype=object),
    "whole": np.array([BIG, 2, 3, 4]),
    "few": np.array([1, np.nan, 3, 4]),
    "text": np.array(["a", None, "007", "1"], dtype=object),
}


@pytest.mark.parametrize("ending", [".h5ad", ".parquet"])
def test_booleans_and_large_numbers_are_kept(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    described = {"profile_metadata": METADATA, "gene_metadata": METADATA}
    write_expression(path, np.ones((4, 4)), profile_ids=list("abcd"), gene_ids=list("wxyz"), **described)
    with open_expression(path) as file:
        for columns in (file.profile_metadata, file.gene_metadata):
            assert columns["flag"].dtype == bool
            assert columns["few"].dtype == np.float64
            assert columns["entrez"].tolist() == [BIG, None, 3, -(2**61)]
            for name in METADATA:
                np.testing.assert_array_equal(columns[name], METADATA[name])
    if ending == ".h5ad":
        kinds = {name: str(dtype) for name, dtype in anndata.read_h5ad(path).obs.dtypes.items()}
        assert kinds["flag"] == "bool"
        assert [kinds[name] for name in ("known", "entrez", "unsigned")] == ["boolean", "Int64", "UInt64"]
    else:
        kinds = pd.read_parquet(path).dtypes
        assert str(kinds["flag"]) == "bool"


def test_gctx_has_numbers_for_booleans(tmp_path):
    path = tmp_path / "x.gctx"
    ids = {"profile_ids": list("abcd"), "gene_ids": list("wxyz")}
    write_expression(path, np.ones((4, 4)), **ids, profile_metadata=METADATA)
    with open_expression(path) as file:
        assert file.profile_metadata["flag"].dtype == np.int8
        np.testing.assert_array_equal(file.profile_metadata["known"], [1, np.nan, 0, np.nan])
        assert file.profile_metadata["entrez"].tolist() == [BIG, None, 3, -(2**61)]


def test_numbers_with_none_are_numbers_and_those_that_no_type_holds_text(tmp_path):
    path = tmp_path / "x.h5ad"
    metadata = {"dose": [1, None, 2.5], "huge": [2**70, None, 1], "when": pd.date_range("2020-01-01", periods=3)}
    metadata["batch"] = pd.array([1, None, 3], dtype="Int64")
    write_expression(path, np.ones((3, 1)), profile_ids=list("abc"), gene_ids=["x"], profile_metadata=metadata)
    with open_expression(path) as file:
        np.testing.assert_array_equal(file.profile_metadata["dose"], [1, np.nan, 2.5])
        np.testing.assert_array_equal(file.profile_metadata["batch"], [1, np.nan, 3])
        assert file.profile_metadata["huge"].tolist() == [str(2**70), None, "1"]
        assert file.profile_metadata["when"][0].startswith("2020-01-01")


@pytest.mark.parametrize(
    ("categories", "ordered"),
    [(["mid", "low", "high"], True), (["b", "a"], False), ([3, 1, 2], False), ([2.5, 1.0], True)],
)
def test_categories_and_their_order_go_from_h5ad_to_h5ad(categories, ordered, tmp_path):
    codes = [0, 1, -1, len(categories) - 1]
    are_text = isinstance(categories[0], str)
    kept = pd.Index(categories, dtype=object if are_text else None)
    column = pd.Categorical.from_codes(codes, categories=kept, ordered=ordered)
    obs = pd.DataFrame({"stage": column}, index=names("profile", 4))
    anndata.AnnData(np.ones((4, 1)), obs, pd.DataFrame(index=names("gene", 1))).write_h5ad(tmp_path / "x.h5ad")
    with open_expression(tmp_path / "x.h5ad") as file:
        stage = file.profile_metadata["stage"]
        assert stage.tolist() == [None if code < 0 else str(categories[code]) for code in codes]
        assert categories_of(stage) == (tuple(categories), ordered)
        ids = {"profile_ids": file.profile_ids, "gene_ids": file.gene_ids}
        write_expression(tmp_path / "y.h5ad", file.read(), **ids, profile_metadata=file.profile_metadata)
    again = anndata.read_h5ad(tmp_path / "y.h5ad").obs["stage"].array
    assert again.ordered == ordered
    assert again.categories.tolist() == categories
    assert again.codes.tolist() == codes


def test_text_that_is_none_of_its_categories_gets_others():
    column = _metadata.with_categories(["b", None, "a"], ["b", "a"], ordered=True)
    assert _h5ad.categorical(column).ordered
    column[0] = "new"
    assert _h5ad.categorical(column).categories.tolist() == ["a", "new"]


def test_names_without_room_for_what_is_hidden_are_refused(tmp_path):
    ids = {"profile_ids": ["a"], "gene_ids": ["x"]}
    longest = tmp_path / ("n" * 240 + ".gctx")
    write_expression(longest, [[1.0]], **ids)
    for name in ("n" * 241 + ".gctx", "\u00e4" * 121 + ".gctx", "n" * 300 + ".gctx"):
        with pytest.raises(OSError, match=r"Got the file name .* bytes, but expected at most 245"):
            _files.require_destination(tmp_path / name)
        with pytest.raises(OSError, match="expected at most 245"):
            write_expression(tmp_path / name, [[1.0]], **ids)
    assert list(tmp_path.iterdir()) == [longest]


def free(monkeypatch, n_bytes):
    """Have a disk with so much room."""
    usage = types.SimpleNamespace(free=_files.OVERHEAD_BYTES + n_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)


@pytest.mark.parametrize("ending", [".parquet", ".tsv.gz", ".tsv", ".gctx", ".h5ad"])
def test_only_what_a_format_takes_at_least_has_to_be_free(ending, tmp_path, monkeypatch):
    X = np.zeros((200, 300), dtype=np.float32)
    ids = {"profile_ids": range(200), "gene_ids": [f"gene {number}" for number in range(300)]}
    free(monkeypatch, X.nbytes // 2)
    path = tmp_path / f"x{ending}"
    if ending in (".gctx", ".h5ad"):
        with pytest.raises(OSError, match="GB are free there"):
            write_expression(path, X, **ids)
        write_expression(path, X, **ids, compression=4)
    else:
        write_expression(path, X, **ids)
    np.testing.assert_array_equal(open_expression(path).read(), X)


@pytest.mark.parametrize("ending", [".tsv", ".parquet"])
def test_the_first_profiles_tell_whether_there_is_room_for_the_others(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(_destination, "TELLING_BYTES", 2**15)
    monkeypatch.setattr(_parquet, "GROUP_BYTES", 1)
    X = np.random.default_rng(0).random((20, 500), dtype=np.float32)
    ids = {"profile_ids": range(200), "gene_ids": [f"gene {number}" for number in range(500)]}
    for room, fits in ((5, True), (1, False)):
        free(monkeypatch, room * 4 * 200 * 500)
        writer = create_expression(tmp_path / f"{fits}{ending}", **ids)
        if fits:
            with writer:
                for _ in range(10):
                    writer.write(X)
        else:
            with pytest.raises(OSError, match="GB are free there"), writer:
                writer.write(X)
    assert [path.name for path in tmp_path.iterdir()] == [f"True{ending}"]


def test_types_of_arrow_hold_what_is_missing():
    assert _parquet.column_values(pa.chunked_array([pa.array([True, None])])).tolist() == [True, None]
    assert _parquet.column_values(pa.chunked_array([pa.array([BIG, None])])).tolist() == [BIG, None]
    np.testing.assert_array_equal(_parquet.column_values(pa.chunked_array([pa.array([1, None])])), [1, np.nan])
    assert _parquet.column_values(pa.chunked_array([pa.array([False])])).dtype == bool


def test_categories_that_are_one_text_are_one():
    column = pd.Series(pd.Categorical.from_codes([0, 1, 2], categories=pd.Index([1, "1", "b"], dtype=object)))
    got = _h5ad.values_of(column)
    assert got.tolist() == ["1", "1", "b"]
    assert _h5ad.categorical(got).categories.tolist() == ["1", "b"]
