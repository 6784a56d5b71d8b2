"""`predict`: from a file of landmarks to a file of all genes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgex._commands._genes import gene_list
from dgex._files import require_destination
from dgex.inference import predict_to_file
from dgex.io import open_expression
from dgex.persistence import is_model_file, load_model


def predict(
    model: str,
    source: str,
    destination: str,
    *,
    landmarks: str | None,
    targets: str | None,
    missing: str,
    compression: int,
    resume: bool,
    verbose: bool,
    **reading: Any,
) -> None:
    """Infer the targets of a file's profiles into another file."""
    require_destination(Path(destination), model, source, landmarks, targets)
    predictor, names = fitted_model(model), gene_names(landmarks, targets)
    with open_expression(source, **reading) as file:
        predict_to_file(
            predictor,
            file,
            destination,
            **names,
            missing=missing,
            compression=compression,
            resume=resume,
            verbose=verbose,
        )


def gene_names(landmarks: str | None, targets: str | None) -> dict[str, Any]:
    """Names of a model's genes, for models that were fitted without."""
    given = {"landmark_names": landmarks, "target_names": targets}
    return {name: gene_list(path) for name, path in given.items() if path is not None}


def fitted_model(path: str) -> Any:
    """A model that was saved, or the linear one of a matrix of weights."""
    if is_model_file(path):
        return load_model(path)
    from dgex.recipes import cmap_linear

    try:
        return cmap_linear(path)
    except ValueError as error:
        raise ValueError(f"{path} is no model that dgex has saved, and no matrix of weights: {error}") from error


def is_weights(path: str) -> bool:
    """Whether a file is a matrix of weights, by its row or column of intercepts."""
    from dgex.recipes import INTERCEPTS

    try:
        with open_expression(path, rows="profiles") as file:
            return not INTERCEPTS.isdisjoint(name.lower() for name in (*file.profile_ids, *file.gene_ids))
    except ValueError:
        return False
