"""AnnData in, AnnData out."""

import threading

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer, _plan
from dgex.inference import predict_anndata, predict_to_file
from dgex.interpretation import target_reliability
from dgex.io import ExpressionFileError, open_expression
from dgex.metrics import genewise_mae
from dgex.preprocessing import align_genes, gene_scaling

LANDMARKS = [f"ENSG{number:011d}" for number in range(6)]
TARGETS = [f"ENSG{number:011d}" for number in range(100, 104)]
GENES = LANDMARKS + TARGETS


@pytest.fixture(scope="module")
def values():
    X = np.random.default_rng(0).normal(8, 2, (80, 10)).astype(np.float32)
    X[:, 6:] = np.tanh(X[:, :4] - 8)
    return X


@pytest.fixture
def adata(values):
    """All genes of 80 cells, with what is customary around them."""
    types = pd.Categorical.from_codes([0, 1] * 40, categories=pd.Index(["B", "T"], dtype=object))
    obs = pd.DataFrame({"cell type": types}, index=[f"cell {n}" for n in range(80)])
    var = pd.DataFrame({"n_cells": np.arange(10), "highly_variable": [True, False] * 5}, index=GENES)
    for frame in (obs, var):
        frame.index = frame.index.astype(object)  # what AnnData can write
    adata = AnnData(values.copy(), obs=obs, var=var, obsm={"X_pca": np.ones((80, 2))}, uns={"log1p": {"base": 2}})
    adata.layers["counts"] = np.full((80, 10), 7, dtype=np.int64)
    return adata


@pytest.fixture(scope="module")
def model(values):
    X, y = pd.DataFrame(values[:, :6], columns=LANDMARKS), pd.DataFrame(values[:, 6:], columns=TARGETS)
    return DGEXRegressor(hidden_layer_sizes=(8,), max_iter=3, random_state=0).fit(X, y)


def kinds(adata, folder):
    """The same AnnData in all the ways that it can be held."""
    yield adata
    for sparse in (csr_matrix, csc_matrix):
        yield AnnData(sparse(adata.X), obs=adata.obs, var=adata.var)
    yield AnnData(np.vstack([adata.X, adata.X]), var=adata.var)[:80]
    adata.write_h5ad(folder / "backed.h5ad")
    yield read_h5ad(folder / "backed.h5ad", backed="r")


def test_estimators_take_anndata_like_data_frames(adata, values, model, tmp_path):
    X, y = adata[:, LANDMARKS], adata[:, TARGETS]
    fitted = DGEXRegressor(hidden_layer_sizes=(8,), max_iter=3, random_state=0).fit(X, y)
    assert fitted.feature_names_in_.tolist() == LANDMARKS
    assert fitted.target_names_.tolist() == TARGETS
    frame = pd.DataFrame(values[:, :6], columns=LANDMARKS)
    for given in kinds(adata, tmp_path):
        predictions = fitted.predict(given[:, LANDMARKS])
        assert predictions.dtype == np.float32
        np.testing.assert_array_equal(predictions, model.predict(frame))
    assert fitted.score(X, y) == pytest.approx(model.score(frame, values[:, 6:]), rel=1e-5)
    fitted.fit(X, y, X_val=(X[:9], X), y_val=(y[:9], y))
    with pytest.raises(ValueError, match=r"1 of 6 genes are missing \(ENSG00000000005\)"):
        fitted.predict(adata[:, LANDMARKS[:5]])


def test_other_estimators_and_functions_take_it_too(adata, values):
    X, y = adata[:, LANDMARKS], adata[:, TARGETS]
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 2]}, cv=2).fit(X, y)
    assert search.best_estimator_.target_names_.tolist() == TARGETS
    normalizer = QuantileJointNormalizer().fit(adata)
    assert normalizer.get_feature_names_out().tolist() == GENES
    np.testing.assert_array_equal(
        normalizer.transform(AnnData(csr_matrix(values), var=adata.var)),
        QuantileJointNormalizer().fit_transform(values),
    )
    np.testing.assert_array_equal(gene_scaling(adata), gene_scaling(values))
    np.testing.assert_array_equal(align_genes(adata, [GENES[3]]), values[:, [3]])
    np.testing.assert_array_equal(genewise_mae(y, np.zeros((80, 4))), np.abs(values[:, 6:]).mean(axis=0, dtype=float))


def test_an_anndata_without_x_is_explained(adata, model):
    empty = AnnData(obs=adata.obs, var=adata.var)
    with pytest.raises(ValueError, match=r"AnnData without X.*adata\.to_df\(layer="):
        model.predict(empty)
    with pytest.raises(ExpressionFileError, match=r"has no X\. Pass layer="):
        predict_anndata(model, empty)


def test_a_new_anndata_has_landmarks_as_measured_and_targets_as_inferred(adata, values, model, tmp_path):
    expected = model.predict(pd.DataFrame(values[:, :6], columns=LANDMARKS))
    for given in kinds(adata, tmp_path):
        inferred = predict_anndata(model, given[:, [8, 3, 0, 5, 1, 2, 4]])
        assert inferred.var_names.tolist() == GENES
        np.testing.assert_array_equal(inferred[:, LANDMARKS].X, values[:, :6])
        np.testing.assert_array_equal(inferred[:, TARGETS].X, expected)
        assert inferred.var["role"].tolist() == ["landmark"] * 6 + ["target"] * 4
        assert inferred.var["n_cells"].tolist()[:6] == list(range(6))
        assert inferred.var["n_cells"].isna().tolist() == [False] * 6 + [True] * 4


def test_what_is_known_of_the_observations_is_kept_and_can_be_written(adata, model, tmp_path):
    before = adata.copy()
    inferred = predict_anndata(model, adata)
    pd.testing.assert_frame_equal(inferred.obs, adata.obs)
    assert inferred.obsm["X_pca"].shape == (80, 2)
    assert inferred.uns["log1p"] == {"base": 2}
    inferred.write_h5ad(tmp_path / "inferred.h5ad")
    assert read_h5ad(tmp_path / "inferred.h5ad").var["role"].tolist() == inferred.var["role"].tolist()
    pd.testing.assert_frame_equal(before.var, adata.var)
    np.testing.assert_array_equal(before.X, adata.X)


def test_what_is_known_of_the_landmarks_keeps_its_types(adata, model, tmp_path):
    adata.var["chromosome"] = pd.Categorical.from_codes(
        [0, 1] * 5, categories=pd.Index(["X", "1"], dtype=object), ordered=True
    )
    adata.var["title"] = pd.array([f"gene {n}" for n in range(10)], dtype=object)
    var = predict_anndata(model, adata).var
    assert [str(var[name].dtype) for name in ("n_cells", "highly_variable")] == ["Int64", "boolean"]
    assert var["chromosome"].cat.ordered
    assert var["chromosome"].cat.categories.tolist() == ["X", "1"]
    assert var["title"].tolist()[:6] == [f"gene {n}" for n in range(6)]
    assert var.loc[TARGETS, ["n_cells", "highly_variable", "chromosome", "title"]].isna().all(axis=None)
    predict_anndata(model, adata).write_h5ad(tmp_path / "types.h5ad")
    read = read_h5ad(tmp_path / "types.h5ad").var
    assert read["highly_variable"].tolist()[:6] == [True, False] * 3


def test_profiles_in_another_order_are_noticed(adata):
    X, y = adata[:, LANDMARKS], adata[::-1, TARGETS]
    for fit in (KNNGeneRegressor().fit, DGEXRegressor(hidden_layer_sizes=2, max_iter=1).fit):
        with pytest.raises(ValueError, match=r"80 of 80 observations of X and y are not the same \(cell 0 and cell 79"):
            fit(X, y)
    with pytest.raises(ValueError, match="not the same"):
        DGEXRegressor(hidden_layer_sizes=2, max_iter=1).fit(X, adata[:, TARGETS], X_val=X, y_val=y)
    with pytest.raises(ValueError, match="not the same"):
        KNNGeneRegressor().fit(X, adata[:, TARGETS]).score(X, y)


def test_a_layer_holds_what_of_it_is_among_the_variables(adata, values, model, tmp_path):
    some = adata[:, [9, *range(6), 7]].copy()
    other = AnnData(
        np.ones((80, 1), np.float32), obs=adata.obs, var=pd.DataFrame(index=pd.Index(["MYC"], dtype=object))
    )
    wide = AnnData(
        np.hstack([some.X, other.X]),
        obs=adata.obs,
        var=pd.DataFrame(index=pd.Index([*some.var_names, "MYC"], dtype=object)),
    )
    with pytest.warns(UserWarning, match=r"2 of 4 targets are not among .* ENSG00000000100, ENSG00000000102"):
        assert predict_anndata(model, wide, to_layer="dgex") is wide
    expected = model.predict(pd.DataFrame(values[:, :6], columns=LANDMARKS))
    np.testing.assert_array_equal(wide.layers["dgex"][:, [0, 7]], expected[:, [3, 1]])
    np.testing.assert_array_equal(wide.layers["dgex"][:, 1:7], values[:, :6])
    assert np.isnan(wide.layers["dgex"][:, 8]).all()
    assert wide.var["role"].tolist()[:8] == ["target", *["landmark"] * 6, "target"]
    assert wide.var["role"].isna().tolist() == [False] * 8 + [True]
    np.testing.assert_array_equal(wide.X[:, :8], some.X)
    wide.write_h5ad(tmp_path / "wide.h5ad")
    with pytest.warns(UserWarning, match="2 of 4"):
        predict_anndata(model, wide, to_layer="again")  # its own column "role" is no obstacle
    # That column is about the layer: what was inferred there is measured in X.
    X, y = (
        pd.DataFrame(values[:, [9, *range(5)]], columns=wide.var_names[:6]),
        pd.DataFrame(values[:, [5]], columns=wide.var_names[[6]]),
    )
    predict_anndata(KNNGeneRegressor(n_neighbors=2).fit(X, y), wide, to_layer="of X")
    assert wide.var["role"].tolist()[:7] == [*["landmark"] * 6, "target"]


def test_a_layer_that_cannot_be_written_is_refused_before_anything_is_inferred(adata, model):
    with pytest.raises(ValueError, match="Got layer='counts' to read and to write"):
        predict_anndata(model, adata, layer="counts", to_layer="counts")
    with pytest.raises(ValueError, match="None of the 4 targets"):
        predict_anndata(model, adata[:, LANDMARKS].copy(), to_layer="dgex")
    with pytest.raises(ValueError, match=r"Got a view of an AnnData.*adata\.copy\(\)"):
        predict_anndata(model, adata[:40], to_layer="dgex")
    adata.var["role"] = "enzyme"
    with pytest.raises(ValueError, match=r"adata\.var has role of other content"):
        predict_anndata(model, adata, to_layer="dgex")
    assert "dgex" not in adata.layers


def test_columns_that_are_not_of_inference_are_kept(adata, values, model):
    X, y = (pd.DataFrame(values, columns=GENES)[names] for names in (LANDMARKS, TARGETS))
    target_reliability(model, X, y, store=True)
    try:
        adata.var["error"] = "none"
        with pytest.raises(ValueError, match=r"adata\.var has error of other content"):
            predict_anndata(model, adata, to_layer="dgex")
        assert set(adata.var["error"]) == {"none"}
        with pytest.warns(UserWarning, match="The result has error of its own"):
            predict_anndata(model, adata)
        del adata.var["error"]
        predict_anndata(model, adata, to_layer="dgex")
        predict_anndata(model, adata, to_layer="dgex")  # its own columns are no obstacle
    finally:
        del model.target_reliability_


def test_the_result_shares_nothing_with_its_source(adata, model):
    adata.obsm["P"], adata.uns["k"], adata.uns["lock"] = np.zeros((80, 2)), {"v": [1]}, threading.Lock()
    for source in (adata, adata[:40]):
        inferred = predict_anndata(model, source)
        inferred.obsm["P"][0, 0] = 7
        inferred.uns["k"]["v"].append(2)
        assert inferred.obsm["P"][0, 0] == 7
        assert source.obsm["P"][0, 0] == 0
        assert source.uns["k"]["v"] == [1]


def test_a_measured_landmark_is_not_overwritten_by_a_target_of_another_version(values):
    X, y = values[:, :2], values[:, 2:4]
    genes = ["ENSG00000000001.1", "ENSG00000000002.1"], ["ENSG00000000001.2", "ENSG00000000003"]
    model = KNNGeneRegressor(n_neighbors=1).fit(pd.DataFrame(X, columns=genes[0]), pd.DataFrame(y, columns=genes[1]))
    names = pd.Index([f"ENSG0000000000{number}" for number in (1, 2, 3)], dtype=object)
    adata = AnnData(values[:, :3], var=pd.DataFrame(index=names))
    with pytest.warns(UserWarning, match="1 of 2 targets are not among the variables"):
        predict_anndata(model, adata, to_layer="dgex")
    np.testing.assert_array_equal(adata.layers["dgex"][:, :2], X)
    assert adata.var["role"].tolist() == ["landmark", "landmark", "target"]


def test_expression_can_be_in_a_layer(adata, values, model):
    adata.layers["log2"] = adata.X
    adata.X = np.zeros_like(adata.X)
    inferred = predict_anndata(model, adata, layer="log2")
    np.testing.assert_array_equal(inferred[:, LANDMARKS].X, values[:, :6])
    assert open_expression(adata, layer="counts").read("cell 3", GENES[:2]).tolist() == [[7, 7]]
    with pytest.raises(ValueError, match="Got layer='raw', but the AnnData has 'counts', 'log2'"):
        predict_anndata(model, adata, layer="raw")


def test_missing_landmarks_are_treated_as_in_files(adata, model, values):
    with pytest.raises(ValueError, match="2 of 6 landmarks are not in AnnData: ENSG00000000000, ENSG00000000001"):
        predict_anndata(model, adata[:, 2:])
    with pytest.warns(UserWarning, match="2 of 6 landmarks are not in AnnData and have the mean"):
        inferred = predict_anndata(model, adata[:, 2:], missing="mean")
    assert inferred.var["role"].tolist() == ["imputed"] * 2 + ["landmark"] * 4 + ["target"] * 4
    np.testing.assert_allclose(inferred[:, LANDMARKS[0]].X, model.landmark_mean_[0], rtol=1e-6)
    ridge = Ridge().fit(values[:, :6], values[:, 6:])
    with pytest.raises(ValueError, match=r"without names of genes\. Pass landmark_names"):
        predict_anndata(ridge, adata)
    named = predict_anndata(ridge, adata, landmark_names=LANDMARKS, target_names=TARGETS)
    np.testing.assert_allclose(named[:, TARGETS].X, ridge.predict(values[:, :6]), rtol=1e-5)


def test_an_anndata_can_be_the_source_of_a_file(adata, model, tmp_path, capsys):
    path = predict_to_file(model, adata, tmp_path / "inferred.h5ad", verbose=False)
    inferred = predict_anndata(model, adata, verbose=True)
    assert "80 profiles in" in capsys.readouterr().err
    written = read_h5ad(path)
    np.testing.assert_array_equal(written.X, inferred.X)
    assert written.var["role"].tolist() == inferred.var["role"].tolist()
    assert written.obs["cell type"].tolist() == adata.obs["cell type"].tolist()
    backed = read_h5ad(path, backed="r")
    with pytest.raises(ValueError, match="expected two files"):
        predict_to_file(model, backed, path)
    backed.file.close()


def test_a_sparse_file_is_read_in_parts(adata, values, model, tmp_path):
    sparse = AnnData(csr_matrix(values), obs=adata.obs, var=adata.var)
    sparse.write_h5ad(tmp_path / "sparse.h5ad")
    backed = read_h5ad(tmp_path / "sparse.h5ad", backed="r")
    np.testing.assert_array_equal(predict_anndata(model, backed).X, predict_anndata(model, adata).X)
    backed.file.close()


def test_open_expression_reads_it_like_a_file(adata, values):
    with open_expression(adata) as source:
        assert repr(source) == "<AnnData object: 80 profiles x 10 genes>"
        assert source.profile_metadata["cell type"][:2].tolist() == ["B", "T"]
        np.testing.assert_array_equal(
            source.read(["cell 5", "cell 2"], [GENES[7], GENES[0]]), values[[5, 2]][:, [7, 0]]
        )
        np.testing.assert_array_equal(np.vstack([X for _, X in source.chunks(30)]), values)


def described(adata):
    """Metadata of types that are easily lost."""
    adata = adata.copy()
    stages = pd.Index(["mid", "low", "high"], dtype=object)
    adata.obs["flag"] = [True, False] * 40
    adata.obs["known"] = pd.array([True, None] * 40, dtype="boolean")
    adata.obs["stage"] = pd.Categorical.from_codes([0, 1, 2, -1] * 20, categories=stages, ordered=True)
    adata.obs["cluster"] = pd.Categorical([3, 1, 2, 1] * 20)
    adata.obs["when"] = pd.date_range("2020-01-01", periods=80)
    adata.var["entrez"] = np.arange(10) + 2**60 + 1
    adata.var["kind"] = pd.Categorical(["b", "a"] * 5, categories=pd.Index(["b", "a", "c"], dtype=object))
    return adata


def test_types_of_metadata_come_out_of_a_file_as_they_went_in(adata, model, tmp_path):
    given = described(adata)
    path = predict_to_file(model, given, tmp_path / "inferred.h5ad", verbose=False)
    written = read_h5ad(path)
    for name in ("flag", "known"):
        pd.testing.assert_series_equal(written.obs[name], given.obs[name], check_index_type=False)
    for name in ("stage", "cluster"):
        got, expected = written.obs[name].array, given.obs[name].array
        assert (got.ordered, got.codes.tolist()) == (expected.ordered, expected.codes.tolist())
        assert got.categories.tolist() == expected.categories.tolist()
    assert written[written.obs["flag"]].obs_names.tolist() == given[given.obs["flag"]].obs_names.tolist()
    assert written.obs["when"].iloc[1] == "2020-01-02 00:00:00"
    assert written.var["entrez"].tolist()[:6] == given.var["entrez"].tolist()[:6]
    assert written.var["highly_variable"].dtype == "boolean"
    assert written.var["highly_variable"].tolist()[:6] == [True, False] * 3
    assert written.var["kind"].cat.categories.tolist() == ["b", "a", "c"]
    for frame in (written.var["entrez"], written.var["highly_variable"], written.var["kind"]):
        assert frame.isna().tolist() == [False] * 6 + [True] * 4


def test_booleans_and_large_numbers_come_out_of_parquet(adata, model, tmp_path):
    given = described(adata)
    path = predict_to_file(model, given, tmp_path / "inferred.parquet", verbose=False)
    assert pd.read_parquet(path)["flag"].tolist() == given.obs["flag"].tolist()
    with open_expression(path) as file:
        assert file.profile_metadata["flag"].dtype == bool
        assert file.profile_metadata["known"].tolist() == [True, None] * 40
        assert file.gene_metadata["entrez"].tolist() == [*given.var["entrez"].tolist()[:6], *[None] * 4]
        assert file.gene_metadata["highly_variable"].tolist() == [True, False] * 3 + [None] * 4


@pytest.mark.parametrize("ending", [".h5ad", ".gctx"])
def test_a_finished_file_is_kept_whatever_the_format_makes_of_metadata(adata, model, ending, tmp_path):
    given = described(adata)
    given.obs["minus"] = np.where(np.arange(80) % 2, -666.0, 5)
    given.obs["missing"] = np.where(np.arange(80) % 2, -666, 5)
    given.obs["spaces"] = ["a ", " b", "", "-666"] * 20
    given.obs["digits"] = ["1", "2.50", "1e3", "nan"] * 20
    given.obs["unsigned"] = np.arange(80, dtype=np.uint64) + 2**63
    path = tmp_path / f"y{ending}"
    predict_to_file(model, given, path, resume=True, verbose=False)
    written = path.stat().st_ino
    predict_to_file(model, given, path, resume=True, verbose=False)
    assert path.stat().st_ino == written
    given.obs["stage"] = given.obs["stage"].cat.reorder_categories(["low", "mid", "high"])
    predict_to_file(model, given, path, resume=True, verbose=False)
    assert (path.stat().st_ino == written) == (ending == ".gctx")  # which has no order to keep
    given.obs["flag"] = ~given.obs["flag"]
    written = path.stat().st_ino
    predict_to_file(model, given, path, resume=True, verbose=False)
    assert path.stat().st_ino != written


def test_numbers_beyond_single_precision_are_refused(adata, model, tmp_path):
    given = adata.copy()
    given.X = given.X.astype(np.float64)
    given.X[3, 2] = -1e39
    message = rf"Got -1e\+39 for the gene {LANDMARKS[2]} of the profile cell 3, but expected numbers below 3.4e38"
    with pytest.raises(ValueError, match=message):
        predict_anndata(model, given)
    with pytest.raises(ValueError, match=message):
        predict_to_file(model, given, tmp_path / "y.h5ad", verbose=False)
    assert not list(tmp_path.iterdir())


def test_few_profiles_of_many_genes_are_read_at_a_time(values, monkeypatch):
    model = KNNGeneRegressor().fit(
        pd.DataFrame(values[:, :6], columns=LANDMARKS), pd.DataFrame(values[:, 6:], columns=TARGETS)
    )
    monkeypatch.setattr(_plan, "CHUNK_BYTES", 4 * 10 * 4000)
    for n_genes, n_profiles in ((10, 3584), (40, 1000 // 512 * 512), (4000, 512)):
        wide = AnnData(np.zeros((1, n_genes), np.float32))
        wide.var_names = [*LANDMARKS, *(f"other {number}" for number in range(n_genes - 6))]
        assert _plan.inference_plan(model, open_expression(wide), None, None, "raise").chunk_size == n_profiles
