"""`info`: what is in files of expression and of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgex._progress import amount
from dgex._validation import listed
from dgex.io import ExpressionFile, open_expression
from dgex.persistence import is_model_file, model_summary

# Profiles that values are taken from.
SAMPLE = 100


def info(files: Sequence[str], **reading: Any) -> None:
    """Print what is in each file; of those that cannot be read, why, at the end."""
    failures = []
    for number, path in enumerate(files):
        try:
            title, lines = described(path, reading)
        except (ValueError, OSError, ImportError) as error:
            failures.append(str(error))
            continue
        if number > len(failures):
            print()
        print(title)
        for name, text in lines:
            print(f"  {name:<20} {text}")
    if failures:
        raise ValueError("\n".join(failures))


def described(path: str, reading: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """A title and what belongs to it."""
    size = amount(Path(path).stat().st_size, "B")
    if is_model_file(path):
        return f"{path}: model of dgex, {size}", list(model_lines(model_summary(path)))
    with open_expression(path, **reading) as file:
        n_profiles, n_genes = file.shape
        title = f"{path}: {file.format}, {n_profiles:,} profiles x {n_genes:,} genes, {size}"
        return title, list(expression_lines(file))


def expression_lines(file: ExpressionFile) -> Iterator[tuple[str, str]]:
    """What a file of expression holds."""
    yield "profiles", listed(file.profile_ids)
    yield "genes", listed(file.gene_ids)
    for title, columns in (("profile metadata", file.profile_metadata), ("gene metadata", file.gene_metadata)):
        yield title, ", ".join(columns) or "none"
    values = file.read(slice(SAMPLE))
    known = values[~np.isnan(values)]
    of = f", of the first {SAMPLE} profiles" if len(file.profile_ids) > SAMPLE else ""
    if len(known):
        whole = ", whole numbers" if np.array_equal(known, np.rint(known)) else ""
        yield "values", f"{known.min():.4g} to {known.max():.4g}, median {np.median(known):.4g}{whole}{of}"
    yield "missing values", f"{1 - len(known) / values.size:.2%}{of}"


def model_lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a file of a model holds."""
    yield "model", str(summary["model"])
    for name in ("landmarks", "targets"):
        if summary.get(f"n_{name}") is not None:
            yield name, f"{summary[f'n_{name}']:,}"
    yield "written by", ", ".join(f"{name} {version}" for name, version in summary["written by"].items())
