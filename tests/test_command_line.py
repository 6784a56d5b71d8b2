"""python -m dgex."""

import csv
import gzip
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from dgex import DGEXRegressor, recipes
from dgex.__main__ import as_options, ended_like_ctrl_c, main
from dgex._commands._genes import gene_list
from dgex._signals import deferred_keyboard_interrupt
from dgex.inference import predict_to_file
from dgex.io import open_expression, write_expression
from dgex.metrics import genewise_mae
from dgex.persistence import load_model, save_model

LANDMARKS = [f"ENSG{number:011d}" for number in range(8)]
TARGETS = [f"ENSG{number:011d}" for number in range(100, 115)]
TINY = ["--hidden", "6", "--epochs", "3"]


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (120, 8))
    return np.hstack([X, np.tanh(X - 8) @ rng.normal(size=(8, 15)) + 6]).astype(np.float32)


@pytest.fixture
def folder(values, tmp_path, monkeypatch):
    """A folder to work in, with profiles to train and to test on and a list of landmarks."""
    monkeypatch.chdir(tmp_path)
    ids = [f"p{number}" for number in range(120)]
    order = np.random.default_rng(1).permutation(23)
    genes = [(LANDMARKS + TARGETS)[place] for place in order]
    write_expression("compendium.gctx", values[:90][:, order], profile_ids=ids[:90], gene_ids=genes)
    write_expression("tested.tsv", values[90:], profile_ids=ids[90:], gene_ids=LANDMARKS + TARGETS)
    write_expression("landmarks.gctx", values[90:, :8], profile_ids=ids[90:], gene_ids=LANDMARKS)
    (tmp_path / "landmarks.txt").write_text("# measured, by the assay\n" + "\n".join(LANDMARKS) + "\n\n")
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """Runs a command line; returns exit status, output and errors."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_chain_of_commands_does_what_the_library_does(run, values):
    status, printed, said = run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", *TINY)
    assert status == 0, said
    assert "90 profiles, 8 landmarks, 15 targets" in printed
    assert re.search(r"validation profiles, standardized: 0\.\d{4}\nmodel\.dgex: [\d.]+ kB", printed)
    assert "3 epochs in" in said
    model = load_model("model.dgex")
    assert (model.hidden_layer_sizes, model.max_iter, model.random_state) == ([6], 3, 0)
    assert model.feature_names_in_.tolist() == LANDMARKS
    targets = model.target_names_.tolist()
    assert sorted(targets) == TARGETS
    columns = [(LANDMARKS + TARGETS).index(gene) for gene in targets]
    same = DGEXRegressor(hidden_layer_sizes=[6], max_iter=3, random_state=0)
    same.fit(values[:90, :8], values[:90][:, columns])
    np.testing.assert_array_equal(
        model.predict(pd.DataFrame(values[90:, :8], columns=LANDMARKS)), same.predict(values[90:, :8])
    )

    assert run("predict", "model.dgex", "tested.tsv", "inferred.h5ad", "--quiet") == (0, "", "")
    predict_to_file(model, "tested.tsv", "expected.h5ad", verbose=False)
    with open_expression("inferred.h5ad") as inferred, open_expression("expected.h5ad") as expected:
        assert inferred.gene_ids.tolist() == LANDMARKS + targets
        np.testing.assert_array_equal(inferred.read(), expected.read())

    status, printed, said = run("compare", "tested.tsv", "model.dgex", "file=inferred.h5ad", "--by-gene", "genes.tsv")
    assert (status, said) == (0, "")
    assert "30 profiles, 15 genes; mean absolute error, in the units of tested.tsv" in printed
    errors = genewise_mae(values[90:][:, columns], same.predict(values[90:, :8]))
    for name in ("model.dgex", "file"):
        assert re.search(rf"^{re.escape(name)} +{errors.mean():.4f} ", printed, re.M), printed
    with Path("genes.tsv").open() as file:
        table = {row["gene"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert sorted(table) == TARGETS
    for gene, error in zip(targets, errors, strict=True):
        assert float(table[gene]["error of model.dgex"]) == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("method", ["knn", "ridge"])
def test_the_baselines_are_tuned_on_held_out_profiles(run, method):
    arguments = ["train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.gctx", "--method", method]
    status, printed, said = run(*arguments)
    assert (status, said) == (0, "")
    chosen = load_model("model.dgex")
    error = float(re.search(r"standardized: (.*)", printed)[1])
    name = {"knn": "n_neighbors", "ridge": "alpha"}[method]
    best = getattr(chosen if method == "knn" else chosen[-1], name)
    # No other value does better on the same profiles.
    for other in (1, 3, 8) if method == "knn" else (1.0, 1000.0, 30_000.0):
        _, printed, _ = run(*arguments, "--set", f"{name}={other}")
        assert float(re.search(r"standardized: (.*)", printed)[1]) >= error
        assert (other == best) <= (float(re.search(r"standardized: (.*)", printed)[1]) == error)
    status, printed, said = run("compare", "tested.tsv", "model.dgex", "--output", "table.tsv")
    assert (status, said) == (0, "")
    assert Path("table.tsv").read_text().startswith("model\terror\tsd\t")
    assert run("predict", "model.dgex", "landmarks.gctx", "y.gctx", "--quiet")[0] == 0


def test_validation_profiles_can_be_given(run, values):
    arguments = ["--landmarks", "landmarks.txt", "--validation", "tested.tsv", "--quiet", *TINY]
    assert run("train", "compendium.gctx", "model.dgex", *arguments) == (0, "", "")
    model = load_model("model.dgex")
    columns = [(LANDMARKS + TARGETS).index(gene) for gene in model.target_names_]
    same = DGEXRegressor(hidden_layer_sizes=[6], max_iter=3, random_state=0)
    same.fit(values[:90, :8], values[:90][:, columns], X_val=values[90:, :8], y_val=values[90:][:, columns])
    assert model.best_score_ == same.best_score_


def test_parameters_recipes_and_targets_are_passed_on(run, folder):
    (folder / "targets.txt").write_text("\n".join([*TARGETS[:4], LANDMARKS[0]]))
    status, _, said = run(
        *("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--targets", "targets.txt"),
        *("--recipe", "D-GEX-25%-3000x1", "--hidden", 5, 4, "--epochs", 2, "--seed", 7, "--quiet"),
        *("--set", "solver=adamw", "--set", "weight_decay=0.5", "--set", "early_stopping=True"),
    )
    assert status == 0
    assert said == f"dgex: warning: 1 targets are landmarks, too, and left out: {LANDMARKS[0]}.\n"
    model = load_model("model.dgex")
    assert (model.hidden_layer_sizes, model.dropout, model.random_state) == ([5, 4], 0.25, 7)
    assert (model.solver, model.weight_decay, model.early_stopping) == ("adamw", 0.5, True)
    assert sorted(model.target_names_) == TARGETS[:4]


def test_the_recommended_recipe_is_trained_by_name(run):
    status, _, _ = run(
        *("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet"),
        *("--recipe", "modern", "--hidden", 20, "--epochs", 1),
    )
    assert status == 0
    model = load_model("model.dgex")
    assert model.get_params() == recipes.modern(hidden_layer_sizes=[20], max_iter=1, random_state=0).get_params()


def test_the_weights_of_the_cmap_pipeline_are_a_model(run, values):
    linear = LinearRegression().fit(values[:90, :8], values[:90, 8:])
    weights = np.vstack([linear.intercept_, linear.coef_.T])
    write_expression("weights.gctx", weights, profile_ids=["OFFSET", *LANDMARKS], gene_ids=TARGETS)
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    status, printed, said = run("compare", "tested.tsv", "model.dgex", "CMap=weights.gctx", "--baseline", "CMap")
    assert (status, said) == (0, "")
    error = genewise_mae(values[90:, 8:], linear.predict(values[90:, :8])).mean()
    assert re.search(rf"^CMap +{error:.4f} .* 0\.0%", printed, re.M), printed
    assert run("predict", "weights.gctx", "tested.tsv", "y.gctx", "--quiet")[0] == 0


def test_errors_can_be_standardized_by_training(run, values):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    model = load_model("model.dgex")
    status, printed, _ = run("compare", "tested.tsv", "model.dgex", "--standardized")
    assert status == 0
    columns = [(LANDMARKS + TARGETS).index(gene) for gene in model.target_names_]
    X = pd.DataFrame(values[90:, :8], columns=LANDMARKS)
    error = genewise_mae(values[90:][:, columns], model.predict(X), scale=model.target_scale_).mean()
    assert re.search(rf"^model\.dgex +{error:.4f} ", printed, re.M), printed
    run("train", "compendium.gctx", "ridge.dgex", "--landmarks", "landmarks.txt", "--method", "ridge")
    status, _, said = run("compare", "tested.tsv", "ridge.dgex", "--standardized")
    assert status == 1
    assert "no candidate knows standard deviations" in said


@pytest.mark.parametrize("ending", [".tsv", ".parquet"])
def test_landmarks_do_not_count_whatever_the_format_says_of_them(run, ending):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    run("predict", "model.dgex", "tested.tsv", f"inferred{ending}", "--quiet")
    status, printed, said = run("compare", "tested.tsv", "model.dgex", f"inferred{ending}")
    assert status == 0
    assert "30 profiles, 15 genes" in printed
    assert ("8 genes that equal what was measured are taken for that" in said) == (ending == ".tsv")
    first, second = re.findall(r"(?:model|inferred)\.\w+ +(\S+)", printed)
    assert first == second


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "compendium.gctx", "compendium.gctx", "--landmarks", "landmarks.txt"],
        ["train", "compendium.gctx", "landmarks.txt", "--landmarks", "landmarks.txt"],
        ["train", "compendium.gctx", "tested.tsv", "--landmarks", "landmarks.txt", "--validation", "tested.tsv"],
        ["predict", "model.dgex", "tested.tsv", "tested.tsv"],
        ["compare", "tested.tsv", "model.dgex", "--output", "tested.tsv"],
        ["compare", "tested.tsv", "model.dgex", "--by-gene", "model.dgex"],
    ],
)
def test_what_is_read_is_never_overwritten(run, folder, arguments):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    status, _, said = run(*arguments)
    assert status == 1
    assert "to read and to write, but expected two files" in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_models_without_names_are_told_them(run, folder, values):
    save_model(DGEXRegressor(hidden_layer_sizes=3, max_iter=1).fit(values[:, :8], values[:, 8:]), "model.dgex")
    (folder / "targets.txt").write_text("\n".join(TARGETS))
    names = ["--landmarks", "landmarks.txt", "--targets", "targets.txt"]
    assert run("predict", "model.dgex", "tested.tsv", "y.gctx", "--quiet")[0] == 1
    assert run("predict", "model.dgex", "tested.tsv", "y.gctx", "--quiet", *names) == (0, "", "")
    assert open_expression("y.gctx").gene_ids.tolist() == LANDMARKS + TARGETS
    assert run("compare", "tested.tsv", "model.dgex", *names)[0] == 0


def test_columns_that_are_not_expression_are_told(run, values):
    table = pd.DataFrame(values[:90], columns=LANDMARKS + TARGETS, index=[f"p{n}" for n in range(90)])
    table["age"] = range(90)
    table.to_csv("table.csv")
    reading = ["--metadata", "age", "--rows", "profiles"]
    assert "23 genes" in run("info", "table.csv", *reading)[1]
    run("train", "table.csv", "model.dgex", "--landmarks", "landmarks.txt", *reading, "--quiet", *TINY)
    assert load_model("model.dgex").target_names_.tolist() == TARGETS


def test_errors_in_other_units_are_not_called_standardized(run):
    arguments = ["train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", *TINY, "--set"]
    for setting in ("standardize=False", "validation_fraction=0"):
        status, printed, _ = run(*arguments, setting)
        assert status == 0
        assert "standardized" not in printed


def test_genes_with_missing_values_are_named(run, values):
    some = values.copy()
    some[3, 9] = np.nan
    write_expression("some.gctx", some, profile_ids=[f"p{n}" for n in range(120)], gene_ids=LANDMARKS + TARGETS)
    for method in ("network", "ridge"):
        status, _, said = run("train", "some.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--method", method)
        assert status == 1
        assert f"1 of 15 genes of some.gctx have missing values: {TARGETS[1]}" in said
    write_expression("one.gctx", values[:1], profile_ids=["p"], gene_ids=LANDMARKS + TARGETS)
    assert "has 1 profile, but at least 2" in run("train", "one.gctx", "m.dgex", "--landmarks", "landmarks.txt")[2]


def test_lists_of_genes_may_come_from_windows(run, folder):
    (folder / "landmarks.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(LANDMARKS).encode())
    assert run("train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY) == (0, "", "")
    (folder / "landmarks.txt").write_bytes("\n".join([*LANDMARKS, "é"]).encode("latin-1"))
    said = run("train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt")[2]
    assert "landmarks.txt is not text in UTF-8" in said


@pytest.mark.parametrize(
    "text",
    [
        "#1. landmarks of our panel\n" + "\n".join(LANDMARKS),
        "\n".join(LANDMARKS[:4]) + "\n#1.2\n" + "\n".join(LANDMARKS[4:]),
        "\n".join(f'"{name}"' for name in LANDMARKS),
        "gene,rank\n" + "\n".join(f"{name},{rank}" for rank, name in enumerate(LANDMARKS)),
        "gene\tsymbol\n" + "\n".join(f"{name}\tS{rank}" for rank, name in enumerate(LANDMARKS)),
        "gene\tdescription\n\tnovel transcript\n" + "\n".join(f"{name} \tS" for name in LANDMARKS),
        "gene;symbol;\n" + "\n".join(f"{name};;" for name in LANDMARKS),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_lists_of_genes_of_many_kinds(folder, text, compressed):
    (folder / "list").write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    assert gene_list("list").tolist() == LANDMARKS


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize(
    ("names", "rows"), [(LANDMARKS, "auto"), (LANDMARKS, "genes"), (["TP53", "MYC", "EGFR", "A1BG"], "genes")]
)
def test_lists_of_two_columns_need_a_header(folder, separator, names, rows):
    lines = [f"{name}{separator}{rank}" for rank, name in enumerate(names)]
    (folder / "list").write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"list: got .* It has no header: add .* list of genes has one name in each line"
    ):
        gene_list("list", rows=rows)
    (folder / "list").write_text("\n".join([f"symbol{separator}101", *lines]))
    assert gene_list("list", rows=rows).tolist() == names


def test_tables_of_profiles_are_no_lists(folder):
    (folder / "table").write_text("sample;g1;g2\ns0;1,5;a\ns1;2,5;b\n")
    with pytest.raises(ValueError, match=r"table: got .* list of genes has one name in each line"):
        gene_list("table")


def test_damaged_lists_are_said_to_be_so(folder):
    (folder / "list").write_bytes(gzip.compress("\n".join(LANDMARKS).encode(), mtime=0)[:-12])
    with pytest.raises(ValueError, match="list cannot be read: it is truncated or damaged"):
        gene_list("list")


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_lists_of_genes_may_come_from_pipes(folder):
    os.mkfifo("pipe")
    with subprocess.Popen(["/bin/sh", "-c", "cat landmarks.txt > pipe"]):
        assert gene_list("pipe").tolist() == LANDMARKS


def test_layers_are_those_of_files_that_have_them(run, folder, values):
    ids = [f"p{number}" for number in range(120)]
    frames = (pd.DataFrame(index=pd.Index(names, dtype=object)) for names in (ids[:90], LANDMARKS + TARGETS))
    adata = anndata.AnnData(np.zeros((90, 23)), *frames)
    adata.layers["log"] = values[:90]
    adata.write_h5ad("layers.h5ad")
    ridge = ["--landmarks", "landmarks.txt", "--method", "ridge", "--quiet"]
    # Other files beside it have no layers, and their only matrix is read.
    assert run("train", "layers.h5ad", "m.dgex", *ridge, "--layer", "log", "--validation", "tested.tsv") == (0, "", "")
    run("predict", "m.dgex", "tested.tsv", "inferred.gctx", "--quiet")
    assert run("compare", "layers.h5ad", "m.dgex", "--layer", "log")[0] == 0
    status, printed, said = run("info", "layers.h5ad", "tested.tsv", "--layer", "log")
    assert status == 1
    assert printed.startswith("layers.h5ad: h5ad, 90 profiles x 23 genes")
    assert "Got --layer log, but tested.tsv is no h5ad file, and others have no layers. Leave it out." in said
    assert run("predict", "m.dgex", "tested.tsv", "y.gctx", "--layer", "log")[0] == 1
    assert not (folder / "y.gctx").exists()


@pytest.mark.parametrize("roles", [np.arange(23.0), ["TF", "kinase"] * 11 + ["TF"]])
def test_roles_of_another_meaning_are_not_believed(run, values, roles):
    run("train", "compendium.gctx", "ridge.dgex", "--landmarks", "landmarks.txt", "--method", "ridge")
    run("predict", "ridge.dgex", "tested.tsv", "inferred.gctx", "--quiet")
    with open_expression("inferred.gctx") as file:
        described = {"profile_ids": file.profile_ids, "gene_ids": file.gene_ids, "gene_metadata": {"role": roles}}
        write_expression("other.h5ad", file.read(), **described)
    status, printed, said = run("compare", "tested.tsv", "ridge.dgex", "inferred.gctx", "other.h5ad")
    assert status == 0, said
    assert "30 profiles, 15 genes" in printed
    assert "other.h5ad does not say which genes are landmarks; 8 genes that equal what was measured" in said


def test_a_file_that_cannot_be_read_does_not_hide_the_others(run, folder):
    (folder / "empty").write_text("")
    status, printed, said = run("info", "empty", "compendium.gctx", "nothing", "tested.tsv")
    assert status == 1
    assert printed.startswith("compendium.gctx: GCTX")
    assert "\n\ntested.tsv: delimited text" in printed
    assert "empty is empty" in said
    assert "'nothing'" in said


def test_genes_with_missing_values_are_left_out_of_comparisons(run, values):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    some = values[90:].copy()
    some[3, 9] = np.nan
    write_expression("some.gctx", some, profile_ids=[f"p{n}" for n in range(90, 120)], gene_ids=LANDMARKS + TARGETS)
    status, printed, said = run("compare", "some.gctx", "model.dgex")
    assert (status, said) == (0, f"dgex: warning: 1 genes with missing values are left out: {TARGETS[1]}.\n")
    assert "30 profiles, 14 genes" in printed


def test_info_describes_expression_and_models(run):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    run("predict", "model.dgex", "tested.tsv", "inferred.gctx", "--quiet")
    status, printed, said = run("info", "inferred.gctx", "model.dgex")
    assert (status, said) == (0, "")
    expression, model = printed.split("\n\n")
    assert re.match(r"inferred\.gctx: GCTX, 30 profiles x 23 genes, [\d.]+ [kM]B\n", expression)
    assert re.search(r"profiles +p90, p91, p92, p93, p94 and 25 more\n", expression)
    assert re.search(r"gene metadata +role\n", expression)
    assert re.search(r"values +-?[\d.]+ to [\d.]+, median [\d.]+\n", expression)
    assert re.search(r"missing values +0\.00%", expression)
    assert re.match(r"model\.dgex: model of dgex, [\d.]+ kB\n", model)
    assert re.search(r"landmarks +8\n +targets +15\n", model)
    assert "DGEXRegressor(hidden_layer_sizes=[6], max_iter=3, random_state=0)" in model
    assert re.search(r"written by +dgex \d", model)


def test_info_reads_the_beginning_of_large_files_only(run):
    write_expression(
        "counts.tsv", np.arange(400).reshape(200, 2), profile_ids=[f"p{n}" for n in range(200)], gene_ids="ab"
    )
    status, printed, _ = run("info", "counts.tsv", "--rows", "profiles")
    assert status == 0
    assert "values               0 to 199, median 99.5, whole numbers, of the first 100 profiles" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nothing.gctx"], r"No such file or directory: 'nothing\.gctx'"),
        (["info", "empty"], r"empty is empty"),
        (["predict", "landmarks.txt", "tested.tsv", "y.gctx"], r"landmarks\.txt"),
        (
            ["predict", "compendium.gctx", "tested.tsv", "y.gctx"],
            r"is no model .* got 0 inputs called like",
        ),
        (["predict", "tested.tsv", "compendium.gctx", "y.gctx"], r"tested\.tsv is no model that dgex has saved"),
        (
            ["train", "compendium.gctx", "m.dgex", "--landmarks", "two.txt"],
            r"list of genes has one name in each line",
        ),
        (["train", "compendium.gctx", "no/model.dgex", "--landmarks", "landmarks.txt"], r"There is no folder .*no to"),
        (["train", "compendium.gctx", "m.dgex", "--landmarks", "empty"], r"empty names no genes\. Write one in each"),
        (["train", "compendium.gctx", "m.dgex", "--landmarks", "twice.txt"], r"names 1 genes more than once"),
        (["train", "compendium.gctx", "m.dgex", "--landmarks", "other.txt"], r"2 of 2 landmarks are not in compendium"),
        (["train", "landmarks.gctx", "m.dgex", "--landmarks", "landmarks.txt"], r"none is left to infer"),
        (
            ["train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--method", "knn", "--epochs", "2"],
            r"--method knn with options of a network",
        ),
        (
            ["train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--set", "units=2"],
            r"Invalid parameter 'units' for estimator DGEXRegressor",
        ),
        (
            ["train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--dropout", "2"],
            r"'dropout' parameter of DGEXRegressor must be",
        ),
        (
            ["train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt", "--recipe", "best"],
            r"Got --recipe best, but expected 'modern' or a configuration of the paper",
        ),
        (["compare", "tested.tsv", "tested.tsv", "./tested.tsv"], r"two candidates called 'tested\.tsv'.*NAME=FILE"),
        (["compare", "tested.tsv", "landmarks.gctx", "--baseline", "x"], r"Got --baseline x"),
        (["compare", "landmarks.gctx", "compendium.gctx"], r"30 of 30 profile ids are not in the file"),
    ],
)
def test_errors_are_one_line_and_status_1(run, folder, arguments, message):
    (folder / "empty").write_text("")
    (folder / "twice.txt").write_text("a\na\nb\n")
    (folder / "two.txt").write_text("a\tx\nb\ty\n")
    (folder / "other.txt").write_text("TP53\nMYC\n")
    before = set(folder.iterdir())
    status, _, said = run(*arguments)
    assert status == 1
    assert re.search(message, said), said
    assert said.startswith(f"dgex {arguments[0]}: error: ")
    assert "Traceback" not in said
    assert set(folder.iterdir()) == before
    _, _, said = run("--traceback", *arguments)
    assert "Traceback" in said


@pytest.mark.parametrize(
    "arguments", [[], ["infer"], ["train", "x.gctx", "m.dgex"], ["predict", "m", "x", "y", "--set", "a"]]
)
def test_wrong_commands_are_status_2(run, arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2
    assert "usage: python -m dgex" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "train", "predict", "compare"])
def test_help_explains_every_command_and_argument(run, command, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(command, "--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    entries = re.findall(r"^  (-[\w-]+|[A-Z\[][\w\[\]=]*)(.*(?:\n {20,}.*)*)", text, re.M)
    assert entries
    assert all(re.search(r"[a-z]{3}", explanation) for _, explanation in entries), entries


def test_an_interrupt_is_status_130(run, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dgex._commands._predict.predict_to_file", interrupted)
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    assert run("predict", "model.dgex", "tested.tsv", "y.gctx") == (130, "", "dgex predict: interrupted\n")


def test_a_request_to_end_is_an_interrupt(run, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        "dgex._commands._predict.predict_to_file", lambda *_, **options: signal.raise_signal(signal.SIGTERM)
    )
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    assert run("predict", "model.dgex", "tested.tsv", "y.gctx") == (130, "", "dgex predict: interrupted\n")
    finished = []

    def work_that_is_not_interrupted():
        with deferred_keyboard_interrupt():
            signal.raise_signal(signal.SIGTERM)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt), ended_like_ctrl_c():
        work_that_is_not_interrupted()
    assert finished
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupt_that_python_ignores_comes_again(run, monkeypatch):
    class Dying:
        def __del__(self):
            raise KeyboardInterrupt

    def interrupted(*arguments, **options):
        Dying()
        for _ in range(1000):
            time.sleep(0.01)
        raise AssertionError("the interrupt was lost")

    monkeypatch.setattr("dgex._commands._predict.predict_to_file", interrupted)
    hook = sys.unraisablehook
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--method", "ridge")
    assert run("predict", "model.dgex", "tested.tsv", "y.gctx") == (130, "", "dgex predict: interrupted\n")
    assert sys.unraisablehook is hook


def test_messages_are_about_options(run, folder):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--quiet", *TINY)
    few = pd.read_csv("tested.tsv", sep="\t", index_col=0)
    few.drop(index=LANDMARKS[0], errors="ignore").drop(columns=LANDMARKS[0], errors="ignore").to_csv(
        "few.tsv", sep="\t"
    )
    status, _, error = run("predict", "model.dgex", "few.tsv", "y.gctx")
    assert status == 1
    assert "Pass --missing mean for" in error
    assert (
        as_options("Pass rows='genes', or metadata=['a'].", ["rows", "metadata"])
        == "Pass --rows genes, or --metadata a."
    )
    assert as_options("Pass missing='mean'.", ["rows"]) == "Pass missing='mean'."
    assert as_options("Got 20 target_names. Pass landmark_names=....", []) == "Got 20 --targets. Pass --landmarks."
    tables = ["predict", "model.dgex", "tested.tsv", "y.tsv"]
    assert run(*tables, "--resume")[2].startswith("dgex predict: error: Got --resume")
    assert "Call it y.tsv.gz" in run(*tables, "--compression", "9")[2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_training_shows_a_bar_on_a_terminal(run, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = iter(np.arange(0, 1000, 40.0))
    monkeypatch.setattr("dgex._progress.time.monotonic", lambda: next(clock))
    main(["train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", *TINY])
    said = terminal.getvalue()
    assert "[==========                    ] 1 of 3 epochs (33%)" in said
    assert said.endswith("\n")
    assert said.count("\n") == 1


def test_it_runs_as_a_program(folder):
    def program(*arguments, **options):
        command = [sys.executable, "-m", "dgex", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **options)

    assert re.fullmatch(r"dgex \d+\.\d+\.\d+\n", program("--version").stdout)
    told = program("info", "compendium.gctx")
    assert (told.returncode, told.stderr) == (0, "")
    assert program("info", "landmarks.txt").returncode == 1
    # Help and information do not wait for JAX.
    code = (
        "import sys; from dgex.__main__ import main; main(['info', 'compendium.gctx']); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(not os.path.islink("/dev/stdout"), reason="names of open files")  # noqa: PTH114
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_the_streams_of_a_process_are_no_destinations(folder, name):
    (folder / "link").symlink_to("/dev/stdout")
    log = folder / "log"
    log.write_text("earlier\n")
    command = "from dgex._files import require_destination; from pathlib import Path; import sys;"
    command += "require_destination(Path(sys.argv[1]))"
    with log.open("a") as file:
        for output in (file, subprocess.PIPE):
            done = subprocess.run(
                [sys.executable, "-c", command, name], stdout=output, stderr=subprocess.PIPE, text=True, check=False
            )
            assert "is a pipe or a device" in done.stderr
    assert log.read_text() == "earlier\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_pipes_are_no_models(run, folder):
    os.mkfifo("pipe")
    status, _, said = run("predict", "pipe", "tested.tsv", "y.gctx")
    assert status == 1
    assert "pipe is a pipe or a device" in said


@pytest.mark.parametrize("place", [".", "/", ".."])
def test_folders_are_no_destinations(run, place):
    status, _, said = run("train", "compendium.gctx", place, "--landmarks", "landmarks.txt", "--method", "ridge")
    assert status == 1
    assert f"{place} is a folder, but expected the name of a file" in said


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
def test_a_reader_that_leaves_is_no_error(folder):
    many = " ".join(["compendium.gctx"] * 200)
    command = f"{sys.executable} -m dgex info {many} | head -n 1"
    told = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, check=True)
    assert told.stdout.startswith("compendium.gctx: GCTX")
    assert told.stderr == ""


def test_output_that_nobody_reads(folder):
    command = f"{sys.executable} -m dgex info tested.tsv >&-"
    closed = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_training_without_a_reader_says_that_there_is_no_model(folder):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dgex", "train", "compendium.gctx", "m.dgex", "--landmarks", "landmarks.txt"]
    ended = subprocess.run(command, cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stderr == "dgex train: error: the reader of the output has left; the model is not finished\n"
    assert not (folder / "m.dgex").exists()


def test_two_tables_need_two_files(run):
    run("train", "compendium.gctx", "knn.dgex", "--landmarks", "landmarks.txt", "--method", "knn")
    status, _, errors = run("compare", "tested.tsv", "knn.dgex", "--output", "t.tsv", "--by-gene", "t.tsv")
    assert (status, errors) == (1, "dgex compare: error: Got t.tsv for both tables, but expected two files.\n")


@pytest.fixture
def plain(folder, values):
    """Profiles and genes whose names do not tell what they are, genes in rows, with a column of metadata."""
    genes = [f"x{number}" for number in range(23)]
    for name, rows in (("train.csv", slice(0, 90)), ("test.csv", slice(90, 120))):
        profiles = [f"y{number}" for number in range(120)[rows]]
        table = pd.DataFrame(values[rows].T, index=pd.Index(genes, name="called"), columns=profiles)
        table.insert(5, "length", np.arange(23.0))
        table.to_csv(name)
    (folder / "landmarks.txt").write_text("\n".join(genes[:8]))
    return ["--rows", "genes", "--metadata", "length"]


@pytest.mark.parametrize("ending", ["tsv", "parquet", "gctx"])
def test_options_of_a_table_are_not_about_what_dgex_has_written(run, plain, ending):
    ridge = ["--method", "ridge", *plain, "--quiet"]
    assert run("train", "train.csv", "model.dgex", "--landmarks", "landmarks.txt", *ridge) == (0, "", "")
    assert run("predict", "model.dgex", "test.csv", f"inferred.{ending}", *plain, "--quiet") == (0, "", "")
    status, printed, said = run("compare", "test.csv", "model.dgex", f"inferred.{ending}", *plain)
    assert status == 0, said
    assert "30 profiles, 15 genes" in printed
    rows = [line.split()[1:] for line in printed.splitlines() if line.startswith(("model.", "inferred."))]
    assert rows[0][0] == rows[1][0]
    with open_expression("test.csv", rows="genes", metadata=["length"]) as test:
        panel = test.read(genes=test.gene_ids[:8])
        write_expression(f"panel.{ending}", panel, profile_ids=test.profile_ids, gene_ids=test.gene_ids[:8])
        write_expression(f"other.{ending}", test.read(), profile_ids=test.profile_ids, gene_ids=test.gene_ids)
    more = ["--landmarks", f"panel.{ending}", "--validation", f"other.{ending}"]
    assert run("train", "train.csv", "again.dgex", *more, *ridge) == (0, "", "")
    assert load_model("again.dgex")[0].feature_names_in_.tolist() == [f"x{number}" for number in range(8)]


def test_metadata_of_other_files_are_not_taken_for_expression(run, plain):
    table = pd.read_csv("test.csv", index_col=0)
    table.insert(3, "start", np.arange(23.0) * 1000)
    table.to_csv("both.csv")
    told = ["--landmarks", "landmarks.txt", "--method", "knn", *plain, "--metadata", "start"]
    status, _, said = run("train", "both.csv", "model.dgex", *told, "--validation", "train.csv")
    assert status == 1
    assert "Got metadata=start, but expected columns of train.csv" in said


def test_what_was_inferred_is_not_measured(run):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--method", "ridge")
    run("predict", "model.dgex", "tested.tsv", "inferred.gctx", "--quiet")
    status, _, said = run("compare", "inferred.gctx", "model.dgex")
    assert status == 0
    assert "15 of 15 genes in inferred.gctx are no measurements" in said
    status, _, said = run("train", "inferred.gctx", "bad.dgex", "--landmarks", "landmarks.txt", "--method", "ridge")
    assert status == 0
    assert "15 of 23 genes in inferred.gctx are no measurements" in said


def test_comparisons_know_what_to_do_about_missing_landmarks(run, values):
    run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", *TINY)
    ids = [f"p{number}" for number in range(90, 120)]
    write_expression("fewer.tsv", values[90:, 1:], profile_ids=ids, gene_ids=(LANDMARKS + TARGETS)[1:])
    status, _, said = run("compare", "fewer.tsv", "model.dgex")
    assert status == 1
    assert "Pass --missing mean" in said
    status, printed, said = run("compare", "fewer.tsv", "model.dgex", "--missing", "mean")
    assert status == 0
    assert "30 profiles, 15 genes" in printed
    assert "1 of 8 landmarks are not in fewer.tsv" in said


def test_few_profiles_are_enough_or_the_message_says_how_many(run, values):
    write_expression("one.tsv", values[:1], profile_ids=["p0"], gene_ids=LANDMARKS + TARGETS)
    write_expression("two.tsv", values[:2], profile_ids=["p0", "p1"], gene_ids=LANDMARKS + TARGETS)
    knn = ["--landmarks", "landmarks.txt", "--method", "knn"]
    assert run("train", "compendium.gctx", "model.dgex", *knn, "--validation", "one.tsv")[0] == 0
    status, _, said = run("train", "two.tsv", "model.dgex", *knn)
    assert status == 1
    assert "Got 2 profiles, of which 1 would be held out" in said
    assert "pass --validation" in said


def test_seeds_are_not_negative(run, capsys):
    with pytest.raises(SystemExit):
        run("train", "compendium.gctx", "model.dgex", "--landmarks", "landmarks.txt", "--seed", "-1")
    assert "argument --seed: got '-1', but expected a whole number" in capsys.readouterr().err
