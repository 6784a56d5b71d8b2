"""Files of expression: every format is read as what it is, and what is written is read back, by peers too."""

import errno
import gzip
import io
import os
import shutil
import subprocess
import sys
import tracemalloc
import types
import warnings
import zipfile
from decimal import Decimal
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import scipy.sparse
from cmapPy.pandasGEXpress import parse as cmap_parse
from cmapPy.pandasGEXpress import write_gct as cmap_write_gct
from cmapPy.pandasGEXpress import write_gctx as cmap_write_gctx
from cmapPy.pandasGEXpress.GCToo import GCToo

from dgex import _files
from dgex.io import (
    ExpressionFileError,
    _delimited,
    _gct,
    _hdf5,
    _hdf5_writer,
    _identifiers,
    _text,
    create_expression,
    open_expression,
    write_expression,
)

ENDINGS = [".gctx", ".h5ad", ".parquet", ".tsv", ".tsv.gz"]
DESCRIBED = [".gctx", ".h5ad", ".parquet"]


def test_closed_files_say_so(tmp_path, expression):
    X, described = expression
    for ending in DESCRIBED:
        path = tmp_path / f"a{ending}"
        write_expression(path, X, **described)
        with open_expression(path) as file:
            file.read("GSM1")
        for read in (file.read, lambda: next(file.chunks())):
            with pytest.raises(ValueError, match=r"a\.\w+ is closed\. Read inside the `with` block"):
                read()
    with open_expression(tmp_path / "a.gctx") as file:
        columns = file.profile_metadata
    with pytest.raises(ValueError, match="is closed"):
        columns["dose"]


def test_frames_are_written_with_their_names(tmp_path, expression):
    X, described = expression
    frame = pd.DataFrame(X, described["profile_ids"], described["gene_ids"])
    write_expression(tmp_path / "a.gctx", frame, profile_metadata=described["profile_metadata"])
    with open_expression(tmp_path / "a.gctx") as file:
        assert file.profile_ids.tolist() == described["profile_ids"]
        assert file.gene_ids.tolist() == described["gene_ids"]
        np.testing.assert_array_equal(file.read(), X)
    with pytest.raises(ValueError, match="Got no profile_ids, and expression whose profiles have no names"):
        write_expression(tmp_path / "b.gctx", X, gene_ids=described["gene_ids"])
    with pytest.raises(ValueError, match="Got no gene_ids, and expression whose genes have no names"):
        write_expression(tmp_path / "b.gctx", X, profile_ids=described["profile_ids"])
    assert not (tmp_path / "b.gctx").exists()


def test_frames_of_other_rows_or_columns_are_not_written(tmp_path, expression):
    X, described = expression
    ids = {name: described[name] for name in ("profile_ids", "gene_ids")}
    frame = pd.DataFrame(X, ids["profile_ids"], ids["gene_ids"])
    with pytest.raises(ValueError, match="Got 40 genes in another order than their ids"):
        write_expression(tmp_path / "a.gctx", frame[frame.columns[::-1]], **ids)
    with create_expression(tmp_path / "a.gctx", **ids) as writer:
        writer.write(frame[:30])
        with pytest.raises(ValueError, match="Got 30 profiles in another order than their ids"):
            writer.write(frame[:30])
        writer.write(frame[30:].rename(columns=str.lower).reset_index(drop=True))  # names of something else
    with open_expression(tmp_path / "a.gctx") as file:
        np.testing.assert_array_equal(file.read(), X)


def test_sources_in_memory_are_refused(expression):
    with pytest.raises(TypeError, match="Got a DataFrame, but expected the path of a file, or an AnnData"):
        open_expression(pd.DataFrame(expression[0]))


def test_tables_without_ids_or_header_are_refused(tmp_path, expression):
    X, described = expression
    frame = pd.DataFrame(X, described["profile_ids"], described["gene_ids"]).fillna(1.0)
    frame.to_csv(tmp_path / "no_ids.csv", index=False)
    with pytest.raises(ExpressionFileError, match=r"got numbers \(.*\) in the first column \(ENSG.*, but expected ids"):
        open_expression(tmp_path / "no_ids.csv", rows="profiles")
    frame.to_csv(tmp_path / "no_header.csv", header=False)
    with pytest.raises(
        ExpressionFileError, match=r"got 'GSM\d+' and numbers \(.*\) in the first line, .* has no header"
    ):
        open_expression(tmp_path / "no_header.csv", rows="profiles")
    frame.set_axis([f"mouse {n}" for n in range(70)]).to_csv(tmp_path / "no_header.csv", header=False)
    with pytest.raises(ExpressionFileError, match=r"got numbers \(.*\) in the first line, but expected ids"):
        open_expression(tmp_path / "no_header.csv", rows="profiles")
    frame[:4].set_axis(["1.1", "1.2", "2.1", "2.2"]).to_csv(tmp_path / "visits.csv")
    with open_expression(tmp_path / "visits.csv", rows="profiles") as file:
        assert file.profile_ids.tolist() == ["1.1", "1.2", "2.1", "2.2"]


@pytest.fixture
def expression():
    """Expression with a missing value, unsorted ids, and metadata of every kind."""
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (70, 41)).astype(np.float32)
    X[3, 4] = np.nan
    return X, {
        "profile_ids": [f"GSM{number}" for number in rng.permutation(70)],
        "gene_ids": [f"ENSG{number:011d}.{number % 9}" for number in rng.permutation(41)],
        "profile_metadata": {
            "dose": np.where(np.arange(70) % 5 == 0, np.nan, np.arange(70) / 3),
            "cell": np.array(["A549", "MCF7", None, "-0666", "007"] * 14, dtype=object),
            "plate": np.arange(70),
        },
        "gene_metadata": {"role": np.array(["landmark", "target"] * 20 + ["target"]), "r": np.arange(41) / 4},
    }


def assert_same_metadata(got, expected):
    assert set(got) == set(expected)
    for name, column in expected.items():
        values = got[name]
        if column.dtype.kind in "iuf":
            assert values.dtype == column.dtype
            np.testing.assert_array_equal(values, column)
        else:
            assert values.tolist() == column.tolist()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("compression", [0, 5])
def test_what_is_written_is_read_back(expression, ending, compression, tmp_path):
    X, described = expression
    path = tmp_path / f"expression{ending}"
    if compression and ending == ".tsv":
        with pytest.raises(ValueError, match=r"Got compression=5 for expression.tsv, which is text. Call it"):
            write_expression(path, X, **described, compression=compression)
        return
    write_expression(path, X, **described, compression=compression)
    with open_expression(path) as file:
        assert file.shape == X.shape
        assert file.dtype == np.float32
        assert file.profile_ids.tolist() == described["profile_ids"]
        assert file.gene_ids.tolist() == described["gene_ids"]
        np.testing.assert_array_equal(file.read(), X)
        if ending in DESCRIBED:
            assert_same_metadata(file.profile_metadata, described["profile_metadata"])
            assert_same_metadata(file.gene_metadata, described["gene_metadata"])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_selections_come_in_the_order_asked_for(expression, ending, tmp_path, monkeypatch):
    monkeypatch.setattr(_hdf5_writer, "CHUNK", (16, 8))
    monkeypatch.setattr(_hdf5, "ROW_GAP", 2)
    monkeypatch.setattr(_text, "BATCH_BYTES", 500)
    X, described = expression
    path = tmp_path / f"expression{ending}"
    write_expression(path, X, **described)
    names, genes = described["profile_ids"], described["gene_ids"]
    with open_expression(path) as file:
        for rows, columns, expected in [
            ([names[5], names[2], names[2]], genes[::-7], X[[5, 2, 2]][:, ::-7]),
            ([-1, 0, 30], None, X[[-1, 0, 30]]),
            (slice(3, 60, 9), np.arange(41) % 3 == 0, X[3:60:9, ::3]),
            (names[7], genes[9], X[7:8, 9:10]),
            ([], [0], X[:0, :1]),
        ]:
            np.testing.assert_array_equal(file.read(rows, columns), expected)
        for size in (None, 1, 33, 70, 1000):
            parts = list(file.chunks(size, genes=genes[10:3:-1]))
            assert parts[0][0].start == 0
            np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), X[:, 10:3:-1])
        with pytest.raises(ValueError, match=r"2 of 3 gene ids are not in the file: TP53, MYC"):
            file.read(genes=[genes[0], "TP53", "MYC"])
        with pytest.raises(ValueError, match="Got profile positions 70, but expected less than 70"):
            file.read(profiles=[70])
        with pytest.raises(ValueError, match="Got a mask of shape"):
            file.read(genes=np.ones(3, dtype=bool))


@pytest.mark.parametrize("ending", ENDINGS)
def test_writing_in_parts_gives_the_same_bytes(expression, ending, tmp_path):
    X, described = expression
    paths = [tmp_path / f"{number}" / f"expression{ending}" for number in range(2)]
    for path, size in zip(paths, (70, 9), strict=True):
        path.parent.mkdir()
        with create_expression(path, **described) as writer:
            for start in range(0, 70, size):
                writer.write(X[start : start + size])
    assert paths[0].read_bytes() == paths[1].read_bytes()


# cmapPy 4.0.1 calls what NumPy 2 and pandas 3 have removed.
@pytest.fixture
def cmap(monkeypatch):
    monkeypatch.setattr(np, "string_", np.bytes_, raising=False)
    original = pd.to_numeric

    def to_numeric(column, errors="raise"):
        try:
            return original(column, errors="raise")
        except (ValueError, TypeError):
            if errors != "ignore":
                raise
            return column

    monkeypatch.setattr(pd, "to_numeric", to_numeric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pd.option_context("future.infer_string", False):
            yield


@pytest.mark.usefixtures("cmap")
@pytest.mark.parametrize("compression", [0, 6])
def test_cmappy_reads_what_is_written(expression, compression, tmp_path):
    X, described = expression
    path = tmp_path / "expression.gctx"
    write_expression(path, X, **described, compression=compression)
    theirs = cmap_parse.parse(str(path))
    np.testing.assert_array_equal(theirs.data_df.to_numpy().T, X)
    assert theirs.data_df.columns.tolist() == described["profile_ids"]
    assert theirs.data_df.index.tolist() == described["gene_ids"]
    dose = theirs.col_metadata_df["dose"].to_numpy()
    np.testing.assert_array_equal(dose, described["profile_metadata"]["dose"])
    assert theirs.col_metadata_df["plate"].tolist() == list(range(70))
    cells = [None if cell != cell else cell for cell in theirs.col_metadata_df["cell"]]
    assert cells == described["profile_metadata"]["cell"].tolist()
    assert theirs.row_metadata_df["role"].tolist() == described["gene_metadata"]["role"].tolist()
    assert str(theirs.version).strip("b'") == "GCTX1.0"


@pytest.mark.usefixtures("cmap")
@pytest.mark.parametrize("format", ["gct", "gctx"])
def test_what_cmappy_writes_is_read(format, tmp_path):
    rng = np.random.default_rng(0)
    genes, profiles = [f"{number}_at" for number in range(9)], [f"P{number}:A01" for number in range(6)]
    data = pd.DataFrame(rng.normal(size=(9, 6)).round(3).astype(np.float32), index=genes, columns=profiles)
    rows = pd.DataFrame({"symbol": list("ABCDEFGHI"), "entrez": [1, 2, 3, np.nan, 5, 6, 7, 8, 9]}, index=genes)
    columns = pd.DataFrame({"cell": ["A549", np.nan, "MCF7"] * 2, "dose": [0.5, 1, 2, 3, 4, 5]}, index=profiles)
    for frame, names in ((data, ("rid", "cid")), (rows, ("rid", "rhd")), (columns, ("cid", "chd"))):
        frame.index.name, frame.columns.name = names
    theirs = GCToo(data, row_metadata_df=rows, col_metadata_df=columns)
    path = tmp_path / f"theirs.{format}"
    if format == "gct":
        cmap_write_gct.write(theirs, str(path), data_float_format=None)
    else:
        cmap_write_gctx.write(theirs, str(path))
    with open_expression(path) as file:
        np.testing.assert_allclose(file.read(), data.to_numpy().T, rtol=1e-7)
        assert file.profile_ids.tolist() == profiles
        assert file.gene_ids.tolist() == genes
        assert file.gene_metadata["symbol"].tolist() == list("ABCDEFGHI")
        np.testing.assert_array_equal(file.gene_metadata["entrez"], [1, 2, 3, np.nan, 5, 6, 7, 8, 9])
        assert file.profile_metadata["cell"].tolist() == ["A549", None, "MCF7"] * 2
        np.testing.assert_array_equal(file.profile_metadata["dose"], [0.5, 1, 2, 3, 4, 5])


@pytest.mark.usefixtures("cmap")
@pytest.mark.parametrize(
    "name", ["mini_gctoo_for_testing.gctx", "mini_gctoo_for_testing.gct", "test_v1point2_n5x10.gct", "test_l1000.gct"]
)
def test_files_of_the_connectivity_map_are_read_as_cmappy_reads_them(name, data_folder):
    theirs = cmap_parse.parse(str(data_folder / "gctx" / name))
    with open_expression(data_folder / "gctx" / name) as file:
        np.testing.assert_allclose(file.read(), theirs.data_df.to_numpy().T, rtol=1e-6)
        assert file.profile_ids.tolist() == theirs.data_df.columns.tolist()
        assert file.gene_ids.tolist() == theirs.data_df.index.tolist()
        for ours, frame in (
            (file.profile_metadata, theirs.col_metadata_df),
            (file.gene_metadata, theirs.row_metadata_df),
        ):
            assert set(ours) == set(frame.columns)
            for column in ours:
                expected = frame[column]
                if ours[column].dtype.kind in "iuf":
                    np.testing.assert_allclose(ours[column], expected.astype(float))
                else:
                    assert ours[column].tolist() == [None if value != value else str(value) for value in expected]


def test_the_content_decides_and_not_the_name(data_folder):
    with open_expression(data_folder / "gctx" / "test_l1000.gctx") as file:
        assert file.format == "GCT 1.3"
        assert file.shape == (377, 978)


@pytest.mark.parametrize("numbered", [False, True])
def test_files_of_gtex_are_read(numbered, tmp_path):
    header = ["id"] * numbered + ["Name", "Description", "GTEX-1117F-0226", "GTEX-111CU-1826"]
    rows = [["ENSG00000223972.5", "DDX11L1", "0", "0.5"], ["ENSG00000227232.5", "WASH7P", "187", "109"]]
    rows = [[str(number)] * numbered + row for number, row in enumerate(rows)]
    text = "#1.2\n2\t2\n" + "".join("\t".join(row) + "\n" for row in [header, *rows])
    (tmp_path / "gtex.gct.gz").write_bytes(gzip.compress(text.encode()))
    with open_expression(tmp_path / "gtex.gct.gz") as file:
        assert file.gene_ids.tolist() == ["ENSG00000223972.5", "ENSG00000227232.5"]
        assert list(file.gene_metadata) == ["Description"]
        assert file.read("GTEX-111CU-1826").tolist() == [[0.5, 109]]


def test_text_is_read_compressed_too(data_folder, tmp_path):
    source = data_folder / "gctx" / "test_v1point2_n5x10.gct"
    (tmp_path / "x.gct.gz").write_bytes(gzip.compress(source.read_bytes()))
    with open_expression(source) as plain, open_expression(tmp_path / "x.gct.gz") as compressed:
        np.testing.assert_array_equal(plain.read([4, 0], [9, 2]), compressed.read([4, 0], [9, 2]))


def test_anndata_reads_what_is_written(expression, tmp_path):
    X, described = expression
    path = tmp_path / "expression.h5ad"
    write_expression(path, X, **described)
    theirs = anndata.read_h5ad(path)
    np.testing.assert_array_equal(theirs.X, X)
    assert theirs.obs_names.tolist() == described["profile_ids"]
    assert theirs.var_names.tolist() == described["gene_ids"]
    np.testing.assert_array_equal(theirs.obs["dose"], described["profile_metadata"]["dose"])
    assert theirs.obs["cell"].isna().sum() == 14
    assert theirs.var["role"].tolist() == described["gene_metadata"]["role"].tolist()


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_anndata_of_every_form_is_read(form, tmp_path):
    counts = scipy.sparse.random(50, 30, 0.2, format="csr", dtype=np.float32, random_state=0)
    obs = pd.DataFrame(
        {
            "state": pd.Categorical(["a", None] * 25, categories=pd.Index(["a"], dtype=object)),
            "depth": np.arange(50),
            "batch": pd.array([1, None] * 25, dtype="Int64"),
            "passed": [True, False] * 25,
        },
        index=pd.Index([f"cell {number}" for number in range(50)], dtype=object),
    )
    var = pd.DataFrame(index=pd.Index([f"gene {number}" for number in range(30)], dtype=object))
    X = counts.toarray() if form == "dense" else counts.asformat(form)
    data = anndata.AnnData(X, obs, var, layers={"log": np.log1p(counts.toarray())})
    data.write_h5ad(tmp_path / "cells.h5ad")
    with open_expression(tmp_path / "cells.h5ad") as file:
        np.testing.assert_array_equal(file.read(), counts.toarray())
        np.testing.assert_array_equal(file.read([7, 3, 3], [20, 2]), counts.toarray()[[7, 3, 3]][:, [20, 2]])
        assert file.profile_metadata["state"].tolist() == ["a", None] * 25
        np.testing.assert_array_equal(file.profile_metadata["batch"], [1, np.nan] * 25)
        assert file.profile_metadata["passed"].tolist() == [True, False] * 25
    with open_expression(tmp_path / "cells.h5ad", layer="log") as file:
        np.testing.assert_array_equal(file.read(), np.log1p(counts.toarray()))
    with pytest.raises(ValueError, match=r"Got layer='raw', but .* has 'log'"):
        open_expression(tmp_path / "cells.h5ad", layer="raw")


def test_pandas_reads_and_writes_parquet(expression, tmp_path):
    X, described = expression
    write_expression(tmp_path / "ours.parquet", X, **described)
    theirs = pd.read_parquet(tmp_path / "ours.parquet")
    assert theirs.index.tolist() == described["profile_ids"]
    np.testing.assert_array_equal(theirs[described["gene_ids"]], X)
    frame = pd.DataFrame(X, index=described["profile_ids"], columns=described["gene_ids"])
    for path, table in (("profiles.parquet", frame), ("genes.parquet", frame.T)):
        table.to_parquet(tmp_path / path)
        with open_expression(tmp_path / path) as file:
            np.testing.assert_array_equal(file.read([9, 2], [4, 1]), X[[9, 2]][:, [4, 1]])
            assert file.profile_ids.tolist() == described["profile_ids"]


@pytest.mark.parametrize(
    ("text", "profiles", "genes", "X"),
    [
        (  # the 1000 Genomes file: two of four leading columns are numbers
            "TargetID\tGene_Symbol\tChr\tCoord\tHG00096\tHG00097\n"
            "ENSG00000152931.6\tENSG00000152931.6\t5\t59783540\t0.1\t0.2\n"
            "ENSG00000183696.9\tENSG00000183696.9\t7\t48128225\t8\t9.5\n",
            ["HG00096", "HG00097"],
            ["ENSG00000152931.6", "ENSG00000183696.9"],
            [[0.1, 8], [0.2, 9.5]],
        ),
        (  # as R writes: no name for the row names, and quotation marks
            '"GSM1";"GSM2"\n"a ; b";1;2\n"c";3;NA\n',
            ["GSM1", "GSM2"],
            ["a ; b", "c"],
            [[1, 3], [2, np.nan]],
        ),
        ("sample,TP53,MYC\r\ns1,1,\r\ns2,3,4e-2\r\n", ["s1", "s2"], ["TP53", "MYC"], [[1, np.nan], [3, 0.04]]),
        ("\ufeffgene\ts1\ts2\t\nA\t1\t2\t\nB\t3\t4\t\n\n", ["s1", "s2"], ["A", "B"], [[1, 3], [2, 4]]),
        ("gene,s1,s2\nA,1,2,\nB,3,4,\n", ["s1", "s2"], ["A", "B"], [[1, 3], [2, 4]]),  # more delimiters than names
        ("# a comment\n\nb0001\tb0002\nGSM1\t1\t2\n", ["GSM1"], ["b0001", "b0002"], [[1, 2]]),
        ("# made\n#Gene\ts1\ts2\nENSG00000000003\t1\t2\n", ["s1", "s2"], ["ENSG00000000003"], [[1], [2]]),
        ("\ufeff# of a, and b\ngene,s1,s2\nA,1,2\n", ["s1", "s2"], ["A"], [[1], [2]]),
        ("# a\tb\tc\ngene\ts1\ts2\nA\t1\t2\n", ["s1", "s2"], ["A"], [[1], [2]]),  # a comment all the same
        ("profile_id\tlength\th\nb0001\t1\t2\n", ["b0001"], ["length", "h"], [[1, 2]]),  # as dgex writes
        ("#symbol\tTP53\nprofile_id\t7157\nb0001\t1\n", ["b0001"], ["7157"], [[1]]),  # a header of numbers
        ("# log2, normalized, 3 batches\ngene,101,102\nA,1,2\n", ["101", "102"], ["A"], [[1], [2]]),
        ("#Gene\tchr\tdesc\ts1\n\nENSG00000000003\tX\ta\t1\n", ["s1"], ["ENSG00000000003"], [[1]]),
        ("s1\ts2\nENSG00000000003\t1\t\n", ["s1", "s2"], ["ENSG00000000003"], [[1], [np.nan]]),  # as R writes it
        ("#OTU ID,GSM1\r\nb0001,2,\r\n", ["GSM1"], ["b0001"], [[2]]),
        ("cell_id,batch,A,B\nc1,x,1,2\nc2,y,3,4\n", ["c1", "c2"], ["A", "B"], [[1, 2], [3, 4]]),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_delimited_text_of_many_kinds(text, profiles, genes, X, compressed, tmp_path):
    content = text.encode()
    (tmp_path / "table").write_bytes(gzip.compress(content) if compressed else content)
    with open_expression(tmp_path / "table") as file:
        assert file.profile_ids.tolist() == profiles
        assert file.gene_ids.tolist() == genes
        np.testing.assert_array_equal(file.read(), np.array(X, dtype=np.float32))


def test_annotation_of_a_table_is_metadata(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("gene\tsymbol\tchr\tlength\tGSM1\tGSM2\tgc\nA\tx\t1\t100\t1\t2\t0.5\nB\t\t2\t200\t3\t4\t0.25\n")
    with open_expression(path, metadata=["gc"]) as file:
        assert file.profile_ids.tolist() == ["GSM1", "GSM2"]
        assert file.gene_metadata["symbol"].tolist() == ["x", None]
        np.testing.assert_array_equal(file.gene_metadata["gc"], [0.5, 0.25])
        assert "length" in file.gene_metadata
        with pytest.raises(KeyError, match="Got the metadata column 'size'"):
            file.gene_metadata["size"]
    with pytest.raises(ValueError, match=r"Got metadata=gcc, but expected columns of table\.tsv"):
        open_expression(path, metadata=["gcc"])


def test_rows_that_cannot_be_told_are_asked_for(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,a,b\nc,1,2\nd,3,4\n")
    with pytest.raises(ExpressionFileError, match=r"cannot tell whether its rows \(c, d\) are genes or profiles"):
        open_expression(path)
    with open_expression(path, rows="genes") as by_gene, open_expression(path, rows="profiles") as by_profile:
        np.testing.assert_array_equal(by_gene.read(), by_profile.read().T)
    with pytest.raises(ValueError, match="Got rows='columns'"):
        open_expression(path, rows="columns")


@pytest.mark.parametrize("row", [0, 5, 30])
@pytest.mark.parametrize("column", [1, 3])
def test_a_bad_cell_is_an_error_wherever_it_is(row, column, tmp_path):
    lines = [[f"ENSG{number:011d}", *"1234"] for number in range(40)]
    lines[row][column] = "#REF!"
    text = "\n".join("\t".join(line) for line in [["gene", *(f"GSM{n}" for n in range(4))], *lines])
    (tmp_path / "x.tsv").write_text(text + "\n")
    with open_expression(tmp_path / "x.tsv") as file:
        assert file.shape == (4, 40)
        message = rf"got '#REF!' in row '{lines[row][0]}', column 'GSM{column - 1}', .* metadata=\['GSM{column - 1}'\]"
        with pytest.raises(ExpressionFileError, match=message):
            file.read()


def test_npz_with_names_and_metadata(tmp_path):
    X = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.savez_compressed(
        tmp_path / "x.npz", X=X, samples=["a", "b"], genes=["g", "h", "i"], age=[1, 2], gc=[0.1, 0.2, 0.3]
    )
    with open_expression(tmp_path / "x.npz") as file:
        np.testing.assert_array_equal(file.read("b", ["i", "g"]), [[5, 3]])
        assert file.dtype == np.float64
        assert set(file.profile_metadata) == {"age"}
        assert set(file.gene_metadata) == {"gc"}
    np.savez(tmp_path / "square.npz", X=np.eye(2), samples=["a", "b"], genes=["g", "h"], chromosome=["1", "X"])
    with pytest.warns(UserWarning, match=r"square\.npz has as many profiles as genes, .* chromosome"):
        square = open_expression(tmp_path / "square.npz")
    assert not square.profile_metadata
    assert not square.gene_metadata


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
@pytest.mark.parametrize("ending", [".gctx", ".h5ad"])
def test_chunks_are_not_read_whole_for_a_part_of_them(ending, tmp_path):
    X = np.random.default_rng(0).normal(size=(1000, 2000)).astype(np.float32)
    path = tmp_path / f"x{ending}"
    write_expression(path, X, profile_ids=[f"p{n}" for n in range(1000)], gene_ids=[f"g{n}" for n in range(2000)])

    def n_bytes():
        return int(Path("/proc/self/io").read_text().split()[1])

    with open_expression(path) as file:
        file.read([0], [0])
        before = n_bytes()
        np.testing.assert_array_equal(file.read([10, 500, 990]), X[[10, 500, 990]])
        assert n_bytes() - before < 10 * X[:3].nbytes < X.nbytes / 10


def test_of_gctx_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(2000, 300)).astype(np.float32)
    names = {"profile_ids": [f"p{n}" for n in range(2000)], "gene_ids": [f"g{n}" for n in range(300)]}
    monkeypatch.setattr(_hdf5_writer, "CHUNK", (100, 50))
    write_expression(tmp_path / "x.gctx", X, **names)
    read = []
    original = h5py.Dataset.__getitem__

    def counted(dataset, *arguments):
        result = original(dataset, *arguments)
        if dataset.ndim == 2:
            read.append(result.size)
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    with open_expression(tmp_path / "x.gctx") as file:
        np.testing.assert_array_equal(file.read([5, 900, 1999], [3, 299]), X[[5, 900, 1999]][:, [3, 299]])
        assert sum(read) == 3 * 2
        read.clear()
        np.testing.assert_array_equal(file.read(slice(100, 200)), X[100:200])
        assert sum(read) == 100 * 300


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("xl/workbook.xml", "is a workbook of a spreadsheet program. Save its sheet as text"),
        ("table.csv", "is a zip archive of table.csv, but expected arrays of NumPy .npz.. Unzip it"),
    ],
)
def test_other_archives_are_called_what_they_are(tmp_path, member, message):
    path = tmp_path / "table.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "gene,s1\ng1,1.0\n")
    with pytest.raises(ExpressionFileError, match=message):
        open_expression(path)


# What is wrong with a file is said once, and says where.
GCT = "#1.2\n2\t2\nNAME\tDescription\ts1\ts2\ng1\tx\t1\t2\ng2\ty\t3\t4\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\x00\x01\x02", "got bytes 00 01 02 at the beginning"),
        (GCT.encode("utf-16"), "UTF-16"),
        (gzip.compress(b"\x89HDF\r\n\x1a\n" + bytes(100), mtime=0), "Decompress it first: gunzip"),
        (gzip.compress(GCT.encode(), mtime=0)[:-20], "truncated or damaged"),
        (GCT.replace("#1.2", "#1.4"), "got GCT version '#1.4', but expected #1.2 or #1.3"),
        (GCT.replace("2\t2\n", "2\tx\n"), r"got '2 x' in line 2"),
        (GCT.replace("2\t2\n", "3\t2\n"), "got 2 lines of genes, but its header says 3"),
        (GCT.replace("2\t2\n", "2\t3\n"), "line 3: got 4 fields, but expected 5"),
        (GCT.replace("2\t2\n", "1000000\t1000000\n"), "announces 1000000 genes of 1000000 profiles"),
        (GCT.replace("\t4\n", "\n"), "line 5: got 3 fields, but expected 4"),
        (GCT.replace("g2", "g1"), "got 1 gene ids more than once"),
        (GCT.replace("s2", "s1"), "got 1 profile ids more than once"),
        (GCT.replace("g2", ""), "the id of gene 1 is empty"),
        (GCT.replace("\t3\t", "\tthree\t"), "got 'three' in row 'g2', column 's1', but expected a number"),
        (GCT.replace("\t3\t", "\t1_000\t"), "got '1_000' in row 'g2'"),
        ("gene\ts1\n", "got 2 columns and none of numbers|no rows"),
        ("gene\ts1\nA\tx\n", "none of numbers"),
        ("just words\n", "expected names separated by tabs, commas or semicolons"),
        ("# only\n# comments\n", "holds no table"),
        ("gene\ts1\ts2\nA\t1\t2\nB\t1\n", "line 3: got 2 fields, but expected 3"),
        ("gene\ta\ta\ts1\nA\tx\ty\t1\n", "metadata with the same name"),
    ],
)
def test_what_is_wrong_with_text_is_said(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ExpressionFileError, match=message) as caught, open_expression(path) as file:
        file.read()
    assert str(path) in str(caught.value)


def gctx(path, **changes):
    parts = {
        "/0/DATA/0/matrix": np.ones((3, 2), np.float32),
        "/0/META/COL/id": np.array([b"a", b"b", b"c"]),
        "/0/META/ROW/id": np.array([b"g", b"h"]),
    }
    with h5py.File(path, "w") as file:
        for name, values in {**parts, **changes}.items():
            if values is not None:
                file[name] = values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"/0/DATA/0/matrix": None}, "has no dataset /0/DATA/0/matrix"),
        ({"/0/META/ROW/id": None}, "has no dataset /0/META/ROW/id"),
        ({"/0/DATA/0/matrix": np.ones((2, 3))}, r"matrix of shape \(2, 3\), but ids of 3 profiles and 2 genes"),
        ({"/0/DATA/0/matrix": np.ones(3)}, "expected numbers in two dimensions"),
        ({"/0/DATA/0/matrix": np.full((3, 2), b"x")}, "expected numbers in two dimensions"),
        ({"/0/META/COL/id": np.array([b"a", b"b", b"a"])}, "got 1 profile ids more than once"),
        ({"/0/META/COL/dose": np.ones(2)}, r"metadata /0/META/COL/dose of shape \(2,\), but expected 3"),
        ({"/0/META/COL/group/inner": np.ones(3)}, "metadata /0/META/COL/group of shape"),
    ],
)
def test_what_is_wrong_with_gctx_is_said(changes, message, tmp_path):
    gctx(tmp_path / "x.gctx", **changes)
    with pytest.raises(ExpressionFileError, match=message), open_expression(tmp_path / "x.gctx") as file:
        file.read()


def test_a_matrix_that_was_never_written_is_not_read_as_zeros(tmp_path):
    path = tmp_path / "x.gctx"
    gctx(path, **{"/0/DATA/0/matrix": None})
    with h5py.File(path, "a") as file:
        matrix = file.create_dataset("/0/DATA/0/matrix", (3, 2), np.float32, chunks=(1, 2))
        matrix[:2] = 1
    with pytest.raises(ExpressionFileError, match="was never written in full"):
        open_expression(path)


def test_a_header_of_a_trillion_cells_allocates_nothing(tmp_path):
    with h5py.File(tmp_path / "bomb.gctx", "w") as file:
        file.create_dataset("/0/DATA/0/matrix", (10**6, 10**6), np.float32, chunks=(100, 100), compression="gzip")
        for name in ("COL", "ROW"):
            file.create_dataset(f"/0/META/{name}/id", (10**6,), "S20", chunks=(1000,), compression="gzip")
    save_announcing(tmp_path / "bomb.npz", (10**6, 10**6))
    for name in ("bomb.gctx", "bomb.npz"):
        with pytest.raises(ExpressionFileError, match=r"never written|announces"):
            open_expression(tmp_path / name)


def save_announcing(path, shape):
    """Save an archive whose array announces a shape that it does not hold."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    np.savez(path, samples=["a", "b"], genes=["g", "h"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X.npy", header.getvalue() + bytes(64))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"samples": ["a"], "genes": ["g"]}, "expected 'X' with numbers"),
        ({"X": np.ones((1, 1)), "genes": ["g"]}, "expected one of profile_ids, samples"),
        ({"X": np.ones((2, 1)), "samples": ["a"], "genes": ["g"]}, r"got 'X' of shape \(2, 1\), but 'samples'"),
        ({"X": np.ones((1, 1)), "samples": np.array(["a"], dtype=object), "genes": ["g"]}, "as Python objects"),
        ({"X": np.ones((0, 1)), "samples": np.array([], dtype=str), "genes": ["g"]}, "expected profiles and genes"),
    ],
)
def test_what_is_wrong_with_npz_is_said(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ExpressionFileError, match=message):
        open_expression(tmp_path / "x.npz")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_error_while_writing_leaves_the_old_file(expression, ending, tmp_path):
    X, described = expression
    path = tmp_path / f"expression{ending}"
    path.write_text("old")

    def write(profiles, error=None):
        with create_expression(path, **described) as writer:
            writer.write(profiles)
            if error:
                raise error

    with pytest.raises(KeyError, match="trouble"):
        write(X[:10], KeyError("trouble"))
    with pytest.raises(ValueError, match=r"Got 10 profiles for .*, but expected 70"):
        write(X[:10])
    with pytest.raises(ValueError, match=r"Got profiles of shape \(10, 40\), but expected at most 70 of 41 genes"):
        write(X[:10, :40])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file(expression, ending, tmp_path, monkeypatch):
    X, described = expression
    path = tmp_path / f"expression{ending}"
    path.write_text("old")
    usage = types.SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match="GB are free there"):
            write_expression(path, X, **described)

    def full(writer, profiles):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = type(create_expression(path, **described))
    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(OSError, match=r"expression\..* could not be written, and nothing under that name has changed"):
        write_expression(path, X, **described)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def large(monkeypatch):
    """Files of 64 profiles are large already."""
    monkeypatch.setattr(_hdf5_writer, "CHUNK", (32, 32))
    monkeypatch.setattr(_hdf5_writer, "LARGE", 64)


def direct(writer):
    """The writer's way past the system's cache; not every disk has one."""
    if writer._direct is None:
        pytest.skip("the disk does not allow direct writing")
    return writer._direct


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("ending", [".gctx", ".h5ad"])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("sizes", [[70], [1, 31, 32, 6], [40, 30], [33, 37], [10] * 7])
def test_large_files_are_written_directly(expression, ending, resume, sizes, tmp_path, monkeypatch):
    X, described = expression
    starts = np.cumsum([0, *sizes])
    for name, supported in (("direct", True), ("through the cache", False)):
        with monkeypatch.context() as patch:
            if not supported:
                patch.setattr(_hdf5_writer, "direct_writer", lambda path, matrix: None)
            with create_expression(tmp_path / f"{name}{ending}", **described, resume=resume) as writer:
                assert not supported or direct(writer)
                for start, size in zip(starts, sizes, strict=False):
                    writer.write(X[start : start + size])
                if resume:  # a note was taken, so all of it is in the file
                    np.testing.assert_array_equal(writer.read_back(slice(70), slice(41)), X)
    one, other = (tmp_path / f"{name}{ending}" for name in ("direct", "through the cache"))
    assert one.stat().st_size == other.stat().st_size
    for path in (one, other):
        with open_expression(path) as file:
            np.testing.assert_array_equal(file.read(), X)
            assert list(file.profile_ids) == described["profile_ids"]


@pytest.mark.usefixtures("large")
def test_a_large_part_is_gone_on_with_in_the_middle_of_a_chunk(expression, tmp_path):
    X, described = expression
    path = tmp_path / "expression.gctx"
    for stop in (5, 45, 70):
        try:
            with create_expression(path, **described, resume=True) as writer:
                direct(writer)
                writer.write(X[writer.n_written : stop])
        except ValueError as error:
            assert f"Got {stop} profiles" in str(error)  # noqa: PT017 as not all of them raise
    np.testing.assert_array_equal(open_expression(path).read(), X)


@pytest.mark.usefixtures("large")
def test_a_full_disk_leaves_the_old_large_file(expression, tmp_path, monkeypatch):
    X, described = expression
    path = tmp_path / "expression.gctx"
    path.write_text("old")

    def full(descriptor, data, place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with create_expression(path, **described) as writer:
            direct(writer)
            monkeypatch.setattr(os, "pwrite", full)
            writer.write(X)

    with pytest.raises(OSError, match="could not be written, and nothing under that name has changed"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("large")
def test_disks_without_direct_writing_are_written_through_the_cache(expression, tmp_path, monkeypatch):
    X, described = expression
    path = tmp_path / "expression.gctx"

    def refuse(descriptor, buffers, place):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "preadv", refuse)
    with create_expression(path, **described) as writer:
        assert writer._direct is None
        writer.write(X)
    np.testing.assert_array_equal(open_expression(path).read(), X)


FULL = """
import resource, signal, sys
import numpy as np
from dgex.io import create_expression
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
try:
    ids = {"profile_ids": range(1000), "gene_ids": range(1000)}
    with create_expression(sys.argv[1], **ids, resume=sys.argv[2] == "resume") as writer:
        for _ in range(10):
            writer.write(np.random.default_rng(0).normal(size=(100, 1000)))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of processes")
@pytest.mark.parametrize(("ending", "resume"), [(ending, "anew") for ending in ENDINGS] + [(".gctx", "resume")])
def test_no_process_dies_of_a_file_that_cannot_grow(ending, resume, tmp_path):
    path = tmp_path / f"expression{ending}"
    path.write_text("old")
    told = subprocess.run([sys.executable, "-c", FULL, str(path), resume], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert "could not be written, and nothing under that name has changed" in told.stdout
    assert path.read_text() == "old"
    assert resume == "resume" or list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
def test_two_writers_of_one_file_are_one_too_many(expression, ending, tmp_path):
    pytest.importorskip("fcntl")
    X, described = expression
    path = tmp_path / f"expression{ending}"
    with create_expression(path, **described) as first:
        first.write(X[:40])
        with pytest.raises(OSError, match=r"is being written by another process\. Wait until it has ended"):
            write_expression(path, np.zeros_like(X), **described)
        first.write(X[40:])
    np.testing.assert_array_equal(open_expression(path, rows="profiles").read(), X)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".gctx", ".h5ad"])
def test_what_a_part_takes_already_need_not_be_free(expression, ending, tmp_path, monkeypatch):
    X, described = expression
    path = tmp_path / f"expression{ending}"
    needed = _files.OVERHEAD_BYTES + X.nbytes

    def write(profiles, error=None):
        with create_expression(path, **described, resume=True) as writer:
            writer.write(profiles)
            if error:
                raise error

    with pytest.raises(KeyError, match="trouble"):
        write(X[:60], KeyError("trouble"))
    assert _files.bytes_on_disk(tmp_path / f".{path.name}.part") >= X[:60].nbytes
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=needed - X[:60].nbytes))
    write(X[60:])
    np.testing.assert_array_equal(open_expression(path).read(), X)


def test_a_part_that_is_begun_anew_forgets_how_far_the_last_was(expression, tmp_path):
    X, described = expression
    path = tmp_path / "expression.gctx"
    for resume, profiles in ((True, X[:60]), (False, X[:10])):
        writer = create_expression(path, **described, resume=resume)
        writer.__enter__()  # and never left: killed
        writer.write(profiles)
        writer._file.close()
        writer._raw.close()
        writer._lock.close()
    with create_expression(path, **described, resume=True) as writer:
        assert writer.n_written == 0
        writer.write(X)
    np.testing.assert_array_equal(open_expression(path).read(), X)


def test_a_line_with_missing_values_is_split_once(tmp_path, monkeypatch):
    names = [f"GSM{number}" for number in range(500)]
    path = tmp_path / "table.tsv"
    path.write_text("\t".join(["gene", *names]) + "\nA" + "\t1" * 499 + "\tNA\n")
    with open_expression(path) as file:
        splits, original = [], _text.split
        monkeypatch.setattr(
            _text, "split", lambda *arguments, **named: splits.append(1) or original(*arguments, **named)
        )
        assert np.isnan(file.read()).sum() == 1
    assert len(splits) == 1


def test_what_cannot_be_written_is_said(expression, tmp_path):
    X, described = expression
    with pytest.raises(ValueError, match=r"expected one that ends in \.gctx"):
        write_expression(tmp_path / "x.xlsx", X, **described)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        write_expression(tmp_path / "missing" / "x.gctx", X, **described)
    with pytest.raises(ValueError, match="Got compression=10"):
        write_expression(tmp_path / "x.gctx", X, **described, compression=10)
    with pytest.raises(ValueError, match=r"Got the metadata 'cell' of shape \(3,\)"):
        write_expression(tmp_path / "x.gctx", X, **described | {"profile_metadata": {"cell": ["a", "b", "c"]}})
    with pytest.raises(ValueError, match="the name must not be 'id'"):
        write_expression(tmp_path / "x.gctx", X, **described | {"gene_metadata": {"id": np.arange(41)}})
    with pytest.raises(ExpressionFileError, match="profile ids more than once"):
        write_expression(tmp_path / "x.gctx", X, **described | {"profile_ids": ["a"] * 70})
    (tmp_path / "folder.gctx").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder, but expected the name of a file"):
        write_expression(tmp_path / "folder.gctx", X, **described)
    (tmp_path / "folder.gctx").rmdir()
    for name in ("", ".", "_index"):
        with pytest.raises(ValueError, match=r"the name must not be 'id', '_index', '', '\.' or contain a slash"):
            write_expression(tmp_path / "x.h5ad", X, **described | {"gene_metadata": {name: np.arange(41)}})
    with pytest.raises(TypeError, match="Got metadata called 0, but expected text"):
        write_expression(tmp_path / "x.h5ad", X, **described | {"gene_metadata": {0: np.arange(41)}})
    for ending in ENDINGS:
        for rows, columns, what in ((0, 41, "profile"), (70, 0, "gene")):
            ids = {"profile_ids": described["profile_ids"][:rows], "gene_ids": described["gene_ids"][:columns]}
            with pytest.raises(ValueError, match=f"Got no {what} to write into x{ending}"):
                write_expression(tmp_path / f"x{ending}", X[:rows, :columns], **ids)
    for names, message in (
        (["a", None], "the id of profile 1 is missing"),
        (["a", float("nan")], "the id of profile 1 is missing"),
        (["a", "a "], "ids that x.tsv would not give back, such as 'a '"),
        (["a", "  "], "ids that x.tsv would not give back"),
        (["a", "b\nc"], "line ends or zeros in them, or spaces around them"),
        (["a", "b\0"], "line ends or zeros in them, or spaces around them"),
        (["a", "\x0bb"], "would not give back"),
    ):
        with pytest.raises(ValueError, match=message):
            write_expression(tmp_path / "x.tsv", X[:2], profile_ids=names, gene_ids=described["gene_ids"])
    with pytest.raises(ValueError, match=r"ids that x.gctx would not give back, such as 'a '"):
        write_expression(tmp_path / "x.gctx", X[:2], profile_ids=["a", "a "], gene_ids=described["gene_ids"])
    assert list(tmp_path.iterdir()) == []
    denied = _files.explained(tmp_path, PermissionError(13, "Permission denied"))
    assert isinstance(denied, PermissionError)
    assert "Choose a folder that you may write to" in str(denied)


def test_numbers_and_text_of_metadata_are_told_apart():
    assert _text.typed(["1", "2"]).dtype == np.int64
    np.testing.assert_array_equal(_text.typed(["1", "-666"], _gct.NULLS), [1, np.nan])
    np.testing.assert_array_equal(_text.typed(["1.5", "2"]), [1.5, 2])
    assert _text.typed(["1_0", "2"]).tolist() == ["1_0", "2"]
    assert _text.typed(["a", "-666"], _gct.NULLS).tolist() == ["a", None]
    assert _text.typed(["-666", ""], _gct.NULLS).tolist() == [None, None]
    # Long ones are not rounded.
    assert _text.typed([str(2**70), "1"]).tolist() == [str(2**70), "1"]
    assert _text.typed([str(2**53 + 1), "-666"], _gct.NULLS).tolist() == [2**53 + 1, None]


@pytest.mark.parametrize(
    "texts", [["12345678901234567890", None], ["1.10", "1.1", None], ["1.10", None], ["5", "5.0", None]]
)
def test_text_that_numbers_would_change_stays_text(expression, tmp_path, texts):
    column = np.array(texts * 35, dtype=object)[:70]
    X, described = expression
    write_expression(tmp_path / "x.gctx", X, **described | {"profile_metadata": {"version": column}})
    with open_expression(tmp_path / "x.gctx") as file:
        assert file.profile_metadata["version"].tolist() == column.tolist()


def test_names_of_digits_stay_names_beside_missing_ones(expression, tmp_path):
    X, described = expression
    batch = np.array(["007", None] * 35, dtype=object)
    write_expression(tmp_path / "x.gctx", X, **described | {"profile_metadata": {"batch": batch}})
    with open_expression(tmp_path / "x.gctx") as file:
        assert file.profile_metadata["batch"].tolist() == batch.tolist()


def test_a_layer_that_is_not_there_is_no_damage(expression, tmp_path):
    X, described = expression
    write_expression(tmp_path / "x.h5ad", X, **described)
    with pytest.raises(ValueError, match=r"^Got layer='raw', but .*x\.h5ad has none\.$"):
        open_expression(tmp_path / "x.h5ad", layer="raw")


def test_names_with_delimiters_are_quoted(tmp_path):
    names = {"profile_ids": ["a\tb", 'c"d'], "gene_ids": ["ENSG00000000001", "ENSG00000000002"]}
    write_expression(tmp_path / "x.tsv", [[1, 2], [3, 4]], **names)
    with open_expression(tmp_path / "x.tsv") as file:
        assert file.profile_ids.tolist() == names["profile_ids"]
    assert _delimited.plain("plain") == "plain"


def test_pipes_and_devices_are_no_files(expression, tmp_path):
    X, described = expression
    pipe = tmp_path / "pipe.tsv"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"pipe.tsv is a pipe or a device, but expected the name of a file"):
        write_expression(pipe, X, profile_ids=described["profile_ids"], gene_ids=described["gene_ids"])
    with pytest.raises(ExpressionFileError, match="is a pipe or a device, and a file is read more than once"):
        open_expression(pipe)
    assert pipe.is_fifo()


def test_ids_of_bytes_and_missing_values_of_pandas(tmp_path):
    names = {"profile_ids": np.array([b"b0001", b"b0002"]), "gene_ids": ["TP53", "MYC"]}
    metadata = {"cell": pd.array(["x", pd.NA], dtype="string"), "n": pd.array([1, None], dtype="Int64")}
    for ending in (".TSV.GZ", ".tsv", ".parquet", ".gctx"):
        path = tmp_path / f"x{ending}"
        write_expression(path, [[1, 2], [3, 4]], **names, profile_metadata=metadata)
        with open_expression(path) as file:
            assert file.profile_ids.tolist() == ["b0001", "b0002"]  # though they look like genes
            if ending in DESCRIBED:
                assert file.profile_metadata["cell"].tolist() == ["x", None]
    assert (tmp_path / "x.TSV.GZ").read_bytes()[:2] == b"\x1f\x8b"
    np.savez(tmp_path / "x.npz", X=np.eye(2), samples=np.array(["a", "b"], "S"), genes=np.array(["x", "y"], "S"))
    assert open_expression(tmp_path / "x.npz").gene_ids.tolist() == ["x", "y"]
    write_expression(tmp_path / "y.gctx", np.eye(2), **names, profile_metadata={"batch": np.array([b"u", b"v"])})
    assert open_expression(tmp_path / "y.gctx").profile_metadata["batch"].tolist() == ["u", "v"]
    np.savez(tmp_path / "z.npz", X=np.ones((2, 3)), samples=["a", "b"], genes=list("xyz"), batch=[b"u", b"v"])
    assert open_expression(tmp_path / "z.npz").profile_metadata["batch"].tolist() == ["u", "v"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_array_may_be_filled_anew_after_it_is_written(ending, tmp_path):
    X, path = np.empty((2, 3), np.float32), tmp_path / f"x{ending}"
    with create_expression(path, profile_ids=list("pqrstu"), gene_ids=["TP53", "MYC", "EGFR"]) as writer:
        for number in range(3):
            X[:] = number
            writer.write(X)
    with open_expression(path, rows="profiles") as file:
        np.testing.assert_array_equal(file.read(genes="MYC").ravel(), [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("ending", ENDINGS)
def test_sparse_and_masked_expression_is_written(ending, tmp_path):
    X = scipy.sparse.random(20, 6, 0.3, format="csr", dtype=np.float32, random_state=0)
    names = {"profile_ids": [f"p{number}" for number in range(20)], "gene_ids": [f"g{number}" for number in range(6)]}
    path = tmp_path / f"x{ending}"
    write_expression(path, X, **names)
    with open_expression(path, rows="profiles") as file:
        np.testing.assert_array_equal(file.read(), X.toarray())
    write_expression(path, np.ma.masked_equal(X.toarray(), 0), **names)
    with open_expression(path, rows="profiles") as file:
        np.testing.assert_array_equal(file.read(), np.where(X.toarray() == 0, np.nan, X.toarray()))


def test_files_of_old_anndata_are_named_as_such(expression, tmp_path):
    X, described = expression
    path = tmp_path / "x.h5ad"
    write_expression(path, X, **described)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_group("X").attrs["h5sparse_format"] = "csr"
    with pytest.raises(ExpressionFileError, match=r"was written by AnnData before 0\.7"):
        open_expression(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]
        file["obs"] = np.zeros(70, dtype=[("index", "S4")])
    with pytest.raises(ExpressionFileError, match=r"was written by AnnData before 0\.7"):
        open_expression(path)


def test_sparse_half_precision_is_read(tmp_path):
    X = np.eye(4, dtype=np.float16)
    names = pd.Index(list("abcd"), dtype=object)
    data = anndata.AnnData(scipy.sparse.csr_matrix(X.astype(np.float32)), pd.DataFrame(index=names))
    data.var_names = names
    data.write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        del file["X/data"]
        file["X/data"] = np.ones(4, dtype=np.float16)
    np.testing.assert_array_equal(open_expression(tmp_path / "x.h5ad").read(), X)


def test_parquet_with_numbers_as_ids(tmp_path):
    frame = pd.DataFrame({"s1": [1.0, 2.0], "s2": [3.0, 4.0]}, index=pd.Index([780, 7849], name="gene_id"))
    frame.to_parquet(tmp_path / "x.parquet")
    with open_expression(tmp_path / "x.parquet") as file:
        assert file.gene_ids.tolist() == ["780", "7849"]
        np.testing.assert_array_equal(file.read(), frame.T.to_numpy())


def test_a_damaged_part_is_named(expression, tmp_path):
    X, described = expression
    path, part, note = tmp_path / "x.gctx", tmp_path / ".x.gctx.part", tmp_path / ".x.gctx.progress"

    def write(**changes):
        with create_expression(path, **described | changes, resume=True) as writer:
            writer.write(X[writer.n_written : writer.n_written + 20])

    with pytest.raises(ValueError, match="Got 20 profiles"):
        write()
    with pytest.raises(ValueError, match=r"it was begun with other metadata\. Delete it to begin anew"):
        write(profile_metadata={"plate": np.arange(70) + 1})
    whole, known = part.read_bytes(), note.read_text()
    for broken in (b"", b"\xff\xfe", b"20", b"9999 " + known.encode()[3:]):
        note.write_bytes(broken)
        with pytest.raises(ValueError, match=r"x.gctx.progress is damaged. Delete both to begin anew"):
            write()
    note.write_text(known)
    for length in (0, 3000):
        part.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x.gctx.part cannot be resumed: it .* Delete it to begin anew"):
            write()
    part.write_bytes(whole)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Got [46]0 profiles"):
            write()
    write()
    np.testing.assert_array_equal(open_expression(path).read(), X)


def test_links_are_followed(expression, tmp_path):
    X, described = expression
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "x.gctx", tmp_path / "x.gctx"
    target.write_text("what was there")
    link.symlink_to(target)
    (tmp_path / "loop.tsv").symlink_to(tmp_path / "loop.tsv")
    with pytest.raises(OSError, match="is a link that leads to itself"):
        write_expression(tmp_path / "loop.tsv", X, profile_ids=described["profile_ids"], gene_ids=described["gene_ids"])
    (tmp_path / "loop.tsv").unlink()
    write_expression(link, X, **described)
    assert link.is_symlink()
    np.testing.assert_array_equal(open_expression(target).read(), X)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["disk", "x.gctx", "x.gctx"]


def test_the_name_that_is_given_decides_on_compression(tmp_path):
    (tmp_path / "x.tsv.gz").symlink_to(tmp_path / "object")
    write_expression(tmp_path / "x.tsv.gz", [[1, 2]], profile_ids=["a"], gene_ids=["x", "y"])
    assert gzip.decompress((tmp_path / "object").read_bytes()) == b"profile_id\tx\ty\na\t1.0\t2.0\n"


@pytest.mark.parametrize(
    ("name", "is_name"),
    [
        ("gene", True),
        ("TargetID", True),
        ("Geneid", True),
        ("Hugo_Symbol", True),
        ("Ensembl Gene ID", True),
        ("ID_REF", True),
        ("NAME", True),
        ("profile_id", True),
        ("GeneSymbol", True),
        ("EnsemblGeneID", True),
        ("ProbesetID", True),
        ("Composite Element REF", True),
        ("cell_line", True),
        ("sample1", False),
        ("Sample 1", False),
        ("GSM1", False),
        ("s1", False),
        ("TP53", False),
        ("log2 TPM", False),
        ("identity", False),
        ("", False),
    ],
)
def test_names_of_ids_are_told_from_samples(name, is_name):
    assert _identifiers.names_ids(name) == is_name


@pytest.mark.parametrize(
    ("name", "describes"),
    [
        *((name, True) for name in ("Entrez_Gene_Id", "GeneID", "gene_id", "entrezgene", "NCBI.Gene.ID", "ENTREZID")),
        *(
            (name, True)
            for name in ("Chr.", "chrom", "txStart", "width", "pos", "Position", "strand ", "start_position")
        ),
        *(
            (name, True)
            for name in ("Length", "EffectiveLength", "transcript_length", "eff_length", "tx_len", "GC", "% GC")
        ),
        *((name, True) for name in ("Chromosome/scaffold name", "Gene start (bp)", "Gene % GC content", "HGNC ID")),
        ("NCBI gene (formerly Entrezgene) ID", True),
        *((name, False) for name in ("sample 1", "run1", "Length_study_3", "GSM1", "TCGA-02-0001", "1", "chr1 lung")),
        *((name, False) for name in ("gene", "id", "patient_id", "age", "ENDO", "POSTN", "GCG", "START1", "-", "")),
    ],
)
def test_columns_that_describe_genes_are_told_by_their_whole_names(name, describes):
    assert _identifiers.describes_genes(name) == describes


def test_numbers_too_large_for_the_file_are_refused(tmp_path):
    path = tmp_path / "x.gctx"
    with pytest.raises(ValueError, match=r"Got 1e\+39 for the gene B of the profile p2, but expected numbers below"):
        write_expression(path, [[1.0, np.inf], [2.0, 1e39]], profile_ids=["p1", "p2"], gene_ids=["A", "B"])
    with pytest.raises(ValueError, match="Got profiles of shape"):
        write_expression(path, [[1.0, 1e39]], profile_ids=["p1"], gene_ids=["A"])
    with pytest.raises(ValueError, match=r"Got 1e\+39 for the gene A"):
        write_expression(path, np.array([[1e39]], dtype=object), profile_ids=["p1"], gene_ids=["A"])
    assert list(tmp_path.iterdir()) == []


def test_a_gene_called_like_the_ids_is_refused_in_parquet(tmp_path):
    with pytest.raises(ValueError, match="Got profile_id more than once as the name of a gene, of metadata or of the"):
        write_expression(tmp_path / "x.parquet", [[1.0, 2.0]], profile_ids=["p"], gene_ids=["A", "profile_id"])
    same = {"profile_ids": ["p"], "gene_ids": ["A"], "profile_metadata": {"profile_id": ["x"]}}
    with pytest.raises(ValueError, match="Got profile_id more than once"):
        write_expression(tmp_path / "x.parquet", [[1.0]], **same)


@pytest.mark.parametrize("name", ["x.gctx", "x.h5ad", "x.parquet", "x.tsv"])
def test_halves_of_characters_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"ids that x\.\w+ would not give back, such as 'A\\udc80'"):
        write_expression(tmp_path / name, [[1.0]], profile_ids=["p"], gene_ids=["A\udc80"])


def test_metadata_with_halves_of_characters_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Got halves of characters in the metadata 'site'"):
        write_expression(
            tmp_path / "x.h5ad", [[1.0]], profile_ids=["p"], gene_ids=["A"], profile_metadata={"site": ["a\udce9"]}
        )


def test_text_with_a_number_in_it_is_not_lost(tmp_path):
    path = tmp_path / "stages.csv"
    rows = [f"s{row},1.5,2.5,{stage}" for row, stage in enumerate(["II", "III", "I", "4", "II"])]
    path.write_text("\n".join(["sample,TP53,EGFR,stage", *rows]))
    with open_expression(path) as file:
        np.testing.assert_array_equal(file.read(genes=["TP53", "EGFR"]), [[1.5, 2.5]] * 5)
        with pytest.raises(ExpressionFileError, match=r"got 'II' in row 's0', column 'stage', .* metadata=\['stage'\]"):
            file.read()
    path.write_text(path.read_text().replace(",4", ",IV"))
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == ["TP53", "EGFR"]
        assert file.profile_metadata["stage"].tolist() == ["II", "III", "I", "IV", "II"]


@pytest.mark.parametrize("sample", ["GSM0", "GSM1", "first", "second"])
@pytest.mark.parametrize("texts", [["ND"] * 20, [f"below {n}" for n in range(11)], ["ND", "BDL", "low"] * 4])
@pytest.mark.parametrize("compressed", [False, True])
def test_no_sample_is_lost_for_a_few_cells_of_text(sample, texts, compressed, tmp_path):
    names = ["GSM0", "GSM1", "GSM2"] if sample.startswith("GSM") else ["first", "second", "third"]
    column = np.arange(1000.0).astype(str).astype(object)
    column[: len(texts)] = texts
    frame = pd.DataFrame({name: column if name == sample else 1.5 for name in names})
    frame.set_axis([f"ENSG{row:011d}" for row in range(1000)]).to_csv(
        tmp_path / "x.csv", index_label="gene", compression="gzip" if compressed else None
    )
    with open_expression(tmp_path / "x.csv") as file:
        assert file.profile_ids.tolist() == names
        assert not file.gene_metadata
        with pytest.raises(ExpressionFileError, match=rf"got '{texts[0]}' in row 'ENSG0+', column '{sample}'"):
            file.read()
        np.testing.assert_array_equal(file.read(sample, slice(20, None)), [np.arange(20.0, 1000)])


def test_text_among_expression_is_said(tmp_path):
    frame = pd.DataFrame(
        {
            "sample": ["a", "b"],
            "site": ["x", "y"],
            "TP53": [1.5, 2],
            "sex": ["f", "m"],
            "MYC": [3.5, 4],
            "note": ["u", "v"],
        }
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    for path in (tmp_path / "x.csv", tmp_path / "x.parquet"):
        with pytest.warns(
            UserWarning, match=r"has 1 column without numbers among .* for metadata: sex\. Name them in metadata="
        ):
            file = open_expression(path)
        assert file.gene_ids.tolist() == ["TP53", "MYC"]
        assert list(file.profile_metadata) == ["site", "sex", "note"]
        file.close()
        with open_expression(path, metadata=["sex"]) as file:
            assert file.profile_metadata["sex"].tolist() == ["f", "m"]


def test_decimal_and_empty_columns_of_parquet_are_expression(tmp_path):
    genes = [f"ENSG{number:011d}" for number in range(4)]
    columns = {"sample": ["a", "b", "c"], "note": [None] * 3, genes[0]: [1.5, 2.5, 3.5]}
    columns |= {genes[1]: [Decimal("1.25"), None, Decimal("7")], genes[2]: [None] * 3, genes[3]: [True, False, True]}
    pd.DataFrame(columns).to_parquet(tmp_path / "x.parquet", index=False)
    with open_expression(tmp_path / "x.parquet") as file:
        assert file.gene_ids.tolist() == genes[:3]
        assert list(file.profile_metadata) == ["note", genes[3]]
        np.testing.assert_array_equal(file.read(), [[1.5, 1.25, np.nan], [2.5, np.nan, np.nan], [3.5, 7, np.nan]])


def test_a_sample_that_begins_with_marks_is_no_metadata(tmp_path):
    path = tmp_path / "marked.tsv"
    rows = [f"ENSG{row:011d}\t1.5\t{'ND' if row < 11 else 2.5}\t3.5" for row in range(30)]
    path.write_text("\n".join(["gene\ts1\ts2\ts3", *rows]))
    with open_expression(path) as file:
        assert file.profile_ids.tolist() == ["s1", "s2", "s3"]
        with pytest.raises(ExpressionFileError, match="ND"):
            file.read()
    with open_expression(path, metadata=["s2"]) as file:
        assert file.profile_ids.tolist() == ["s1", "s3"]


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".npz"])
def test_a_file_that_another_has_replaced_is_not_read_on(tmp_path, suffix):
    path, genes = tmp_path / f"x{suffix}", ["g1", "g2", "g3"]
    values = np.array([[11, 12, 13], [21, 22, 23]], np.float32)

    def put(values, genes):
        if suffix == ".npz":
            np.savez(tmp_path / "other.npz", X=values, profile_ids=["s1", "s2"], gene_ids=genes)
            (tmp_path / "other.npz").replace(path)
        else:
            write_expression(path, values, profile_ids=["s1", "s2"], gene_ids=genes)

    put(values, genes)
    with open_expression(path) as file:
        put(values[:, ::-1], genes[::-1])
        with pytest.raises(ExpressionFileError, match="has changed since it was opened"):
            file.read("s1", "g1")
    with open_expression(path) as file:
        assert file.read("s1", "g1") == 11


def test_filtered_frames_keep_their_ids_in_parquet(tmp_path):
    frame = pd.DataFrame(
        {"gene_id": [f"ENSG{i:011d}" for i in range(4)], "GSM1": [8.0, 0, 7, 6], "GSM2": [8.5, 0, 7, 6]}
    )
    filtered = frame[frame.GSM1 > 1]
    filtered.to_parquet(tmp_path / "filtered.parquet")
    with open_expression(tmp_path / "filtered.parquet") as file:
        assert file.gene_ids.tolist() == filtered.gene_id.tolist()
        assert file.profile_ids.tolist() == ["GSM1", "GSM2"]
        assert not file.gene_metadata
        np.testing.assert_array_equal(file.read(), filtered[["GSM1", "GSM2"]].to_numpy().T)
    # Numbers that have a name are ids, and so are those of rows where there is nothing else.
    numbered = pd.DataFrame({"GSM1": [8.0, 7], "GSM2": [8.5, 7]}, index=[7157, 4609])
    for name in ("entrez_id", None):
        numbered.rename_axis(name).to_parquet(tmp_path / "numbered.parquet")
        with open_expression(tmp_path / "numbered.parquet", rows="genes") as file:
            assert file.gene_ids.tolist() == ["7157", "4609"]


def test_leading_numbers_of_customary_names_are_metadata_in_every_format(tmp_path):
    frame = pd.DataFrame(
        {"gene_id": ["ENSG00000000001", "ENSG00000000002"], "Chr": ["1", "X"], "Length": [1000, 2000], "GSM1": [8.0, 7]}
    )
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    frame.to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    for name in ("x.parquet", "x.tsv"):
        with open_expression(tmp_path / name) as file:
            assert file.profile_ids.tolist() == ["GSM1"]
            assert file.gene_metadata["Length"].tolist() == [1000, 2000]


def test_metadata_of_padded_digits_stay_text(tmp_path):
    (tmp_path / "p.gct").write_text(
        "#1.3\n1\t3\t1\t2\nid\tentrez\ts1\ts2\ts3\nplate\tna\t007\t012\t0012\ndose\tna\t0.5\t0\t10\ng1\t0012\t1\t2\t3\n"
    )
    with open_expression(tmp_path / "p.gct") as file:
        assert file.profile_metadata["plate"].tolist() == ["007", "012", "0012"]
        assert file.profile_metadata["dose"].tolist() == [0.5, 0, 10]
        assert file.gene_metadata["entrez"].tolist() == ["0012"]


@pytest.mark.parametrize("ending", [".tsv", ".parquet"])
def test_numbers_of_genes_are_no_sample(ending, tmp_path):
    path = tmp_path / f"x{ending}"

    def write(frame):
        frame.to_parquet(path, index=False) if ending == ".parquet" else frame.to_csv(path, sep="\t", index=False)

    numbers = {"Entrez_Gene_Id": [7157, 4609], "Chr.": [17, 8], "txStart": [7661779.0, np.nan]}
    write(pd.DataFrame({"Hugo_Symbol": ["TP53", "MYC"], **numbers, "TCGA-02-0001": [1.5, 2], "TCGA-02-0003": [3.5, 4]}))
    with open_expression(path) as file:
        assert file.profile_ids.tolist() == ["TCGA-02-0001", "TCGA-02-0003"]
        assert list(file.gene_metadata) == list(numbers)
        assert file.gene_metadata["Entrez_Gene_Id"].tolist() == [7157, 4609]
        np.testing.assert_array_equal(file.read(), [[1.5, 2], [3.5, 4]])
    # Where rows are profiles, these are genes: GC codes for a protein.
    write(pd.DataFrame({"sample": ["a", "b"], "site": ["x", "y"], "GC": [1.5, 2], "Length": [3, 4], "TP53": [3.5, 4]}))
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == ["GC", "Length", "TP53"]
        assert list(file.profile_metadata) == ["site"]
        np.testing.assert_array_equal(file.read(), [[1.5, 3, 3.5], [2, 4, 4]])
    # What follows expression is expression, whatever it is called.
    write(pd.DataFrame({"gene": ["A", "B"], "before": [1.5, 2], "end": [3.5, 4]}))
    with open_expression(path) as file:
        assert file.profile_ids.tolist() == ["before", "end"]


@pytest.mark.parametrize("text", ["ENSG00000000003.14\t723\nENSG00000000005.6\t0\n", "GSM1,1.5,,2\nGSM2,2.5,3,4\n"])
def test_a_first_line_of_numbers_is_no_header(text, tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text(text)
    for rows in ("auto", "genes"):
        with pytest.raises(ExpressionFileError, match=r"counts\.txt: got .* It has no header: add a line that names"):
            open_expression(path, rows=rows)
    path.write_text("my genes\t101\n" + text.replace(",", "\t").replace("\t\t2", "").replace("\t3\t4", ""))
    with open_expression(path, rows="genes") as file:
        assert file.profile_ids.tolist() == ["101"]
        assert file.shape == (1, 2)


@pytest.mark.parametrize("ids", [["x,y,z", "u,v"], ["a;b;c;d", "e"], ["a, b", 'c "d", e'], ["p\tq", "r,s"]])
def test_names_with_other_delimiters_are_read_back(ids, tmp_path):
    path = tmp_path / "w.tsv"
    for profile_ids, gene_ids in ((["a", "b"], ids), (ids, ["a", "b"]), (ids, ids)):
        write_expression(path, [[1, 2], [3, 4]], profile_ids=profile_ids, gene_ids=gene_ids)
        with open_expression(path) as file:
            assert file.profile_ids.tolist() == profile_ids
            assert file.gene_ids.tolist() == gene_ids
            np.testing.assert_array_equal(file.read(), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "text",
    [
        'gene\t"lung, ctl, 1"\t"lung, ctl, 2"\nTP53\t1\t2\n',
        "gene\tlung, ctl, 1\tlung, ctl, 2\nTP53\t1\t2\n",
        '"gene";"lung, ctl, 1";"lung, ctl, 2"\n"TP53";1;2\n',
        'gene,"lung, ctl, 1","lung, ctl, 2"\nTP53,1,2\n',
        "#Gene\tlung, ctl, 1\tlung, ctl, 2\nTP53\t1\t2\n",
    ],
)
def test_commas_in_names_separate_nothing(text, tmp_path):
    (tmp_path / "x").write_text(text)
    with open_expression(tmp_path / "x") as file:
        assert file.profile_ids.tolist() == ["lung, ctl, 1", "lung, ctl, 2"]
        np.testing.assert_array_equal(file.read(), [[1], [2]])


def test_metadata_and_layers_that_are_not_there_are_said(expression, tmp_path):
    X, described = expression
    frame = pd.DataFrame({"sample": ["GSM1", "GSM2"], "age": [50, 60], "TP53": [1.5, 2], "MYC": [3.5, 4]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(
            ValueError, match=rf"^Got metadata=Age, but expected columns of {name}: sample, age, TP53, MYC"
        ):
            open_expression(tmp_path / name, metadata=["Age"])
        with open_expression(tmp_path / name, metadata="age") as file:
            assert file.gene_ids.tolist() == ["TP53", "MYC"]
            assert file.profile_metadata["age"].tolist() == [50, 60]
    for ending in (".gctx", ".parquet", ".tsv"):
        write_expression(tmp_path / f"y{ending}", X, **described)
        with pytest.raises(ValueError, match=rf"Got layer='counts', but .*y{ending} is no h5ad file"):
            open_expression(tmp_path / f"y{ending}", layer="counts")


def test_names_of_columns_have_no_spaces_around_them(tmp_path):
    (tmp_path / "x.csv").write_text("sample, age, site ,TP53\ns1,50,a,1.5\ns2,60,b,2\n")
    with open_expression(tmp_path / "x.csv", metadata=["age"]) as file:
        assert file.gene_ids.tolist() == ["TP53"]
        assert file.profile_metadata["age"].tolist() == [50, 60]
        assert list(file.profile_metadata) == ["age", "site"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("number", ["1e39", "-3.5e38", "1" + "0" * 400])
def test_text_that_single_precision_does_not_hold_is_refused(number, compressed, tmp_path):
    text = f"gene\tGSM1\tGSM2\tGSM3\nTP53\t{number}\t1.5\t-Inf\nMYC\tinf\t3.4028234e38\t2\nEGFR\t\t{number}\t3\n"
    (tmp_path / "x").write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    with open_expression(tmp_path / "x") as file:
        for gene, profile in (("TP53", "GSM1"), ("EGFR", "GSM2")):
            message = rf"got '{number[:50]}' in row '{gene}', column '{profile}', but expected numbers below 3\.4e38"
            with pytest.raises(ExpressionFileError, match=message):
                file.read(genes=gene)
        np.testing.assert_array_equal(file.read(genes="MYC"), np.array([[np.inf], [3.4028234e38], [2]], np.float32))
        assert file.read("GSM3", "TP53") == -np.inf


SERIES = """\
!Series_title\t"A ""small"" series"
!Series_geo_accession\t"GSE1"

!Sample_title\t"lung, 1"\t"lung, 2"
!Sample_geo_accession\t"GSM1"\t"GSM2"
!Sample_characteristics_ch1\t"age: 50"\t"age: 61"
!Sample_characteristics_ch1\t"tissue: lung"\t""
!Sample_characteristics_ch1\t"sex: f"\t"smoker: no"
!Sample_characteristics_ch1\t"batch 1"\t"batch 2"
!series_matrix_table_begin
"ID_REF"\t"GSM1"\t"GSM2"
"1007_s_at"\t7.5\t8
"1053_at"\tnull\t5.25
!series_matrix_table_end
"""


@pytest.mark.parametrize("compressed", [False, True])
def test_series_matrices_of_geo_are_read(compressed, tmp_path):
    content = SERIES.encode()
    (tmp_path / "x").write_bytes(gzip.compress(content) if compressed else content)
    with open_expression(tmp_path / "x") as file:
        assert file.format == "GEO series matrix"
        assert file.profile_ids.tolist() == ["GSM1", "GSM2"]
        assert file.gene_ids.tolist() == ["1007_s_at", "1053_at"]
        np.testing.assert_array_equal(file.read(), [[7.5, np.nan], [8, 5.25]])
        np.testing.assert_array_equal(file.read("GSM2", ["1053_at", "1007_s_at"]), [[5.25, 8]])
        metadata = {name: column.tolist() for name, column in file.profile_metadata.items()}
    assert metadata == {
        "title": ["lung, 1", "lung, 2"],
        "geo_accession": ["GSM1", "GSM2"],
        "age": [50, 61],
        "tissue": ["lung", None],
        "characteristics_ch1": ["sex: f", "smoker: no"],
        "characteristics_ch1 2": ["batch 1", "batch 2"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            SERIES.partition("!series_matrix_table_end")[0],
            "ends without the line '!series_matrix_table_end': it is trunc",
        ),
        (SERIES.partition(".25")[0], "ends without the line"),
        (SERIES[:-10], r"got 1 fields, but expected 3.* Is the file complete"),
        (SERIES.partition("!series_matrix_table_begin")[0], "has no line '!series_matrix_table_begin'"),
        (SERIES.replace('"1007_s_at"\t7.5\t8\n"1053_at"\tnull\t5.25\n', ""), "table is empty, .* supplementary files"),
        (SERIES.replace('"ID_REF"\t"GSM1"\t"GSM2"\n', "!series_matrix_table_end\n"), "table is empty"),
        (SERIES.replace("\tnull", "\tlow"), "got 'low' in row '1053_at', column 'GSM1'"),
        (SERIES.replace("\tnull", ""), "got 2 fields, but expected 3"),
    ],
)
def test_what_is_wrong_with_series_matrices_is_said(content, message, tmp_path):
    (tmp_path / "x").write_text(content)
    with pytest.raises(ExpressionFileError, match=message), open_expression(tmp_path / "x") as file:
        file.read()


def test_comments_are_no_gct(tmp_path):
    (tmp_path / "x").write_text("#1. of our tables\ngene\tGSM1\nTP53\t1.5\n")
    with open_expression(tmp_path / "x") as file:
        assert file.gene_ids.tolist() == ["TP53"]
    (tmp_path / "x").write_text(GCT.replace("#1.2\n", "#1.2\t\t\r\n"))
    with open_expression(tmp_path / "x") as file:
        assert file.format == "GCT 1.2"


@pytest.mark.parametrize("corner", ["GeneSymbol", "locus_tag", "miRNA", ""])
def test_rows_that_end_with_a_separator_are_not_shifted(tmp_path, corner):
    path = tmp_path / "x.tsv"
    path.write_text(f"{corner}\tGSM1\tGSM2\nTP53\t1\t2\t\nMYC\t3\t4\t\n")
    with open_expression(path, rows="genes") as file:
        assert (file.profile_ids.tolist(), file.gene_ids.tolist()) == (["GSM1", "GSM2"], ["TP53", "MYC"])
        np.testing.assert_array_equal(file.read(), [[1, 3], [2, 4]])


def test_a_separator_at_the_end_of_rows_that_may_stand_for_a_value_is_an_error(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("tumour\tnormal\nTP53\t1\t\nMYC\t3\t\n")
    with pytest.raises(ExpressionFileError, match=r"one field more than the header.* Is 'tumour' what the"):
        open_expression(path)


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_a_description_without_any_text_is_no_profile(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    frame = pd.DataFrame({"gene": ["TP53", "MYC"], "Description": [None, None], "GSM1": [1.0, 2], "GSM2": [3.0, 4]})
    if suffix == ".tsv":
        frame.to_csv(path, sep="\t", index=False, na_rep="na")
    else:
        frame.to_parquet(path)
    with open_expression(path) as file:
        assert file.profile_ids.tolist() == ["GSM1", "GSM2"]
        assert file.gene_metadata["Description"].tolist() == ([None, None] if suffix == ".parquet" else ["na", "na"])


def test_roles_of_selected_parquet_columns_follow_their_genes(expression, tmp_path):
    X, described = expression
    path = tmp_path / "x.parquet"
    write_expression(path, X, **described)
    genes = list(map(str, described["gene_ids"]))
    table = pyarrow.parquet.read_table(path)
    selected = table.select(["profile_id", genes[3], genes[0]]).append_column("new", [np.zeros(len(X), np.float32)])
    pyarrow.parquet.write_table(selected, path)
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == [genes[3], genes[0], "new"]
        assert file.gene_metadata["role"].tolist() == ["target", "landmark", None]
        np.testing.assert_array_equal(file.gene_metadata["r"], [0.75, 0.0, np.nan])


def test_ids_like_numbers_come_back_from_a_table(tmp_path):
    path = tmp_path / "x.tsv"
    write_expression(path, np.eye(2), profile_ids=["1.234", "2.345"], gene_ids=["3.456", "4.567"])
    with open_expression(path) as file:
        assert (file.profile_ids.tolist(), file.gene_ids.tolist()) == (["1.234", "2.345"], ["3.456", "4.567"])


def test_text_is_read_once_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_text, "BATCH_BYTES", 2**18)
    path = tmp_path / "x.tsv"
    write_expression(path, np.zeros((100, 20_000), np.float32), profile_ids=range(100), gene_ids=range(20_000))
    with open_expression(path) as file:
        tracemalloc.start()
        X = file.read()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert X.nbytes == 8_000_000
    assert most < 14_000_000


def test_a_column_called_name_is_no_id_in_gct_1_3(tmp_path):
    path = tmp_path / "x.gct"
    path.write_text("#1.3\n2\t2\t2\t0\nid\tName\tDescription\tS1\tS2\n7157\tTP53\ttumor\t1\t2\n4609\tMYC\tmyc\t3\t4\n")
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == ["7157", "4609"]
        assert file.gene_metadata["Name"].tolist() == ["TP53", "MYC"]


def test_what_a_full_disk_does_not_take_is_read_again(tmp_path):
    class FullDisk(io.FileIO):
        room = 5

        def write(self, data):
            data = data[: self.room]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            FullDisk.room -= len(data)
            return super().write(data)

    class OnFullDisk(_hdf5_writer.GuardedFile, FullDisk):
        pass

    file = OnFullDisk(tmp_path / "x", "w+")
    for place, data in ((0, b"abcdefgh"), (10, b"klm"), (6, b"GH")):
        file.seek(place)
        assert file.write(data) == len(data)
    read = bytearray(b"?" * 20)
    file.seek(1)
    assert file.readinto(read) == 12
    assert read == b"bcdefGH\0\0klm" + bytes(8)
    assert file.tell() == 13
    with pytest.raises(OSError, match="No space left"):
        file.check()
    file.close()
    assert (tmp_path / "x").read_bytes() == b"abcde"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('!Sample_title\t"lung\n\twith tab"\t"lung, 2\nmore"', ["lung\n\twith tab", "lung, 2\nmore"]),
        ('!Sample_title\t"size 5""\t"b"', ["size 5", "b"]),
        ('!Sample_title\tlung "1\tlung 2"', ['lung "1', 'lung 2"']),
        ("\n!Sample_title\ta\tb\n", ["a", "b"]),
    ],
)
def test_lines_and_quotation_marks_within_samples_of_geo(tmp_path, line, expected):
    path = tmp_path / "x"
    begin = "!series_matrix_table_begin\n"
    content = SERIES.replace('!Sample_title\t"lung, 1"\t"lung, 2"', line).replace(begin, f"{begin}\n")
    path.write_text(f"\n{content}")
    with open_expression(path) as file:
        assert file.profile_metadata["title"].tolist() == expected
        assert file.profile_metadata["geo_accession"].tolist() == ["GSM1", "GSM2"]
        np.testing.assert_array_equal(file.read(), [[7.5, np.nan], [8, 5.25]])


def test_a_line_about_other_samples_is_left_out(tmp_path):
    path = tmp_path / "x"
    path.write_text(SERIES.replace('\t"lung, 2"', ""))
    with pytest.warns(UserWarning, match="!Sample_title have not a field for each of 2 samples; they are left out"):
        file = open_expression(path)
    assert list(file.profile_metadata)[:2] == ["geo_accession", "age"]


def test_bytes_that_no_text_has_are_named(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b"gene\tGSM1\nTP53\t1\0\n")
    with pytest.raises(ExpressionFileError, match="got the byte 00 after 16 others, which text does not have"):
        open_expression(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(ExpressionFileError, match="is empty, though compressed by gzip"):
        open_expression(path)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="names of open files")
def test_links_to_open_files_are_no_destinations(tmp_path):
    link = tmp_path / "table.tsv"
    with (tmp_path / "log").open("w") as log:
        link.symlink_to(f"/dev/fd/{log.fileno()}")
        with pytest.raises(OSError, match=r"table.tsv is a pipe or a device, or a file that is open"):
            write_expression(link, [[1.0]], profile_ids=["a"], gene_ids=["g"])
    folder = tmp_path / "dev" / "fd"
    folder.mkdir(parents=True)
    write_expression(folder / "table.tsv", [[1.0]], profile_ids=["a"], gene_ids=["g"])
