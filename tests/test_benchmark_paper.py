"""The paper's tables and figures, repeated in small from files."""

import argparse
import json

import numpy as np
import pytest
from benchmarks import paper

from dgex.datasets import make_expression_profiles
from dgex.io import open_expression, write_expression


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A small compendium in files, the RNA-seq with its genes in another order and two more."""
    monkeypatch.setattr(paper, "LAYERS", (1,))
    data = make_expression_profiles(160, n_landmarks=12, n_targets=20, random_state=0)
    names, expression = [*data.landmark_names, *data.target_names], np.hstack([data.X, data.y])
    write_expression(
        tmp_path / "arrays.gctx", expression[:100], profile_ids=[f"a{n}" for n in range(100)], gene_ids=names
    )
    rnaseq = np.hstack([np.zeros((60, 2)), expression[100:, ::-1]])
    write_expression(
        tmp_path / "rnaseq.tsv", rnaseq, profile_ids=[f"r{n}" for n in range(60)], gene_ids=["x", "y", *names[::-1]]
    )
    (tmp_path / "landmarks.txt").write_text("\n".join(data.landmark_names))
    return argparse.Namespace(
        arrays=tmp_path / "arrays.gctx",
        rnaseq=tmp_path / "rnaseq.tsv",
        validation=None,
        landmarks=tmp_path / "landmarks.txt",
        units=[8],
        epochs=3,
        seeds=2,
        page=None,
        folder=tmp_path / "paper",
        no_results=True,
    )


def test_tables_and_figures_are_made_once(arguments, capsys, monkeypatch):
    paper.main(arguments)
    printed = capsys.readouterr().out
    assert printed.count("...") == 1 + 2 * (1 + 3 + 2)  # settings; baselines, dropout rates, partitions
    figures = sorted(path.name for path in arguments.folder.glob("*.png"))
    assert len(figures) == 2 * 13
    assert "arrays_clustered_halves.png" in figures
    tables = (arguments.folder / "tables.md").read_text()
    assert [tables.count(text) for text in ("| KNN-GE |", "| LR-L1 |")] == [2, 2]
    errors = [json.loads((arguments.folder / f"seed {n}" / "D-GEX-10%-8x1.json").read_text())[0] for n in range(2)]
    assert [len(platform) for seed in errors for platform in seed] == [20, 20, 20, 20]
    assert f"| 1 | 10% | {np.mean([seed[0] for seed in errors]):.4f} ±" in tables
    assert "| arrays | random halves |" in tables
    monkeypatch.setattr(paper, "trained", None)  # nothing is trained again
    paper.main(arguments)
    assert (arguments.folder / "tables.md").read_text() == tables


def test_platforms_are_scaled_by_themselves_and_share_no_profiles(arguments):
    files = arguments.arrays, arguments.rnaseq, arguments.validation, arguments.landmarks
    data = paper.of_files(*files, seed=0)
    assert (data.train.X.shape, data.train.y.shape) == ((80, 12), (80, 20))
    arrays, rnaseq = data.platforms
    assert [len(part.X) for part in (arrays.validation, arrays.test, rnaseq.validation, rnaseq.test)] == [10, 10, 6, 54]
    for part in (data.train, rnaseq.test):
        np.testing.assert_allclose(part.y.mean(axis=0), 0, atol=1e-5)
    everything = np.vstack([data.train.X, arrays.validation.X, arrays.test.X])
    assert len(np.unique(everything, axis=0)) == 100


def test_the_best_network_is_chosen_on_validation_profiles():
    def network(validation, test):
        return paper.Trained([np.array([test])], [[1]], [{"validation_mae_0": validation}])

    one, other = paper.Cell(1, 8, 0.0), paper.Cell(1, 8, 0.1)
    assert paper.best_of({one: network(0.5, 0.9), other: network(0.6, 0.1)}, 0) == one


def test_partitions_are_compared_with_the_joint_network_of_the_same_seed():
    def rows(seed, error, joint):
        model = {"seed": seed, "platform": "arrays", "layers": 1, "units": 8, "dropout": 0.0, "sd": 0.1}
        yield model | {"model": "D-GEX-0%-8x1", "partition": "joint", "MAE": joint}
        yield model | {"model": "D-GEX-0%-8x1, random halves", "partition": "random halves", "MAE": error}

    table = list(paper.partitions_table([*rows(0, 0.55, 0.5), *rows(1, 0.45, 0.5)]))
    assert table[2:] == ["| arrays | random halves | 0.5000 | +10.0%, -10.0% |"]


def test_results_of_other_settings_are_not_taken(arguments):
    arguments.folder.mkdir()
    paper.require_same_settings(arguments)
    paper.require_same_settings(arguments)
    arguments.epochs += 1
    with pytest.raises(SystemExit, match="has results of other settings"):
        paper.require_same_settings(arguments)
    arguments.epochs -= 1
    arguments.landmarks.write_text(arguments.landmarks.read_text() + "\n")
    with pytest.raises(SystemExit, match="has results of other settings"):
        paper.require_same_settings(arguments)


def test_landmarks_are_all_found_and_near_duplicates_are_left_out(arguments, tmp_path, capsys):
    files = arguments.arrays, arguments.rnaseq, arguments.validation
    with open_expression(arguments.arrays) as file:
        expression, names = file.read(), file.gene_ids
    repeated, listed = tmp_path / "repeated.gctx", tmp_path / "listed.txt"
    ids = [f"a{n}" for n in range(200)]
    write_expression(repeated, np.vstack([expression, expression]), profile_ids=ids, gene_ids=names)
    listed.write_text(arguments.landmarks.read_text() + "\n", encoding="utf-8-sig")
    data = paper.of_files(repeated, *files[1:], listed, seed=0)
    assert "100 of 200 arrays nearly repeat others" in capsys.readouterr().out
    assert data.train.X.shape == (80, 12)
    listed.write_text("nobody\n" + arguments.landmarks.read_text())
    with pytest.raises(SystemExit, match="1 of 13 landmarks are not among the 32 genes of all files: nobody"):
        paper.of_files(*files, listed, seed=0)
