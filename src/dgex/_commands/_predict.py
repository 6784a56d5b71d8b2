"""`predict`: from a file of landmarks to a file of all genes."""

from __future__ import annotations

from typing import Any

from dgex.inference import predict_to_file
from dgex.io import open_expression
from dgex.persistence import is_model_file, load_model


def predict(model: str, source: str, destination: str, *, rows: str, layer: str | None, **options: Any) -> None:
    """Infer the targets of a file's profiles into another file."""
    predictor = fitted_model(model)
    with open_expression(source, rows=rows, layer=layer) as file:
        predict_to_file(predictor, file, destination, **options)


def fitted_model(path: str) -> Any:
    """A model that was saved, or the linear one of a matrix of weights."""
    if is_model_file(path):
        return load_model(path)
    from dgex.recipes import cmap_linear

    return cmap_linear(path)
