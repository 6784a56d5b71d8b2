"""What the README and the guides say is run, and their numbers are those of the results."""

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest
from benchmarks.accuracy._tables import tables as accuracy_tables
from benchmarks.gpu import tables as gpu_tables
from benchmarks.paper import tables as paper_tables
from benchmarks.performance._tables import PARTS as PERFORMANCE_PARTS
from benchmarks.performance._tables import tables as performance_tables

from dgex import DGEXRegressor

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page)], ids=lambda page: page.name)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in code_blocks(page):
        exec(compile(block, page.name, "exec"), namespace)


def test_pages_with_code_are_found():
    assert {page.name for page in PAGES if code_blocks(page)} >= {"README.md", "user-guide.md"}


def test_quickstart_example_runs(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "01_quickstart.py"))
    example["main"](n_profiles=300, n_targets=40, max_iter=3)
    printed = capsys.readouterr().out
    assert printed.count("DGEXRegressor") == 2
    assert "RNA-seq of the same samples" in printed


def test_a_sweep_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    example = runpy.run_path(str(ROOT / "examples" / "05_sweep.py"))
    fits = []
    fit = DGEXRegressor.fit
    monkeypatch.setattr(DGEXRegressor, "fit", lambda model, X, y: fits.append(model.max_iter) or fit(model, X, y))
    monkeypatch.setitem(
        example["search"].__globals__,
        "CANDIDATES",
        {
            "estimator__hidden_layer_sizes": [(5,), (6, 6)],
            "estimator__dropout": [0.1, 0.2],
            "estimator__loss": ["squared_error", "absolute_error"],
        },
    )
    example["main"](tmp_path, n_profiles=100, epochs=4)
    printed = capsys.readouterr().out
    assert "8 candidates, 4 epochs each" in printed
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert fits.count(4) == 8
    trained = len(fits)
    example["main"](tmp_path, n_profiles=100, epochs=4)
    assert len(fits) == trained
    assert capsys.readouterr().out == printed


def test_a_look_inside_runs(data_folder, tmp_path, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "04_looking_inside.py"))
    example["main"](tmp_path / "figures", max_iter=3)
    printed = capsys.readouterr().out
    assert "66 test arrays, 9075 targets" in printed
    assert "Landmarks that IFIT1 depends on most" in printed
    assert len(list((tmp_path / "figures").glob("*.pdf"))) == len(list((tmp_path / "figures").glob("*.png"))) == 10


def test_real_data_example_runs(data_folder, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "02_arrays_to_rnaseq.py"))
    example["main"](max_iter=1)
    printed = capsys.readouterr().out
    assert "Trained on 306 arrays, 922 landmark and 8727 target genes." in printed
    assert printed.count("D-GEX-25%-3000x1") == 2


PAGES_OF_SEVERAL_TABLES = {
    "accuracy": accuracy_tables,
    "gpu": gpu_tables,
    "paper": paper_tables,
    "performance": performance_tables,
}

TABLES = [
    (page, name, table)
    for page in PAGES
    for name, table in re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end of table -->", page.read_text(), re.S)
]


@pytest.mark.parametrize(("page", "name", "table"), TABLES, ids=[f"{page.name}-{name}" for page, name, _ in TABLES])
def test_tables_are_those_of_the_results(page, name, table):
    folder, of_page = ROOT / "benchmarks", PAGES_OF_SEVERAL_TABLES.get(name.split("_")[0])
    if of_page:
        results = json.loads((folder / "results" / f"{name.split('_')[0]}.json").read_text())
        rows = [results[key] for key in ("rows", "averages") if key in results]
        assert table == of_page(*rows)[name]
        return
    rows = json.loads((folder / "results" / f"{name}.json").read_text())["rows"]
    assert table == runpy.run_path(str(folder / f"{name}.py"))["summary"](rows)


def test_tables_are_found():
    of_datasets = ("arrays_random", "arrays_new_studies", "arrays_to_rna_seq", "e_coli_random", "e_coli_new_batches")
    of_accuracy = ("improvements", "aims", "averages", "ablation", "mean", "gentle", "synthetic_20k", *of_datasets)
    expected = {f"accuracy_{name}" for name in of_accuracy}
    expected |= {"paper_table_1", "paper_table_2", "paper_partitions", *PERFORMANCE_PARTS}
    expected |= {"gpu_steps", "gpu_peers", "gpu_kernels"}
    assert {name for _, name, _ in TABLES} == expected | {"arrays_to_rnaseq", "interpretation", "precision", "scale"}


@pytest.mark.parametrize("name", ["arrays_to_rnaseq", "interpretation", "precision"])
def test_errors_are_those_of_several_seeds(name):
    rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]
    assert len({row["seed"] for row in rows}) >= 5


def test_bfloat16_costs_less_than_half_a_percent_of_accuracy():
    rows = json.loads((ROOT / "benchmarks" / "results" / "precision.json").read_text())["rows"]
    assert max(row["error ratio"] for row in rows) < 1.005


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_say_where_they_come_from(path):
    results = json.loads(path.read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", results["commit"]), "measure what is committed"
    assert {"command", "machine", "versions", "rows"} <= set(results)
    assert results["rows"]


def test_learning_rates_hold_everywhere_they_were_measured():
    rows = json.loads((ROOT / "benchmarks" / "results" / "learning_rates.json").read_text())["rows"]
    assert {row["verdict"] for row in rows} == {"holds"}
    assert {row["targets"] for row in rows} == {1, 1000, 21290}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_are_right(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_no_path_of_a_machine_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        text = (ROOT / name).read_bytes().decode(errors="replace")  # figures are among them
        assert not re.search(r"/(?:home|root|work|Users)/\w", text), name


def test_the_lock_pins_everything_and_names_no_registry():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.match(r"^[\w.-]+==[^ ]+( ; .*)?$", line) for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert {"jax", "flax", "optax", "numpy", "scipy", "scikit-learn", "hatchling", "pytest", "mypy", "ruff"} <= names
