"""From a file of landmarks to a file of landmarks and targets."""

import io
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dgex import DGEXRegressor, KNNGeneRegressor, _plan, _progress
from dgex._progress import duration
from dgex.inference import predict_to_file
from dgex.interpretation import target_reliability
from dgex.io import _hdf5_writer, open_expression, write_expression

LANDMARKS = [f"ENSG{number:011d}" for number in range(12)]
TARGETS = [f"ENSG{number:011d}" for number in range(100, 130)]


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (300, 12)).astype(np.float32)
    y = (np.tanh(X - 8) @ rng.normal(size=(12, 30)) + 6).astype(np.float32)
    return pd.DataFrame(X, columns=LANDMARKS), pd.DataFrame(y, columns=TARGETS)


@pytest.fixture(scope="module")
def models(frames):
    X, y = frames
    network = DGEXRegressor(hidden_layer_sizes=(20,), max_iter=5, random_state=0).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), KNNGeneRegressor()).fit(X, y)
    return {"network": network, "pipeline": pipeline, "knn": KNNGeneRegressor().fit(X, y)}


@pytest.fixture
def source(frames, tmp_path):
    """The landmarks in another order, with versions, among other genes."""
    X, _ = frames
    order = np.random.default_rng(1).permutation(12)
    genes = [*(f"{LANDMARKS[landmark]}.{landmark}" for landmark in order), "ENSG00000009999", "GAPDH"]
    values = np.column_stack([X.to_numpy()[:, order], np.ones((300, 2))])
    metadata = {"symbol": np.array([f"gene {number}" for number in range(14)]), "gc": np.arange(14) / 14}
    path = tmp_path / "measured.gctx"
    write_expression(
        path,
        values,
        profile_ids=[f"p{number}" for number in range(300)],
        gene_ids=genes,
        profile_metadata={"plate": np.arange(300) // 96},
        gene_metadata=metadata,
    )
    return path


@pytest.fixture
def small_chunks(monkeypatch):
    """37 profiles at a time."""
    monkeypatch.setattr(_plan, "CHUNK_BYTES", 4 * 42 * 37)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", ["network", "pipeline", "knn"])
@pytest.mark.parametrize("ending", [".gctx", ".h5ad", ".parquet", ".tsv.gz"])
def test_landmarks_are_written_as_measured_and_targets_as_predicted(models, frames, source, name, ending, tmp_path):
    X, _ = frames
    path = predict_to_file(models[name], source, tmp_path / f"inferred{ending}", verbose=False)
    with open_expression(path) as file:
        assert file.profile_ids.tolist() == [f"p{number}" for number in range(300)]
        assert file.gene_ids.tolist() == LANDMARKS + TARGETS
        np.testing.assert_array_equal(file.read(genes=LANDMARKS), X)
        np.testing.assert_array_equal(file.read(genes=TARGETS), models[name].predict(X).astype(np.float32))
        if ending != ".tsv.gz":
            assert file.gene_metadata["role"].tolist() == ["landmark"] * 12 + ["target"] * 30
            symbols = file.gene_metadata["symbol"].tolist()
            assert symbols[12:] == [None] * 30
            assert sorted(symbols[:12]) == sorted(f"gene {number}" for number in range(12))
            assert np.isnan(file.gene_metadata["gc"]).tolist() == [False] * 12 + [True] * 30
            np.testing.assert_array_equal(file.profile_metadata["plate"], np.arange(300) // 96)


def test_an_open_file_is_read_as_it_was_opened(models, frames, tmp_path):
    X, _ = frames
    (tmp_path / "x.csv").write_text(X.iloc[:5].T.to_csv())
    with open_expression(tmp_path / "x.csv", rows="genes") as file:
        path = predict_to_file(models["network"], file, tmp_path / "y.gctx", verbose=False)
        assert file.read().shape == (5, 12)
    assert open_expression(path).shape == (5, 42)


def test_models_without_names_are_told_them(frames, source, tmp_path):
    X, y = (frame.to_numpy() for frame in frames)
    model = Ridge().fit(X, y)
    path = tmp_path / "y.gctx"
    with pytest.raises(ValueError, match=r"fitted without names of genes\. Pass landmark_names="):
        predict_to_file(model, source, path)
    with pytest.raises(ValueError, match="Got 3 landmark_names, but expected 12"):
        predict_to_file(model, source, path, landmark_names=LANDMARKS[:3], target_names=TARGETS)
    predict_to_file(model, source, path, landmark_names=LANDMARKS, target_names=TARGETS, verbose=False)
    np.testing.assert_allclose(open_expression(path).read(genes=TARGETS), model.predict(X), rtol=1e-5)
    assert not list(tmp_path.glob(".*"))


def test_missing_landmarks_are_an_error_or_the_means_of_training(models, frames, tmp_path):
    X, _ = frames
    path = tmp_path / "some.tsv"
    values = X.to_numpy()[:4, 3:].copy()
    values[2, 1] = np.nan
    write_expression(path, values, profile_ids=list("abcd"), gene_ids=LANDMARKS[3:])
    with pytest.raises(ValueError, match=r"3 of 12 landmarks are not in .*: ENSG00000000000, ENSG00000000001, ENSG"):
        predict_to_file(models["network"], path, tmp_path / "y.gctx")
    with pytest.raises(ValueError, match=r"KNNGeneRegressor does not know the means .* missing='nan'"):
        predict_to_file(models["knn"], path, tmp_path / "y.gctx", missing="mean")
    with pytest.raises(ValueError, match="Got missing='zero'"):
        predict_to_file(models["network"], path, tmp_path / "y.gctx", missing="zero")
    model = models["network"]
    filled = X.to_numpy()[:4].copy()
    filled[:, :3], filled[2, 4] = model.landmark_mean_[:3], model.landmark_mean_[4]
    with (
        pytest.warns(
            UserWarning, match=r"3 of 12 landmarks are not in .* marked as 'imputed' .*: ENSG00000000000, ENSG"
        ),
        pytest.warns(UserWarning, match=r"missing in some profiles of .*some.tsv: the means of training are written"),
    ):
        predict_to_file(model, path, tmp_path / "y.gctx", missing="mean", verbose=False)
    with open_expression(tmp_path / "y.gctx") as file:
        assert file.gene_metadata["role"].tolist() == ["imputed"] * 3 + ["landmark"] * 9 + ["target"] * 30
        np.testing.assert_allclose(file.read(genes=LANDMARKS), filled, rtol=1e-6)
        expected = model.predict(pd.DataFrame(filled, columns=LANDMARKS))
        np.testing.assert_allclose(file.read(genes=TARGETS), expected, rtol=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_missing_values_in_many_chunks_are_one_warning(models, frames, tmp_path):
    X, _ = frames
    values = X.to_numpy().copy()
    values[:, 2] = np.nan
    write_expression(tmp_path / "x.gctx", values, profile_ids=[f"p{n}" for n in range(300)], gene_ids=LANDMARKS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        predict_to_file(models["network"], tmp_path / "x.gctx", tmp_path / "y.gctx", missing="mean", verbose=False)
    assert ["missing in some profiles" in str(warning.message) for warning in said] == [True]


def test_what_was_imputed_or_inferred_before_is_not_called_measured(frames, models, tmp_path):
    X, y = frames
    fewer = LANDMARKS[1:]
    write_expression(tmp_path / "x.gctx", X.iloc[:4, 1:], profile_ids=list("abcd"), gene_ids=fewer)
    with pytest.warns(UserWarning, match="marked as 'imputed'"):
        first = predict_to_file(
            models["network"], tmp_path / "x.gctx", tmp_path / "first.gctx", missing="mean", verbose=False
        )
    both = pd.concat([X, y[TARGETS[:1]]], axis=1)
    model = KNNGeneRegressor().fit(both, y[TARGETS[1:]])
    with pytest.warns(UserWarning, match=rf"2 of 13 landmarks in .* inferred or imputed before.*{LANDMARKS[0]}"):
        second = predict_to_file(model, first, tmp_path / "second.gctx", verbose=False)
    with open_expression(second) as file:
        roles = dict(zip(file.gene_ids, file.gene_metadata["role"], strict=True))
    genes = LANDMARKS[0], LANDMARKS[1], TARGETS[0], TARGETS[1]
    assert [roles[gene] for gene in genes] == ["imputed", "landmark", "imputed", "target"]


@pytest.mark.parametrize("named", [True, False])
def test_steps_that_are_left_out_are_passed_over(frames, source, named, tmp_path):
    X, y = frames if named else (frame.to_numpy() for frame in frames)
    model = make_pipeline("passthrough", StandardScaler(), KNNGeneRegressor()).fit(X, y)
    names = {} if named else {"landmark_names": LANDMARKS, "target_names": TARGETS}
    predict_to_file(model, source, tmp_path / "y.gctx", missing="mean", verbose=False, **names)
    with open_expression(tmp_path / "y.gctx") as file:
        np.testing.assert_allclose(file.read(genes=TARGETS), model.predict(X), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Values of landmarks are missing in some profiles")
def test_pipelines_that_standardize_know_the_means_and_those_that_impute_get_nan(frames, tmp_path):
    X, y = frames
    values = X.to_numpy()[:4].copy()
    values[2, 1] = np.nan
    write_expression(tmp_path / "x.gctx", values, profile_ids=list("abcd"), gene_ids=LANDMARKS)
    filled = X[:4].copy()
    filled.iloc[2, 1] = X.iloc[:, 1].mean()
    for first, missing in ((StandardScaler(), "mean"), (SimpleImputer().set_output(transform="pandas"), "nan")):
        model = make_pipeline(first, KNNGeneRegressor()).fit(X, y)
        path = predict_to_file(
            model, tmp_path / "x.gctx", tmp_path / "y.gctx", missing=missing, resume=True, verbose=False
        )
        predict_to_file(model, tmp_path / "x.gctx", path, missing=missing, resume=True, verbose=False)  # finished
        with open_expression(path) as file:
            np.testing.assert_allclose(file.read(genes=TARGETS), model.predict(filled), rtol=1e-5)
            assert np.isnan(file.read("c", LANDMARKS[1])) == (missing == "nan")
        path.unlink()


def test_the_best_model_of_a_search_is_used(frames, source, tmp_path):
    X, y = frames
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 3]}, cv=2).fit(X, y)
    path = predict_to_file(search, source, tmp_path / "y.gctx", verbose=False)
    np.testing.assert_array_equal(open_expression(path).read(genes=TARGETS), search.predict(X))


@pytest.mark.parametrize("n_names", [20, 35])
def test_every_target_needs_a_name(frames, source, n_names, tmp_path):
    X, y = (frame.to_numpy() for frame in frames)
    names = [f"T{number}" for number in range(n_names)]
    with pytest.raises(ValueError, match=f"Got {n_names} target_names, but the model predicts 30 targets"):
        predict_to_file(
            Ridge().fit(X, y), source, tmp_path / "y.gctx", landmark_names=LANDMARKS, target_names=names, verbose=False
        )
    assert [path.name for path in tmp_path.iterdir()] == ["measured.gctx"]


def test_names_of_metadata_that_files_cannot_store_are_changed(models, frames, tmp_path):
    from anndata import AnnData

    X, _ = frames
    obs = pd.DataFrame({"id": [1, 2], "Age (y/m)": [30, 40], "profile_id": ["a", "b"]}, index=["p", "q"])
    adata = AnnData(X.to_numpy()[:2], obs=obs, var=pd.DataFrame(index=LANDMARKS))
    for ending in (".gctx", ".parquet", ".h5ad", ".tsv"):
        with pytest.warns(
            UserWarning, match=r"id is called id_, Age \(y/m\) is called Age \(y_m\), profile_id is called"
        ):
            path = predict_to_file(models["network"], adata, tmp_path / f"y{ending}", verbose=False)
        if ending != ".tsv":
            with open_expression(path) as file:
                assert file.profile_metadata["Age (y_m)"].tolist() == [30, 40]
                assert file.profile_metadata["id_"].tolist() == [1, 2]


@pytest.mark.usefixtures("small_chunks")
def test_a_source_that_has_changed_is_not_gone_on_with(models, frames, tmp_path):
    X, _ = frames
    values, path = X.to_numpy().copy(), tmp_path / "x.gctx"
    ids = [f"p{number}" for number in range(300)]
    write_expression(path, values, profile_ids=ids, gene_ids=LANDMARKS)
    calls = []

    class Stopping(KNNGeneRegressor):
        def predict(self, X):
            calls.append(len(X))
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().predict(X)

    model = Stopping().fit(*frames)
    with pytest.raises(KeyboardInterrupt):
        predict_to_file(model, path, tmp_path / "y.gctx", resume=True, verbose=False)
    values[0, 3] += 1  # far from the last chunk that was written
    write_expression(path, values, profile_ids=ids, gene_ids=LANDMARKS)
    with pytest.raises(ValueError, match=r"cannot be resumed: its \d+ profiles are not those"):
        predict_to_file(model, path, tmp_path / "y.gctx", resume=True, verbose=False)


@pytest.mark.usefixtures("small_chunks")
def test_what_is_finished_is_not_inferred_again(frames, source, tmp_path, monkeypatch):
    X, y = frames
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(X, y)  # whose bits depend on the size of a chunk
    given = {"target_names": TARGETS, "resume": True, "verbose": False}
    path = predict_to_file(ridge, source, tmp_path / "y.gctx", **given)
    inferred, original = [], _plan.InferencePlan.infer
    monkeypatch.setattr(_plan.InferencePlan, "infer", lambda plan, *a: inferred.append(len(a[0])) or original(plan, *a))
    predict_to_file(ridge, source, path, **given)
    assert len(inferred) == 1
    path.write_text("something else")
    predict_to_file(ridge, source, path, **given)
    assert open_expression(path).shape == (300, 42)


def test_names_of_training_in_another_order_are_refused(models, source, tmp_path):
    with pytest.raises(ValueError, match="Got landmark_names in another order than that of training"):
        predict_to_file(models["network"], source, tmp_path / "y.gctx", landmark_names=LANDMARKS[::-1])


def test_a_missing_value_is_named(models, frames, tmp_path):
    X, _ = frames
    values = X.to_numpy()[:40].copy()
    values[33, 5] = np.nan
    write_expression(tmp_path / "x.gctx", values, profile_ids=[f"p{n}" for n in range(40)], gene_ids=LANDMARKS)
    (tmp_path / "y.gctx").write_text("old")
    with pytest.raises(
        ValueError, match=r"1 values of landmarks are missing .* in profile 'p33', gene 'ENSG00000000005'"
    ):
        predict_to_file(models["network"], tmp_path / "x.gctx", tmp_path / "y.gctx", verbose=False)
    assert (tmp_path / "y.gctx").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"x.gctx", "y.gctx"}


def test_a_file_without_any_landmark_is_refused(models, tmp_path):
    write_expression(tmp_path / "x.tsv", [[1.0]], profile_ids=["sample"], gene_ids=["ENSG00000099999"])
    with pytest.raises(ValueError, match="None of the 12 landmarks"):
        predict_to_file(models["network"], tmp_path / "x.tsv", tmp_path / "y.tsv", missing="mean")


def test_source_and_destination_are_two_files(models, source):
    with pytest.raises(ValueError, match="expected two files"):
        predict_to_file(models["network"], source, source)


@pytest.mark.filterwarnings("ignore:1 of 30 targets are also landmarks")
def test_targets_that_are_landmarks_are_written_as_measured(frames, source, tmp_path):
    X, y = frames
    y = y.rename(columns={TARGETS[4]: LANDMARKS[2]})
    model = KNNGeneRegressor().fit(X, y)
    with pytest.warns(UserWarning, match="1 of 30 targets are landmarks, too: written as measured"):
        predict_to_file(model, source, tmp_path / "y.gctx", verbose=False)
    with open_expression(tmp_path / "y.gctx") as file:
        assert file.shape == (300, 41)
        np.testing.assert_array_equal(file.read(genes=LANDMARKS), X)
        np.testing.assert_array_equal(file.read(genes=TARGETS[5:]), model.predict(X)[:, 5:].astype(np.float32))


class Stopping(BaseEstimator):
    """A model that raises at a given call of predict, as an interrupt would."""

    def __init__(self, model, call, error):
        self.model, self.call, self.error = model, call, error
        self.feature_names_in_, self.n_features_in_ = model.feature_names_in_, model.n_features_in_
        self.target_names_ = model.target_names_

    def predict(self, X):
        self.call -= 1
        if self.call < 0:
            raise self.error
        return self.model.predict(X)

    def fit(self, X, y):
        """Scikit-learn asks whether there is such a method."""

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("ending", [".gctx", ".h5ad"])
@pytest.mark.parametrize("call", [0, 1, 4, 8])
@pytest.mark.parametrize("chunk", [(256, 1024), (32, 32)])
def test_what_was_interrupted_is_resumed_to_the_last_byte(models, source, ending, call, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(_hdf5_writer, "CHUNK", chunk)
    monkeypatch.setattr(_hdf5_writer, "LARGE", 8 * chunk[0])  # of the second, 300 profiles are written directly
    model = models["network"]
    for folder in ("whole", "resumed"):
        (tmp_path / folder).mkdir()
    whole = predict_to_file(model, source, tmp_path / "whole" / f"y{ending}", resume=True, verbose=False)
    path = tmp_path / "resumed" / f"y{ending}"
    with pytest.raises(KeyboardInterrupt):
        predict_to_file(Stopping(model, call, KeyboardInterrupt()), source, path, resume=True, verbose=False)
    assert not path.exists()
    counted = Stopping(model, 100, None)
    predict_to_file(counted, source, path, resume=True, verbose=False)
    # 300 profiles are nine chunks; the last one that was written is computed once more to compare it.
    assert 100 - counted.call <= 9 - call + 2
    assert path.read_bytes() == whole.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    # Nothing is left to do, and nothing is done but a look at the end.
    counted = Stopping(model, 1, AssertionError())
    predict_to_file(counted, source, path, resume=True, verbose=False)


@pytest.mark.usefixtures("small_chunks")
def test_only_what_was_begun_is_resumed(models, frames, source, tmp_path):
    path = tmp_path / "y.gctx"
    with pytest.raises(RuntimeError, match="trouble"):
        predict_to_file(
            Stopping(models["network"], 3, RuntimeError("trouble")), source, path, resume=True, verbose=False
        )
    with pytest.raises(ValueError, match="are not those that this model infers from this source"):
        predict_to_file(models["knn"], source, path, resume=True, verbose=False)
    X, y = frames
    other = KNNGeneRegressor().fit(X, y.iloc[:, :20])
    with pytest.raises(ValueError, match="it was begun with other genes"):
        predict_to_file(other, source, path, resume=True, verbose=False)
    with pytest.raises(ValueError, match="only GCTX and h5ad without compression can be resumed"):
        predict_to_file(models["network"], source, tmp_path / "y.tsv", resume=True)
    predict_to_file(models["network"], source, path, resume=True, verbose=False)
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, source.name}


def test_a_finished_file_of_another_role_is_written_anew(models, frames, tmp_path):
    """A landmark that was imputed is measured now, and equals the mean of training."""
    X, _ = frames
    path, values = tmp_path / "some.tsv", X.to_numpy()[:4].astype(np.float32)
    values[:, 0] = models["network"].landmark_mean_[0]
    given = {"missing": "mean", "resume": True, "verbose": False}
    write_expression(path, values[:, 1:], profile_ids=list("abcd"), gene_ids=LANDMARKS[1:])
    with pytest.warns(UserWarning, match="1 of 12 landmarks are not in"):
        predict_to_file(models["network"], path, tmp_path / "y.gctx", **given)
    write_expression(path, values, profile_ids=list("abcd"), gene_ids=LANDMARKS)
    predict_to_file(models["network"], path, tmp_path / "y.gctx", **given)
    with open_expression(tmp_path / "y.gctx") as file:
        assert file.gene_metadata["role"][0] == "landmark"


@pytest.mark.parametrize("ending", [".gctx", ".h5ad"])
def test_a_finished_file_of_other_metadata_is_written_anew(models, frames, ending, tmp_path):
    X, _ = frames
    ids = {"profile_ids": list("abcd"), "gene_ids": LANDMARKS}
    described = {"passed": np.array([True, False, True, True]), "dose": [1.0, np.nan, 3.0, 4.0]}
    described |= {"well": ["nan", "-667", "1", "NaN"], "plate": pd.array([1, None, 3, 4], dtype="Int64")}
    path, result = tmp_path / "x.h5ad", tmp_path / f"y{ending}"
    for cell in (*"uv", "01", None), (*"uv", "1", None):
        write_expression(path, X.to_numpy()[:4], **ids, profile_metadata=described | {"cell": cell})
        predict_to_file(models["knn"], path, result, resume=True, verbose=False)
        with open_expression(result) as file:
            assert file.profile_metadata["cell"].tolist() == list(cell)
        written = result.stat().st_mtime_ns
        predict_to_file(models["knn"], path, result, resume=True, verbose=False)
        assert result.stat().st_mtime_ns == written


def test_what_a_result_says_of_genes_itself_is_left_out_with_a_warning(models, frames, tmp_path):
    X, _ = frames
    path = tmp_path / "x.gctx"
    about = {"role": ["kinase"] * 12}
    write_expression(path, X.to_numpy()[:4], profile_ids=list("abcd"), gene_ids=LANDMARKS, gene_metadata=about)
    with pytest.warns(UserWarning, match="The result has role of its own for each gene"):
        predict_to_file(models["knn"], path, tmp_path / "y.gctx", verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_to_file(models["knn"], tmp_path / "y.gctx", tmp_path / "z.gctx", verbose=False)
    about = {"role": [None] * 12, "error": ["mine"] * 12}
    write_expression(path, X.to_numpy()[:4], profile_ids=list("abcd"), gene_ids=LANDMARKS, gene_metadata=about)
    model = KNNGeneRegressor().fit(*frames)
    target_reliability(model, *frames, store=True)
    with pytest.warns(UserWarning, match="The result has role, error of its own"):
        predict_to_file(model, path, tmp_path / "y.gctx", verbose=False)


SLOW = """
import sys, time, joblib
from dgex import _plan, inference
_plan.CHUNK_BYTES = 4 * 42 * 37
model = joblib.load(sys.argv[1])
predict = type(model).predict
def slow(self, X):
    time.sleep(0.2)
    return predict(self, X)
type(model).predict = slow
print("ready", flush=True)
inference.predict_to_file(model, sys.argv[2], sys.argv[3], resume=True)
"""


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_process_is_resumed_to_the_last_byte(models, source, tmp_path):
    model = models["knn"]
    joblib.dump(model, tmp_path / "model.joblib")
    (tmp_path / "whole").mkdir()
    whole = predict_to_file(model, source, tmp_path / "whole" / "y.gctx", resume=True, verbose=False)
    path = tmp_path / "y.gctx"
    arguments = [sys.executable, "-c", SLOW, str(tmp_path / "model.joblib"), str(source), str(path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    note = tmp_path / ".y.gctx.progress"
    while process.poll() is None and not (note.exists() and int(note.read_text().partition(" ")[0] or 0) >= 74):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists()
    assert 74 <= int(note.read_text().partition(" ")[0]) < 300
    predict_to_file(model, source, path, resume=True, verbose=False)
    assert path.read_bytes() == whole.read_bytes()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_is_a_line_on_a_terminal_and_lines_in_a_log(models, source, stream, tmp_path, monkeypatch):
    clock = iter(np.arange(0, 10_000, 40.0))
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", stream)
    predict_to_file(models["knn"], source, tmp_path / "y.gctx")
    said = stream.getvalue()
    assert "111 of 300 profiles (37%)" in said
    assert "per second" in said
    assert "left" in said
    assert said.endswith("\n")
    assert said.count("\n") == (1 if stream.isatty() else 10)
    assert duration(30) == "30 s"
    assert duration(600) == "10 min"
    assert duration(36000) == "10.0 h"


def test_inference_does_not_need_jax_by_itself():
    code = "import dgex.inference, dgex.io, sys; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_names_without_room_for_what_is_hidden_are_refused_before_anything_is_read(models, source, tmp_path):
    name = "n" * 246
    with pytest.raises(OSError, match="of 251 bytes, but expected at most 245"):
        predict_to_file(Stopping(models["knn"], 0, AssertionError()), source, tmp_path / f"{name}.gctx", verbose=False)
    path = predict_to_file(models["knn"], source, tmp_path / f"{name[6:]}.gctx", resume=True, verbose=False)
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, source.name}


@pytest.mark.parametrize("steps", [[StandardScaler()], []])
def test_pipelines_infer_where_metadata_are_routed(steps, frames, source, tmp_path):
    X, y = frames
    network = DGEXRegressor(hidden_layer_sizes=(20,), max_iter=2, random_state=0)
    pipeline = make_pipeline(*steps, network).fit(X, y)
    with sklearn.config_context(enable_metadata_routing=True):
        path = predict_to_file(pipeline, source, tmp_path / "y.gctx", target_names=TARGETS, verbose=False)
        assert not hasattr(network, "set_predict_request")
    np.testing.assert_array_equal(open_expression(path).read(genes=TARGETS), pipeline.predict(X))


@pytest.mark.parametrize("ending", [".gctx", ".parquet"])
def test_metadata_called_like_a_gene_are_renamed(models, frames, tmp_path, ending):
    X, _ = frames
    said = np.array(["yes", "no"] * 5)
    source, gene = tmp_path / "x.gctx", TARGETS[3]
    described = {"profile_ids": range(10), "gene_ids": LANDMARKS, "profile_metadata": {gene: said}}
    write_expression(source, X.to_numpy()[:10], **described)
    with pytest.warns(UserWarning, match=f"renamed: {gene} is called {gene}_"):
        path = predict_to_file(models["network"], source, tmp_path / f"y{ending}", verbose=False)
    with open_expression(path) as file:
        assert file.gene_ids.tolist() == LANDMARKS + TARGETS
        assert file.profile_metadata[f"{gene}_"].tolist() == said.tolist()
