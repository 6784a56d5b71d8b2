"""Infer 1,000 target genes from 100 landmark genes: on arrays, and on RNA-seq with the model trained on arrays.

Everything is generated. Takes about half a minute on two cores.
"""

import numpy as np
from sklearn.linear_model import LinearRegression

from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer
from dgex.datasets import make_expression_profiles
from dgex.metrics import comparison_table
from dgex.preprocessing import gene_scaling, standardized

N_LANDMARKS = 100


def main(n_profiles: int = 4000, n_targets: int = 1000, max_iter: int = 60) -> None:
    """Generate, normalize, train, infer, and print how well each model does."""
    size = {"n_profiles": n_profiles, "n_landmarks": N_LANDMARKS, "n_targets": n_targets, "random_state": 0}
    arrays, rnaseq = (
        np.hstack([profiles.X, profiles.y])
        for profiles in (
            make_expression_profiles(platform="array", **size),
            make_expression_profiles(platform="counts", **size),
        )
    )
    # Half of the samples to train on; a quarter of them to select the epoch on, and one to test on. RNA-seq is not
    # trained on.
    train, select, test = np.split(np.arange(n_profiles), [n_profiles // 2, 3 * n_profiles // 4])
    print(
        f"{n_profiles} profiles x ({N_LANDMARKS} landmark + {n_targets} target genes), trained on {len(train)} arrays."
    )

    # Give every profile, of either platform, the distribution of the training arrays.
    normalizer = QuantileJointNormalizer().fit(arrays[train])
    arrays = normalizer.transform(arrays)
    rnaseq = QuantileJointNormalizer(ties="dense", reference=normalizer.reference_quantiles_).fit_transform(rnaseq)

    # Standardize each platform by its own statistics, as the paper does.
    arrays = standardized(arrays, *gene_scaling(arrays[train]))
    rnaseq = standardized(rnaseq, *gene_scaling(rnaseq[select]))
    X, y = np.split(arrays, [N_LANDMARKS], axis=1)
    X_rnaseq, y_rnaseq = np.split(rnaseq, [N_LANDMARKS], axis=1)

    # One training run, one selected epoch per platform.
    network = DGEXRegressor(hidden_layer_sizes=(1000,), max_iter=max_iter, standardize=False, random_state=0)
    network.fit(X[train], y[train], X_val=(X[select], X_rnaseq[select]), y_val=(y[select], y_rnaseq[select]))
    linear = LinearRegression().fit(X[train], y[train])
    nearest_genes = KNNGeneRegressor(n_neighbors=5).fit(X[train], y[train])

    for title, validation_set, landmarks, targets in (
        ("Held-out arrays", 0, X[test], y[test]),
        ("RNA-seq of the same samples", 1, X_rnaseq[test], y_rnaseq[test]),
    ):
        predictions = {
            "least squares": linear.predict(landmarks),
            "KNN-GE": nearest_genes.predict(landmarks),
            "DGEXRegressor": network.best_model(validation_set).predict(landmarks),
        }
        print(f"\n{title}: mean absolute error on standardized expression\n")
        print(comparison_table(targets, predictions))


if __name__ == "__main__":
    main()
