"""The examples whose protocols are repeated."""

import importlib.util
from pathlib import Path
from types import ModuleType


def arrays_to_rnaseq() -> ModuleType:
    """examples/02_arrays_to_rnaseq.py as a module."""
    path = Path(__file__).parents[1] / "examples" / "02_arrays_to_rnaseq.py"
    specification = importlib.util.spec_from_file_location("arrays_to_rnaseq", path)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    return example
