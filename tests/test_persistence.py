import copy
import dataclasses
import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
import types
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ScoringMonitor
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import dgex
from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer, persistence
from dgex.persistence import ModelFileError, is_model_file, load_model, model_summary, save_model

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "batch_size": 32, "random_state": 0}

N_MUTATIONS = int(os.environ.get("DGEX_MUTATIONS", "300"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.dgex"


@pytest.fixture(scope="session")
def frames(profiles):
    X, y = profiles
    return (
        pd.DataFrame(X, columns=[f"L{number}" for number in range(X.shape[1])]),
        pd.DataFrame(y, columns=[f"T{number}" for number in range(y.shape[1])]),
    )


MODELS = {
    "one network": DGEXRegressor(**SMALL),
    "several layers by adamw": DGEXRegressor(**{**SMALL, "hidden_layer_sizes": [4, 3]}, solver="adamw"),
    "several networks": DGEXRegressor(**SMALL, n_partitions=3, partition="clustered"),
    "a generator": DGEXRegressor(**{**SMALL, "random_state": np.random.RandomState(7)}, learning_rate_init=1e-3),
    "numbers of NumPy": DGEXRegressor(
        **{**SMALL, "hidden_layer_sizes": np.array([5]), "max_iter": np.int64(2)}, dropout=np.float32(0.25)
    ),
    "KNN-GE": KNNGeneRegressor(n_neighbors=3, weights="distance", standardize=True),
    "linear regression": LinearRegression(),
    "ridge": Ridge(random_state=np.random.RandomState(1)),
    "nearest profiles": KNeighborsRegressor(algorithm="brute"),
    "pipeline": make_pipeline(QuantileJointNormalizer(ties="mean"), StandardScaler(), DGEXRegressor(**SMALL)),
    "pipeline of scikit-learn": make_pipeline(
        SimpleImputer(), FunctionTransformer(), ColumnTransformer([("a", PCA(2), slice(0, 5))]), LinearRegression()
    ),
    "other units": TransformedTargetRegressor(KNNGeneRegressor(), transformer=StandardScaler()),
}


@pytest.fixture(scope="module", params=MODELS)
def fitted(request, frames):
    return clone(MODELS[request.param]).fit(*frames)


def assert_same(value, other):
    """Equal in content and in type, all the way down."""
    assert type(value) is type(other)
    if isinstance(value, np.ndarray):
        assert (value.dtype, value.shape) == (other.dtype, other.shape)
        if value.dtype == object:
            assert_same(list(value.flat), list(other.flat))
        else:
            assert value.tobytes() == other.tobytes()
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for item, counterpart in zip(value, other, strict=True):
            assert_same(item, counterpart)
    elif isinstance(value, dict):
        assert value.keys() == other.keys()
        for key in value:
            assert_same(value[key], other[key])
    elif isinstance(value, np.random.RandomState):
        assert_same(value.get_state(legacy=False), other.get_state(legacy=False))
    elif isinstance(value, BaseEstimator) or dataclasses.is_dataclass(value):
        assert_same(vars(value), vars(other))
    else:
        assert value == other or (value != value and other != other)


def assert_same_training(model, other):
    """Equal but for the time that epochs took."""
    models = copy.copy(model), copy.copy(other)
    for each in models:
        each._run = dataclasses.replace(each._run, history=[])
        each.history_ = [
            {name: value for name, value in record.items() if name != "seconds"} for record in each.history_
        ]
    assert_same(*models)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Change the JSON of a model file, or its members, leaving an archive that is whole."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    contents = json.loads(members["model.json"])
    change(contents, members)
    members["model.json"] = json.dumps(contents).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "model.json" else compression)
    return path


def saved_knn(path, profiles):
    return save_model(KNNGeneRegressor(n_neighbors=2).fit(*profiles), path)


# --- what comes back ------------------------------------------------------------------------------


def test_everything_that_an_estimator_knows_comes_back(fitted, path):
    assert save_model(fitted, str(path)) == path
    assert_same(load_model(str(path)), fitted)


@pytest.mark.parametrize("name", MODELS)
def test_estimators_that_are_not_fitted_can_be_saved(name, path):
    model = clone(MODELS[name])
    assert_same(load_model(save_model(model, path)), model)


def test_predictions_have_the_same_bits(fitted, frames, path):
    X, _ = frames
    assert load_model(save_model(fitted, path)).predict(X).tobytes() == fitted.predict(X).tobytes()


@pytest.mark.parametrize("ties", ["floor", "dense"])
def test_normalizers_go_on_learning(profiles, path, ties):
    X, _ = profiles
    model = QuantileJointNormalizer(ties=ties).partial_fit(X[:50])
    loaded = load_model(save_model(model, path))
    assert loaded.transform(X).tobytes() == model.transform(X).tobytes()
    assert_same(loaded.partial_fit(X[50:]), model.partial_fit(X[50:]))
    given = QuantileJointNormalizer(reference=[1.0, 2.0, 4.0])
    assert_same(load_model(save_model(given, path)), given)


@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
@pytest.mark.parametrize("settings", [{}, {"solver": "adamw"}, {"n_partitions": 3}], ids=["sgd", "adamw", "several"])
def test_training_goes_on_bit_by_bit_after_loading(frames, path, settings, how):
    X, y = frames
    model = DGEXRegressor(**SMALL, **settings, warm_start=True).fit(X, y)
    loaded = load_model(save_model(model, path))
    for _ in range(2):
        for each in (model, loaded):
            each.fit(X, y) if how == "warm_start" else each.partial_fit(X, y)
        assert_same_training(loaded, model)


def test_an_interrupted_epoch_goes_on_after_loading(profiles, path):
    X, y = profiles
    model = DGEXRegressor(**SMALL, warm_start=True).fit(X, y)
    model._run.step, model._run.epoch_loss = 2, np.float32([1.5])  # as an interrupt leaves it
    loaded = load_model(save_model(model, path))
    assert_same_training(loaded.fit(X, y), model.fit(X, y))


def test_models_of_every_validation_set_are_kept(profiles, path):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X[:80], y[:80], X_val=(X[80:], X[:20]), y_val=(y[80:], y[:20]))
    loaded = load_model(save_model(model, path))
    for number in range(2):
        assert_same(loaded.best_model(number), model.best_model(number))


def test_names_of_genes_are_checked_after_loading(frames, path):
    X, y = frames
    loaded = load_model(save_model(DGEXRegressor(**SMALL).fit(X, y), path))
    assert list(loaded.feature_names_in_) == list(X.columns)
    assert list(loaded.target_names_) == list(y.columns)
    with pytest.raises(ValueError, match="genes are missing"):
        loaded.predict(X.rename(columns={"L0": "unknown"}))


def test_frozen_estimators_stay_frozen(profiles, path):
    X, y = profiles
    model = make_pipeline(FrozenEstimator(StandardScaler().fit(X)), Ridge()).fit(X, y)
    loaded = load_model(save_model(model, path))
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert isinstance(loaded[0], FrozenEstimator)


def test_the_best_estimator_of_a_search_can_be_saved(profiles, path):
    X, y = profiles
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 2]}, cv=2).fit(X, y)
    assert_same(load_model(save_model(search.best_estimator_, path)), search.best_estimator_)


PLAIN = [
    *[None, True, 3, -(2**70), 0.1, 5e-324, -0.0, math.nan, math.inf, -math.inf, "", "é\ud800\n", b"\x00\xff"],
    *[[], (), {}, [1, (2.0, [None])], {"a": 1, 2: "b", (None, 1.5): []}, slice(1, None, -2)],
    *[np.float32(0.1), np.float64(math.nan), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.str_("a")],
    *[np.dtype("float32"), np.dtype(object), np.dtype("<U7"), np.float64, np.int32],
    *[np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(1.5), np.zeros((0, 4))],
    *[np.array([True, False]), np.array(["a", "bcd"]), np.array([b"a"]), np.array([1 + 2j]), np.arange(3, dtype=">i4")],
    *[np.array(["2020-01-01"], dtype="M8[D]"), np.array([math.nan, -0.0, math.inf], dtype=np.float16)],
    *[np.array([["a", None], ["b", 1.5]], dtype=object), np.array([], dtype=object), np.array(None, dtype=object)],
    *[np.random.RandomState(3), [np.array([1, 2]), {"x": np.array([3])}]],
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_of_all_kinds_come_back(value, path):
    model = FunctionTransformer(kw_args={"value": value})
    assert_same(load_model(save_model(model, path)), model)


def test_a_generator_draws_on_where_it_was(path):
    model = Ridge(random_state=np.random.RandomState(5))
    model.random_state.normal(size=3)  # leaves a number to be given out next
    loaded = load_model(save_model(model, path))
    assert loaded.random_state.normal(size=700).tobytes() == model.random_state.normal(size=700).tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_elements_in_memory_is_kept(order, path):
    wide = np.arange(60.0).reshape((6, 10), order=order)
    model = FunctionTransformer(kw_args={"whole": wide, "part": wide[1:4, 2:8], "reversed": wide[::-1]})
    loaded = load_model(save_model(model, path)).kw_args
    for array in loaded.values():
        assert array.flags[f"{order}_CONTIGUOUS"]
    assert_same(loaded, {name: array.copy(order="K") for name, array in model.kw_args.items()})


def test_memory_maps_become_arrays(tmp_path, path):
    np.save(tmp_path / "reference.npy", np.arange(5.0))
    model = QuantileJointNormalizer(reference=np.load(tmp_path / "reference.npy", mmap_mode="r"))
    reference = load_model(save_model(model, path)).reference
    assert type(reference) is np.ndarray
    np.testing.assert_array_equal(reference, np.arange(5.0))


# --- sharing --------------------------------------------------------------------------------------


def test_what_is_shared_is_stored_once_and_shared_again(profiles, path):
    X, y = profiles
    model = DGEXRegressor(**{**SMALL, "hidden_layer_sizes": (300, 300)}).fit(X, y)
    weights = sum(array.nbytes for array in [*model.coefs_, *model.intercepts_])
    size = save_model(model, path).stat().st_size
    # The best weights, the newest, and their momentum; not those of `coefs_` besides.
    assert 3 * weights < size < 3.2 * weights
    loaded = load_model(path)
    best = loaded._run.best[0].parameters if loaded._run.best[0].parameters[0].kernel is loaded.coefs_[0] else None
    assert best is not None
    assert all(layer.bias is bias for layer, bias in zip(best, loaded.intercepts_, strict=True))
    assert loaded.history_ is loaded._run.history


def test_steps_that_share_a_generator_still_do(path):
    generator = np.random.RandomState(0)
    model = make_pipeline(PCA(random_state=generator), Ridge(random_state=generator))
    loaded = load_model(save_model(model, path))
    assert loaded[0].random_state is loaded[1].random_state


def test_a_model_makes_the_same_file_whenever_it_is_saved(fitted, path):
    before = save_model(fitted, path).read_bytes()
    assert save_model(fitted, path).read_bytes() == before
    loaded = load_model(path)
    assert save_model(loaded, path).read_bytes() == before
    assert_same(load_model(path), fitted)


def test_saving_leaves_the_model_alone(fitted, path):
    before, identities = copy.deepcopy(fitted), {name: id(value) for name, value in vars(fitted).items()}
    save_model(fitted, path)
    assert_same(fitted, before)
    assert {name: id(value) for name, value in vars(fitted).items()} == identities


def test_arrays_of_a_loaded_model_are_its_own(profiles, path):
    model = load_model(saved_knn(path, profiles))
    before = path.read_bytes()
    model.landmark_mean_ += 1
    assert model.landmark_mean_.flags.owndata or model.landmark_mean_.base.flags.owndata
    assert path.read_bytes() == before


# --- other processes and other readers ------------------------------------------------------------


def run_python(script, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["several networks", "pipeline of scikit-learn"])
def test_a_fresh_process_predicts_the_same_bits(name, frames, path):
    X, y = frames
    model = clone(MODELS[name]).fit(X, y)
    save_model(model, path)
    X.to_pickle(path.with_name("X.pickle"))
    script = """
import sys, pandas as pd
from dgex.persistence import load_model
path, X = sys.argv[1:]
print(load_model(path).predict(pd.read_pickle(X)).tobytes().hex())
"""
    assert run_python(script, path, path.with_name("X.pickle")).strip() == model.predict(X).tobytes().hex()


def test_models_without_jax_are_loaded_without_it(profiles, path):
    saved_knn(path, profiles)
    script = """
import sys
from dgex.persistence import is_model_file, load_model, model_summary
is_model_file(sys.argv[1]), model_summary(sys.argv[1]), load_model(sys.argv[1])
print("jax" in sys.modules)
"""
    assert run_python(script, path).strip() == "False"


def test_numpy_reads_the_arrays(frames, path):
    model = DGEXRegressor(**SMALL).fit(*frames)
    save_model(model, path)
    with np.load(path) as arrays:
        for layer in range(2):
            np.testing.assert_array_equal(arrays[f"coefs_/{layer}"], model.coefs_[layer])
            np.testing.assert_array_equal(arrays[f"intercepts_/{layer}"], model.intercepts_[layer])
        np.testing.assert_array_equal(arrays["target_scale_"], model.target_scale_)


def test_the_json_is_of_the_standard(path):
    save_model(FunctionTransformer(kw_args={"a": math.nan, "b": [math.inf, np.float32(-math.inf)]}), path)
    with zipfile.ZipFile(path) as archive:
        json.loads(archive.read("model.json"), parse_constant=lambda constant: pytest.fail(constant))


def test_a_summary_says_what_a_model_is(frames, path):
    summary = model_summary(save_model(DGEXRegressor(**SMALL).fit(*frames), path))
    assert (summary["class"], summary["n_landmarks"], summary["n_targets"]) == ("DGEXRegressor", 12, 9)
    assert summary["landmarks_named"]
    assert summary["targets_named"]
    assert summary["parameters"]["hidden_layer_sizes"] == [5]
    assert summary["parameters"]["dropout"] == 0.1
    assert summary["written by"]["dgex"] == dgex.__version__
    assert summary["written by"].keys() == {"dgex", "numpy", "scikit-learn", "jax"}
    json.dumps(summary)


def test_a_summary_of_a_pipeline_is_of_all_steps(profiles, path):
    X, y = profiles
    model = make_pipeline(StandardScaler(), KNNGeneRegressor(n_neighbors=4)).fit(X, y)
    summary = model_summary(save_model(model, path))
    assert (summary["class"], summary["n_landmarks"], summary["n_targets"]) == ("Pipeline", 12, 9)
    assert not summary["landmarks_named"]
    assert summary["parameters"]["knngeneregressor__n_neighbors"] == 4
    assert summary["parameters"]["steps"][1] == ["knngeneregressor", "KNNGeneRegressor"]
    nothing = model_summary(save_model(QuantileJointNormalizer(reference=np.arange(1000)), path))
    assert (nothing["n_landmarks"], nothing["n_targets"]) == (None, None)
    assert nothing["parameters"]["reference"] == "ndarray"


def test_a_summary_reads_no_array(profiles, path):
    saved_knn(path, profiles)
    rewritten(path, lambda contents, members: [members.pop(name) for name in list(members) if name != "model.json"])
    assert model_summary(path)["class"] == "KNNGeneRegressor"


def test_model_files_are_known_by_their_content(profiles, tmp_path):
    other = tmp_path / "other.dgex"
    assert not is_model_file(other)
    assert not is_model_file(tmp_path)
    np.savez(tmp_path / "arrays.npz", X=np.zeros(3))
    other.write_text("text")
    assert not is_model_file(other)
    assert not is_model_file(tmp_path / "arrays.npz")
    assert is_model_file(saved_knn(tmp_path / "model.txt", profiles))


# --- what cannot be saved -------------------------------------------------------------------------


class Subclass(Ridge):
    pass


def endless():
    items = []
    items.append(items)
    return items


def with_attribute(value):
    model = Ridge()
    model.extra_ = {"a": [value]}
    return model


UNSUPPORTED = {
    "a function": (FunctionTransformer(np.log1p), r"log1p of the type numpy.ufunc as func of the model"),
    "a function in a step": (
        make_pipeline(FunctionTransformer(lambda X: X), Ridge()),
        r"<lambda> of the type builtins.function as steps\[0\]\[1\].func of the model",
    ),
    "a subclass": (Subclass(), r"a model of the type .*Subclass\. "),
    "an estimator of others": (make_pipeline(Subclass()), r"Subclass as steps\[0\]\[1\] of the model"),
    "an unknown class": (with_attribute(types.SimpleNamespace()), r"SimpleNamespace as extra_\['a'\]\[0\] of"),
    "a masked array": (with_attribute(np.ma.ones(2)), r"MaskedArray as extra_\['a'\]\[0\]"),
    "a matrix": (with_attribute(np.ones(2).view(np.recarray)), "recarray"),
    "records": (with_attribute(np.zeros(2, dtype="i4,f4")), "numpy.ndarray as extra_"),
    "wide numbers": (with_attribute(np.longdouble(1)), "longdouble as extra_"),
    "another generator": (Ridge(random_state=np.random.RandomState(np.random.PCG64(0))), "as random_state"),
    "a set": (with_attribute({1}), "builtins.set"),
    "a class": (with_attribute(Ridge), "Ridge of the type"),
    "a subclass of dict": (with_attribute(types.MappingProxyType({})), "mappingproxy"),
    "an endless list": (with_attribute(endless()), r"extra_\['a'\]\[0\]\[0\] contains itself"),
    "a callback": (DGEXRegressor().set_callbacks(ScoringMonitor(scoring="r2")), r"as _skl_callbacks\[0\]"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_saved_is_named_with_its_place(name, path):
    model, message = UNSUPPORTED[name]
    path.write_text("before")
    with pytest.raises(TypeError, match=message) as caught:
        save_model(model, path)
    assert "joblib" in str(caught.value)
    assert path.read_text() == "before"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_trees_of_scikit_learn_cannot_be_saved(profiles, path):
    with pytest.raises(TypeError, match=r"KDTree as steps\[0\]\[1\]\._tree of the model.*joblib"):
        save_model(make_pipeline(KNeighborsRegressor(algorithm="kd_tree")).fit(*profiles), path)
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 2]}, cv=2).fit(*profiles)
    with pytest.raises(TypeError, match="as scorer_ of the model"):
        save_model(search, path)


@pytest.mark.parametrize("value", [Ridge, [Ridge()], {"a": 1}, None, np.zeros(3)], ids=repr)
def test_only_estimators_are_models(value, path):
    with pytest.raises(TypeError, match="expected an estimator"):
        save_model(value, path)
    assert not path.exists()


# --- other versions -------------------------------------------------------------------------------


def test_another_scikit_learn_is_warned_of_where_it_matters(profiles, path):
    def other(contents, members):
        contents["written by"]["scikit-learn"] = "0.99"

    save_model(make_pipeline(StandardScaler(), KNNGeneRegressor()).fit(*profiles), path)
    with pytest.warns(UserWarning, match=r"scikit-learn 0\.99, but .* is installed") as caught:
        load_model(rewritten(path, other))
    assert caught[0].filename == __file__
    load_model(rewritten(saved_knn(path, profiles), other))  # warnings are errors


def test_newer_files_are_refused_with_the_version_that_reads_them(profiles, path):
    def newer(contents, members):
        contents.update({"format version": 2, "model": "?", "summary": "?"})
        contents["written by"]["dgex"] = "7.0"

    rewritten(saved_knn(path, profiles), newer, zipfile.ZIP_DEFLATED)
    for read in (load_model, model_summary):
        with pytest.raises(ModelFileError, match=r"written by dgex 7\.0 in version 2 .* Update dgex"):
            read(path)
    assert is_model_file(path)


def test_parameters_that_were_added_since_take_their_defaults(profiles, path):
    save_model(make_pipeline(StandardScaler(), KNNGeneRegressor()).fit(*profiles), path)

    def older(contents, members):
        for _, step in (pair["tuple"] for pair in contents["model"]["parameters"]["steps"]["list"]):
            step["parameters"].pop("metric", None)
            step["parameters"].pop("with_std", None)

    loaded = load_model(rewritten(path, older))
    assert loaded[-1].metric == "euclidean"
    assert loaded[0].with_std is True


def test_parameters_that_are_gone_name_the_versions(profiles, path):
    def other(contents, members):
        contents["written by"]["dgex"] = "7.0"
        contents["model"]["parameters"]["beta"] = 1

    with pytest.raises(ModelFileError, match=r"KNNGeneRegressor is of dgex 7\.0 and has beta, unknown in dgex"):
        load_model(rewritten(saved_knn(path, profiles), other))


def test_records_of_other_versions_are_completed_or_refused(profiles, path):
    save_model(DGEXRegressor(**SMALL).fit(*profiles), path)
    whole = path.read_bytes()

    def without(name):
        return lambda contents, members: contents["model"]["attributes"]["_run"]["fields"].pop(name)

    assert load_model(rewritten(path, without("interrupted")))._run.interrupted is False
    path.write_bytes(whole)
    with pytest.raises(ModelFileError, match=r"TrainingRun is of dgex .* and lacks seed, needed in dgex"):
        load_model(rewritten(path, without("seed")))


# --- damaged files --------------------------------------------------------------------------------


def test_files_of_other_kinds_are_refused(tmp_path, path):
    np.savez(tmp_path / "arrays.npz", X=np.zeros(3))
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("gene\tprofile\n")
    for name in ("arrays.npz", "empty", "text"):
        with pytest.raises(ModelFileError, match="cannot be loaded: it is damaged, or not a model file"):
            load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_model(path)


def remove_array(contents, members):
    del members["neighbors_.npy"]


def replaced(content):
    return lambda contents, members: members.update({"neighbors_.npy": content})


def npy(descr, shape, data=b""):
    """The bytes of an array that may not be one."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode() + data


def described(**entries):
    return lambda contents, members: contents["model"]["attributes"]["neighbors_"].update(entries)


def attribute(node):
    return lambda contents, members: contents["model"]["attributes"].update(extra_=node)


def both(*changes):
    return lambda contents, members: [change(contents, members) for change in changes]


BROKEN = {
    "a missing array": (remove_array, "'neighbors_.npy' is not in it"),
    "no JSON": (lambda contents, members: contents.clear(), "model.json is not of the format"),
    "a bomb": (both(replaced(npy("<i8", (2**40,))), described(shape=[2**40])), "bytes for int64 of shape"),
    "an array without bytes": (both(replaced(npy("<U0", (2**40,))), described(shape=[2**40], type="<U0")), "denies"),
    "other sizes": (replaced(npy("<i8", (9, 2), bytes(8 * 17))), "136 bytes for int64"),
    "a negative size": (both(replaced(npy("<i8", (-9, -2), bytes(8 * 18))), described(shape=[-9, -2])), "damaged"),
    "another type": (replaced(npy("<f8", (9, 2), bytes(8 * 18))), "is float64 of shape"),
    "objects": (both(replaced(npy("|O", (9, 2), bytes(8 * 18))), described(type="|O")), "is object of shape"),
    "records": (replaced(npy([("a", "<i4"), ("b", "<i4")], (9, 2), bytes(8 * 18))), "which model.json denies"),
    "a header that exhausts a parser": (replaced(npy("<i8", "-" * 60 + "1")), "no header that NumPy can read"),
    "no header": (replaced(b"nothing"), "no header that NumPy can read"),
    "an array twice": (
        attribute({"array": "neighbors_.npy", "type": "<i8", "shape": [9, 2]}),
        "twice",
    ),
    "an unknown kind": (attribute({"pickle": "gASVAAAA"}), "unknown kind has the entries pickle"),
    "two kinds": (attribute({"list": [], "tuple": []}), "unknown kind"),
    "a bare list": (attribute([1, 2]), "a list stands where"),
    "an unknown object": (attribute({"same as": 99}), "damaged"),
    "too few objects": (attribute({"objects": [], "shape": [10**12]}), "damaged"),
    "a dict with a list as key": (attribute({"dict": [[{"list": []}, 1]]}), "damaged"),
    "a type of records": (attribute({"dtype": "i4,f4"}), "a type is 'i4,f4'"),
    "a number that is void": (attribute({"scalar": 10**12, "type": "|V8"}), "a type is"),
    "no estimator": (lambda contents, members: contents.update(model={"list": []}), "describes no estimator, but list"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_contradict_themselves_are_refused(name, profiles, path):
    change, message = BROKEN[name]
    with pytest.raises(ModelFileError, match=message):
        load_model(rewritten(saved_knn(path, profiles), change))


def changed(name, change):
    return lambda model: setattr(model, name, change(getattr(model, name)))


def first(change):
    """A change of the first of several arrays."""
    return lambda arrays: [change(arrays[0]), *arrays[1:]]


UNFIT = {
    "no weights": (lambda model: delattr(model, "coefs_"), "has no coefs_"),
    "no run and no settings": (lambda model: (delattr(model, "_run"), delattr(model, "_settings")), "_run, _settings"),
    "turned weights": (
        changed("coefs_", first(np.transpose)),
        r"coefs_\[0\] of shape \(5, \d+\), but expected \(\d+, 5\)",
    ),
    "fewer weights": (
        changed("coefs_", first(lambda kernel: kernel[:-1])),
        r"coefs_\[0\] of shape \(\d+, 5\), but expected \(\d+, 5\)",
    ),
    "a layer less": (changed("coefs_", lambda kernels: kernels[1:]), "damaged"),
    "no scale": (
        changed("landmark_scale_", lambda scale: None),
        r"landmark_scale_ of shape \(\), but expected \(\d+,\)",
    ),
    "one mean more": (changed("target_mean_", lambda mean: np.append(mean, 1.0)), "target_mean_ of shape"),
    "a network more": (changed("partition_", lambda partition: partition + 1), "networks, inputs and outputs"),
    "other landmarks": (changed("n_features_in_", lambda number: number - 1), "networks, inputs and outputs"),
    "a run of fewer layers": (
        changed(
            "_run", lambda run: dataclasses.replace(run, state=run.state._replace(parameters=run.state.parameters[1:]))
        ),
        "the weights of the run of 1 layer",
    ),
    "other moments": (
        lambda model: setattr(
            model._run, "state", model._run.state._replace(optimizer=[a[None] for a in model._run.state.optimizer])
        ),
        "Got moments of the shapes",
    ),
    "a method": (lambda model: setattr(model, "predict", 8), "called like its methods: predict"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_networks_that_do_not_fit_together_are_refused(name, profiles, path):
    model = DGEXRegressor(**SMALL).fit(*profiles)
    change, message = UNFIT[name]
    change(model)
    save_model(model, path)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_weights_of_another_shape_are_refused(profiles):
    model = DGEXRegressor(**SMALL).fit(*profiles)
    model.coefs_[0] = model.coefs_[0].T
    with pytest.raises(ValueError, match=r"Got coefs_\[0\] of shape \(5, \d+\), but expected"):
        model.predict(profiles[0])


def test_nesting_without_end_is_refused(profiles, path):
    saved_knn(path, profiles)

    def nest(contents, members):
        node = contents["model"]["attributes"]["extra_"] = {"list": []}
        for _ in range(400):
            node["list"].append({"list": []})
            node = node["list"][0]

    rewritten(path, nest)
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(600)
        with pytest.raises(ModelFileError, match="recursion"):
            load_model(path)
    finally:
        sys.setrecursionlimit(before)


def test_compressed_and_overlapping_members_are_refused(profiles, path):
    rewritten(saved_knn(path, profiles), lambda contents, members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelFileError, match="compressed"):
        load_model(path)
    with zipfile.ZipFile(saved_knn(path, profiles), "a") as archive:
        archive.writestr("another", "file")  # so that the table of contents is written anew
        for number in range(100):
            again = copy.copy(archive.getinfo("model.json"))
            again.filename = f"copy {number}"
            archive.filelist.append(again)
    with pytest.raises(ModelFileError, match="overlap"):
        load_model(path)


def test_a_generator_that_would_read_beyond_its_key_is_refused(path):
    save_model(Ridge(random_state=np.random.RandomState(0)), path)
    whole = path.read_bytes()

    def state(change):
        return lambda contents, members: change(
            dict(contents["model"]["parameters"]["random_state"]["random state"]["dict"])
        )

    def position(state):
        state["state"]["dict"][1][1] = 10**6

    def name(state):
        state["state"]["dict"][0][1] = {"scalar": 1, "type": "<i8"}

    for change in (position, name):
        path.write_bytes(whole)
        with pytest.raises(ModelFileError):
            load_model(rewritten(path, state(change)))


def test_bits_that_flipped_are_noticed(profiles, path):
    save_model(DGEXRegressor(**SMALL).fit(*profiles), path)
    model, whole, chance = load_model(path), path.read_bytes(), random.Random(0)
    n_refused = 0
    for number in range(N_MUTATIONS):
        damaged = bytearray(whole)
        if number % 10 == 0:
            del damaged[chance.randrange(len(whole)) :]
        else:
            for _ in range(chance.choice([1, 1, 3, 20])):
                damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert_same(load_model(path), model)
        except ModelFileError:
            n_refused += 1
    assert n_refused > 0.9 * N_MUTATIONS


def places(node):
    """Every container within some JSON, and the keys in it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in list(items):
        yield node, key
        yield from places(child)


def test_json_that_is_changed_at_random_is_read_or_refused(frames, path):
    save_model(make_pipeline(StandardScaler(), DGEXRegressor(**SMALL, solver="adamw")).fit(*frames), path)
    whole, chance = path.read_bytes(), random.Random(0)
    values = [
        None,
        True,
        -1,
        2**70,
        1e300,
        "",
        "x",
        "<f4",
        [],
        [1],
        {},
        {"list": [1]},
        {"same as": 1},
        "dgex._programs.Rates",
    ]
    outcomes = {"read": 0, "refused": 0}

    def change(contents, members):
        for _ in range(chance.choice([1, 1, 2])):
            container, key = chance.choice(list(places(contents)))
            container[key] = copy.deepcopy(chance.choice(values))

    for _ in range(N_MUTATIONS):
        path.write_bytes(whole)
        rewritten(path, change)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the version of scikit-learn
                load_model(path)
            outcomes["read"] += 1
        except ModelFileError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_headers_that_are_changed_at_random_are_read_or_refused(profiles, path):
    saved_knn(path, profiles)
    whole, chance = path.read_bytes(), random.Random(0)

    def change(contents, members):
        content = bytearray(members["neighbors_.npy"])
        for _ in range(chance.choice([1, 2, 5])):
            content[chance.randrange(128)] = chance.choice(
                [*b"0123456789()[],'<>|OVUif-+ \n\x00", chance.randrange(256)]
            )
        members["neighbors_.npy"] = bytes(content)

    for _ in range(N_MUTATIONS):
        path.write_bytes(whole)
        rewritten(path, change)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy takes some for headers of Python 2
            with suppress(ModelFileError):
                assert load_model(path).neighbors_.shape == (9, 2)


# --- hostile files --------------------------------------------------------------------------------

HOSTILE = [
    *["os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "posix.system", "numpy.load", "pickle.loads"],
    *["dgex._validation.warn_user", "dgex._validation.inspect.stack", "dgex.persistence.save_model", "dgex.io.Columns"],
    *["dgex.__main__.main", "dgex._mlp.MLP", "dgex._mlp.nnx.Module", "dgex._session.json", "dgex._knn.Any"],
    *[
        "dgex._training.Path",
        "dgex._programs.NetworkConfig",
        "dgex.datasets",
        "dgex.distributed.initialize",
        "dgex.",
        "",
    ],
    *["sklearn.utils.Bunch", "sklearn.utils._testing.assert_run_python_script", "sklearn.datasets.fetch_openml"],
    *[
        "sklearn.linear_model.ridge_regression",
        "sklearn.base.BaseEstimator",
        "sklearn.conftest.pytest",
        "sklearn.clone",
    ],
    *[
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.experimental.enable_halving_search_cv.Any",
        "sklearn.nothing.Ridge",
    ],
    *["sklearn.impute.IterativeImputer", "sklearn..Ridge", "sklearn.linear_model.__class__", "os.path.sys", "Ridge", 5],
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("entries", [{"fields": {"command": "x"}}, {"parameters": {"command": "x"}, "attributes": {}}])
def test_nothing_that_a_file_names_is_called(name, entries, profiles, path, monkeypatch):
    def called(*arguments, **keywords):
        pytest.fail(f"{name} was called")

    rewritten(saved_knn(path, profiles), attribute({"class": name, **entries}))
    monkeypatch.setattr(os, "system", called)
    monkeypatch.setattr(subprocess.Popen, "__init__", called)
    monkeypatch.setattr("dgex._validation.warn_user", called)
    monkeypatch.setattr(persistence, "save_model", called)
    loaded_before = set(sys.modules)
    with pytest.raises(ModelFileError, match=r"names|damaged"):
        load_model(path)
    assert not {name for name in set(sys.modules) - loaded_before if "conftest" in name or "enable_" in name}


def test_attributes_cannot_replace_the_class(profiles, path):
    def change(contents, members):
        contents["model"]["attributes"].update({"__class__": "os.system", "__dict__": {"dict": []}})

    with pytest.raises(ModelFileError, match="called like its methods: __class__"):
        load_model(rewritten(saved_knn(path, profiles), change))


# --- writing --------------------------------------------------------------------------------------


def assert_nothing_changed(path):
    assert path.read_text() == "before"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .* Create it first"):
        save_model(Ridge(), tmp_path / "missing" / "model.dgex")


def test_a_folder_without_permission_is_an_error(path, monkeypatch):
    path.write_text("before")
    if os.geteuid() == 0:  # whom nothing is forbidden
        opened = Path.open

        def forbidden(file, mode="r", *arguments, **keywords):
            if "w" in mode:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
            return opened(file, mode, *arguments, **keywords)

        monkeypatch.setattr(Path, "open", forbidden)
    else:
        path.parent.chmod(0o500)
    with pytest.raises(PermissionError, match=r"cannot be written: .* Choose a folder"):
        save_model(Ridge(), path)
    path.parent.chmod(0o700)
    assert_nothing_changed(path)


def test_a_disk_without_room_is_an_error_before_anything_is_written(profiles, path, monkeypatch):
    path.write_text("before")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="GB are free there"):
        save_model(KNNGeneRegressor().fit(*profiles), path)
    assert_nothing_changed(path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_errors_while_writing_leave_what_was_there(profiles, path, monkeypatch, error):
    path.write_text("before")
    write_array = np.lib.format.write_array

    def interrupted(file, array, **keywords):
        if array.ndim == 2:
            file.write(b"half an array")
            raise error
        write_array(file, array, **keywords)

    monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    with pytest.raises(type(error)) as caught:
        save_model(KNNGeneRegressor().fit(*profiles), path)
    if isinstance(error, OSError):
        assert "nothing under that name has changed: [Errno 28]" in str(caught.value)
    assert_nothing_changed(path)


def test_a_limit_of_the_system_on_files_is_an_error(profiles, path):
    resource = pytest.importorskip("resource")
    path.write_text("before")
    model = DGEXRegressor(**{**SMALL, "hidden_layer_sizes": (300,)}).fit(*profiles)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="nothing under that name has changed"):
            save_model(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_nothing_changed(path)


def test_a_folder_of_that_name_is_an_error(tmp_path):
    (tmp_path / "model.dgex").mkdir()
    with pytest.raises(OSError, match="is a folder, but expected the name of a file"):
        save_model(Ridge(), tmp_path / "model.dgex")
    assert [file.name for file in tmp_path.iterdir()] == ["model.dgex"]
    with pytest.raises(IsADirectoryError):
        load_model(tmp_path / "model.dgex")


def test_a_name_without_room_for_what_is_hidden_is_an_error(profiles, tmp_path):
    model = KNNGeneRegressor().fit(*profiles)
    with pytest.raises(OSError, match="of 255 bytes, but expected at most 245"):
        save_model(model, tmp_path / ("m" * 250 + ".dgex"))
    assert not list(tmp_path.iterdir())


def test_what_another_program_left_half_written_is_replaced(profiles, path):
    path.with_name(f".{path.name}.part").write_text("left by a crash")
    load_model(saved_knn(path, profiles))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_numbers_of_encoded_types_are_plain(path):
    model = ColumnTransformer([("kinds", OneHotEncoder(handle_unknown="ignore"), [0])])
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    loaded = load_model(save_model(model.fit(X), path))
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert sklearn.__version__ == model_summary(path)["written by"]["scikit-learn"]


def test_requests_for_metadata_are_saved(frames, path):
    X, y = frames
    with sklearn.config_context(enable_metadata_routing=True):
        model = DGEXRegressor(**SMALL).set_fit_request(X_val=True, y_val=True).set_score_request(sample_weight="weight")
        pipeline = make_pipeline(StandardScaler(), model, transform_input=["X_val"])
        pipeline.fit(X, y, X_val=X[:9], y_val=y[:9])
        save_model(pipeline, path)
        loaded = load_model(path)
        routed = loaded[-1].get_metadata_routing()
        assert routed.fit.requests == {"X_val": True, "y_val": True}
        assert routed.score.requests == {"sample_weight": "weight"}
        assert "validation_mae_0" in clone(loaded).fit(X, y, X_val=X[:9], y_val=y[:9])[-1].history_[0]
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))


def test_a_file_is_loaded_while_another_takes_its_place(tmp_path, monkeypatch):
    X, y = np.random.default_rng(0).normal(size=(2, 30, 5)).astype(np.float32)
    path, smaller = tmp_path / "model.dgex", tmp_path / "smaller.dgex"
    model = DGEXRegressor(hidden_layer_sizes=(40,), max_iter=1, random_state=0).fit(X, y)
    save_model(model, path)
    save_model(DGEXRegressor(hidden_layer_sizes=(2,), max_iter=1, random_state=0).fit(X, y), smaller)
    members = persistence._members

    def replaced_meanwhile(*arguments):
        smaller.replace(path)
        return members(*arguments)

    monkeypatch.setattr(persistence, "_members", replaced_meanwhile)
    np.testing.assert_array_equal(load_model(path).predict(X), model.predict(X))
