import numpy as np
import pandas as pd
import polars as pl
import pytest

from dgex import _near_duplicates, preprocessing


def test_probes_are_averaged_by_gene():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, 20)).astype(np.float32)
    probes = [f"p{i}" for i in range(20)]
    genes = {"A": ["p3"], "B": ["p0", "p7", "p19"], "C": ["p7", "p8"]}
    expression, names = preprocessing.collapse_probes(X, probes, genes)
    assert names.tolist() == ["A", "B", "C"]
    assert expression.dtype == np.float32
    for column, gene in enumerate(names):
        members = [probes.index(probe) for probe in genes[gene]]
        np.testing.assert_allclose(expression[:, column], X[:, members].mean(axis=1), rtol=1e-6)


def test_probes_that_are_missing():
    X = np.ones((2, 2))
    genes = {"A": ["p0", "p9"], "B": ["p8"], "C": ["p1"]}
    with pytest.raises(ValueError, match="Got 2 columns and 3 probe names"):
        preprocessing.collapse_probes(X, ["b", "a", "c"], {"gene": ["b"]})
    with pytest.raises(ValueError, match=r"2 probes are not in the data: p9, p8"):
        preprocessing.collapse_probes(X, ["p0", "p1"], genes)
    expression, names = preprocessing.collapse_probes(X, ["p0", "p1"], genes, missing="ignore")
    assert names.tolist() == ["A", "C"]
    assert expression.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="No gene has a probe"):
        preprocessing.collapse_probes(X, ["x", "y"], genes, missing="ignore")
    with pytest.raises(ValueError, match="Got 1 probe name more than once"):
        preprocessing.collapse_probes(X, ["p0", "p0"], genes)
    with pytest.raises(ValueError, match="Got 2 columns and 3 probe names"):
        preprocessing.collapse_probes(X, ["p0", "p1", "p2"], genes)


def compendium(n_profiles=200, n_genes=300, dtype=np.float32):
    """Profiles of which every tenth repeats an earlier one, at distance about 0.9, far from the others."""
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (n_profiles, n_genes))
    truth = np.zeros(n_profiles, dtype=bool)
    for row in range(10, n_profiles, 10):
        step = rng.normal(size=n_genes)
        X[row] = X[row - 7] + 0.9 * step / np.linalg.norm(step)
        truth[row] = True
    return X.astype(dtype), truth


@pytest.mark.parametrize("method", ["exact", "kmeans"])
def test_near_duplicates_are_found(method):
    X, truth = compendium()
    found = preprocessing.find_near_duplicates(X, method=method, n_clusters=10, random_state=0)
    np.testing.assert_array_equal(found, truth)


def test_exact_near_duplicates_equal_all_distances(monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(150, 2))
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    expected = (np.tril(distances < 0.3, k=-1)).any(axis=1)
    assert 10 < expected.sum() < 140
    np.testing.assert_array_equal(preprocessing.find_near_duplicates(X, threshold=0.3, method="exact"), expected)
    monkeypatch.setattr(_near_duplicates, "BLOCK_ROWS", 13)
    np.testing.assert_array_equal(preprocessing.find_near_duplicates(X, threshold=0.3, method="exact"), expected)


def test_a_profile_is_dropped_for_an_earlier_one_that_is_dropped_itself():
    # As in the paper: 0.0, 0.8 and 1.6 are a chain with threshold 1.
    found = preprocessing.find_near_duplicates([[0.0], [0.8], [1.6], [9.0]], method="exact")
    assert found.tolist() == [False, True, True, False]


def test_the_threshold_itself_is_not_closer():
    assert not preprocessing.find_near_duplicates([[0.0], [1.0]], method="exact").any()
    assert preprocessing.find_near_duplicates([[0.0], [1.0]], threshold=1.0001, method="exact").any()


def test_versions_are_stripped_and_nothing_else():
    genes = ["ENSG00000141510.16", "ENSMUSG00000059552.1", "ENSG00000002586.20_PAR_Y", "HLA-DRB1.2", "ENSG00000141510"]
    assert preprocessing.strip_version(genes).tolist() == [
        "ENSG00000141510",
        "ENSMUSG00000059552",
        "ENSG00000002586_PAR_Y",
        "HLA-DRB1.2",
        "ENSG00000141510",
    ]


def test_common_genes_and_alignment_of_two_platforms():
    first = ["ENSG00000003", "ENSG00000001", "ENSG00000002"]
    second = ["ENSG00000001.5", "ENSG00000009.1", "ENSG00000003.2"]
    shared = preprocessing.common_genes(first, second)
    assert shared.tolist() == ["ENSG00000003", "ENSG00000001"]
    X = np.arange(6.0).reshape(2, 3)
    assert preprocessing.align_genes(X, shared, genes=first).tolist() == [[0, 1], [3, 4]]
    assert preprocessing.align_genes(X, shared, genes=second).tolist() == [[2, 0], [5, 3]]


def test_alignment_of_frames_and_missing_genes():
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["B", "A", "C"], index=["S1"])
    aligned = preprocessing.align_genes(frame, ["A", "B"])
    assert aligned.columns.tolist() == ["A", "B"]
    assert aligned.index.tolist() == ["S1"]
    with pytest.raises(ValueError, match="2 of 3 genes are not in the data: X, Y"):
        preprocessing.align_genes(frame, ["X", "A", "Y"])
    filled = preprocessing.align_genes(frame, ["X", "A"], missing="nan")
    assert np.isnan(filled.loc["S1", "X"])
    assert filled.loc["S1", "A"] == 2.0
    with pytest.raises(ValueError, match="Got an array without gene names"):
        preprocessing.align_genes(frame.to_numpy(), ["A"])


def test_alignment_prefers_the_exact_name_and_refuses_ambiguity():
    genes = ["ENSG00000001.1", "ENSG00000001.2"]
    X = [[1.0, 2.0]]
    assert preprocessing.align_genes(X, ["ENSG00000001.2"], genes=genes).tolist() == [[2.0]]
    with pytest.raises(ValueError, match="Got 1 gene name more than once"):
        preprocessing.align_genes(X, ["ENSG00000001"], genes=genes)


def test_platforms_are_standardized_by_their_own_statistics():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(8, 2, (40, 5)), rng.normal(100, 30, (25, 5))])
    X[:, 4] = 3.0
    labels = np.array(["array"] * 40 + ["RNA-seq"] * 25)
    order = rng.permutation(65)
    Z = preprocessing.standardize_platforms(X[order], labels[order])
    for platform in ("array", "RNA-seq"):
        block = X[labels == platform]
        expected = (block - block.mean(0)) / (block.std(0) + 1e-3)
        np.testing.assert_allclose(
            Z[labels[order] == platform], expected[np.argsort(np.argsort(order[labels[order] == platform]))], atol=1e-9
        )
    assert not Z[:, 4].any()
    with pytest.raises(ValueError, match="expected one label each"):
        preprocessing.standardize_platforms(X, labels[:3])


def test_statistics_equal_numpy_in_float64(monkeypatch):
    from dgex import _statistics

    rng = np.random.default_rng(0)
    X = rng.normal(1e4, 1.0, (500, 30)).astype(np.float32)
    rows = np.sort(rng.choice(500, 200, replace=False))
    monkeypatch.setattr(_statistics, "BLOCK_BYTES", 10_000)
    for chosen in (None, rows):
        block = (X if chosen is None else X[chosen]).astype(np.float64)
        mean, deviation = _statistics.gene_statistics(X, chosen)
        np.testing.assert_allclose(mean, block.mean(0), rtol=1e-13)
        np.testing.assert_allclose(deviation, block.std(0), rtol=1e-9)


def test_the_deviation_of_a_constant_gene_is_exactly_zero():
    from dgex._statistics import gene_statistics

    X = np.full((1001, 3), [0.1, 1e6 / 3, -7.7])
    assert gene_statistics(X)[1].tolist() == [0, 0, 0]


def test_preparing_the_human_arrays(data_folder):
    arrays = np.load(data_folder / "human_affy_u133_geo.npz", allow_pickle=False)
    table = pd.read_csv(data_folder / "genes.tsv", sep="\t")
    genes = {row.symbol: row.probes.split(",") for row in table[table.role == "landmark"].itertuples()}
    expression, names = preprocessing.collapse_probes(arrays["X"], arrays["probes"], genes)
    assert expression.shape == (437, len(names)) == (437, 943)
    by_hand = arrays["X"][:, arrays["probes"] == genes["UBE2C"][0]][:, 0]
    np.testing.assert_array_equal(expression[:, names == "UBE2C"][:, 0], by_hand)


def test_standardizing_counts_lists_and_frames_is_exact():
    counts = np.random.default_rng(0).poisson(20, (50, 6))
    expected = (counts - counts.mean(axis=0)) / (counts.std(axis=0) + 1e-3)
    for data in (counts, counts.tolist(), pd.DataFrame(counts), pl.DataFrame(counts)):
        np.testing.assert_allclose(
            preprocessing.standardized(data, *preprocessing.gene_scaling(data)), expected, rtol=1e-12
        )
    with pytest.raises(ValueError, match=r"shapes \(5,\) and \(6,\), but expected one number for each of the 6"):
        preprocessing.standardized(counts, np.zeros(5), np.ones(6))


def test_a_constant_gene_is_divided_by_one():
    mean, scale = preprocessing.gene_scaling([[7.1, 1.0], [7.1, 3.0]])
    np.testing.assert_allclose(mean, [7.1, 2])
    np.testing.assert_allclose(scale, [1, 1.001])


def test_text_for_a_list_and_a_column_for_two_genes_are_refused():
    with pytest.raises(ValueError, match="Got text for the probes of G"):
        preprocessing.collapse_probes([[1.0, 2.0]], ["a", "b"], {"G": "ab"})
    with pytest.raises(ValueError, match="expected a sequence of identifiers"):
        preprocessing.strip_version("ENSG00000000001.3")
    with pytest.raises(ValueError, match=r"1 columns are wanted for several genes \(ENSG1.3\)"):
        preprocessing.align_genes([[1.0, 2.0]], ["ENSG1.1", "ENSG1.2"], genes=["ENSG1.3", "ENSG2"])


@pytest.mark.parametrize("missing", [None, np.nan])
def test_profiles_without_a_platform_are_counted(missing):
    with pytest.raises(ValueError, match=r"2 of 5 profiles have no platform \(rows 3, 4\)"):
        preprocessing.standardize_platforms(np.ones((5, 2)), np.array(["a", "a", "b", missing, missing], dtype=object))


def test_repeated_names_that_are_not_needed_are_no_error():
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "a", "b"])
    assert preprocessing.align_genes(frame, ["b"]).to_numpy().tolist() == [[3.0]]
    assert preprocessing.gene_scaling(frame)[0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="more than once"):
        preprocessing.align_genes(frame, ["a"])


@pytest.mark.parametrize(
    "platforms",
    [
        ["a", "a", "b", np.nan],
        ["a", "a", "b", None],
        pd.Series(["a", "a", "b", None], dtype="string"),
        pd.Series([1, 1, 2, None], dtype="Int64"),
        pd.Categorical(["a", "a", "b", None]),
    ],
)
def test_profiles_without_a_platform_are_refused(platforms):
    X = [[1.0], [3.0], [10.0], [30.0]]
    with pytest.raises(ValueError, match=r"1 of 4 profiles have no platform \(rows 3\)"):
        preprocessing.standardize_platforms(X, platforms)
    known = preprocessing.standardize_platforms(X, np.array([1, 1, 2, 2]))
    np.testing.assert_array_equal(
        preprocessing.standardize_platforms(X, pd.Series(["a", "a", "b", "b"], dtype="string")), known
    )


def test_labels_and_statistics_of_other_rows_or_genes_are_refused():
    names = [f"s{number}" for number in range(6)]
    X = pd.DataFrame(np.arange(12.0).reshape(6, 2), index=names, columns=["a", "b"])
    platforms = pd.Series(["array", "counts"] * 3, index=names)
    expected = preprocessing.standardize_platforms(X.to_numpy(), platforms.to_numpy())
    np.testing.assert_array_equal(preprocessing.standardize_platforms(X, platforms), expected)
    with pytest.raises(ValueError, match=r"6 of 6 rows of X and platforms .* platforms.loc\[X.index\]"):
        preprocessing.standardize_platforms(X, platforms[::-1])
    mean, scale = X.mean(), X.std()
    assert preprocessing.standardized(X, mean, scale).shape == (6, 2)
    with pytest.raises(ValueError, match=r"Got a scale of other genes, or in another order. Pass scale\[X.columns\]"):
        preprocessing.standardized(X, mean, scale[::-1])
    assert preprocessing.collapse_probes(X, ["a", "b"], {"gene": ["b"]})[0].ravel().tolist() == X["b"].tolist()
    assert preprocessing.collapse_probes(X, ["p", "q"], {"gene": ["q"]})[0].ravel().tolist() == X["b"].tolist()
    with pytest.raises(ValueError, match="Got 2 columns and 3 probe names"):
        preprocessing.collapse_probes(X, ["b", "a", "c"], {"gene": ["b"]})
    with pytest.raises(ValueError, match=r"2 probes are not where they are in X \(b, a\). Pass probes=X.columns"):
        preprocessing.collapse_probes(X, ["b", "a"], {"gene": ["b"]})
