"""The examples whose protocols are repeated."""

import importlib.util
from pathlib import Path
from types import ModuleType


def arrays_to_rnaseq() -> ModuleType:
    """examples/02_arrays_to_rnaseq.py as a module."""
    return example("02_arrays_to_rnaseq")


def example(name: str) -> ModuleType:
    """An example as a module."""
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    return example
