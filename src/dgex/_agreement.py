"""What processes that train one model together must have in common."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dgex._checksums import checksum
from dgex._closed_form import Arrays
from dgex._training import TrainingRun

# Characters of a parameter that processes tell each other.
LONGEST_VALUE = 100


def equal_facts(model: Any, profiles: Arrays, sets: Sequence[Arrays], *, going_on: bool) -> dict[str, Any]:
    """What has to be the same in all processes that train together."""
    (X, y), parameters = profiles, model.get_params(deep=False)
    landmark_names = getattr(model, "feature_names_in_", None)
    names = [None if names is None else list(map(str, names)) for names in (landmark_names, model.target_names_)]
    return {
        "X of shape": X.shape,
        "y of shape": y.shape,
        "validation sets of shapes": [(X_val.shape, y_val.shape) for X_val, y_val in sets],
        "expression with a checksum of": checksum(array for pair in (profiles, *sets) for array in pair),
        "gene names with a checksum of": zlib.crc32(json.dumps(names).encode()),
        "a model to go on with, with a checksum of": run_checksum(model) if going_on else None,
        "callbacks of types": [type(callback).__name__ for callback in getattr(model, "_skl_callbacks", ())],
        **{f"{name} =": shortened(parameters[name]) for name in parameters.keys() - {"random_state", "verbose"}},
    }


def shortened(value: Any) -> str:
    """What a parameter is, for comparing and for messages."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... (checksum {zlib.crc32(text.encode())})"


def run_checksum(model: Any) -> int:
    """A number that tells the training runs of two estimators apart."""
    run: TrainingRun = model._run
    numbers = [run.seed, run.epoch, run.step, *(error for record in run.best for error in record.errors)]
    weights = [array for layer in run.state.parameters for array in layer]
    arrays = [numbers, model.partition_, model.landmark_scale_, model.target_scale_, *weights, *run.state.optimizer]
    return checksum(map(np.atleast_1d, arrays))
