"""`compare`: how well models, or files of inferred expression, agree with what was measured."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dgex._base import last_step
from dgex._commands._genes import opened_beside
from dgex._commands._predict import fitted_model, gene_names, is_weights
from dgex._files import require_destination, whole
from dgex._plan import inference_plan, roles_before, warn_of_inferred
from dgex._validation import listed, warn_user
from dgex.io import ExpressionFile, open_expression
from dgex.metrics import comparison_table, genewise_correlation, genewise_mae
from dgex.persistence import is_model_file
from dgex.preprocessing import find_genes


class Candidate(ABC):
    """Inferred expression of the profiles that were measured."""

    targets: np.ndarray
    landmarks: np.ndarray

    @abstractmethod
    def read(self, genes: np.ndarray) -> np.ndarray:
        """Inferred expression of some targets, by position, for all profiles measured."""

    def scale(self, genes: np.ndarray) -> np.ndarray | None:
        """Standard deviations of some targets in training, if they are known."""
        return None


class FittedModel(Candidate):
    """What a model infers."""

    def __init__(self, model: Any, measured: ExpressionFile, names: dict[str, Any]):
        self.plan = inference_plan(model, measured, **names)
        self.targets, self.landmarks = self.plan.targets, self.plan.landmarks

    def read(self, genes: np.ndarray) -> np.ndarray:
        """Infer them, some profiles at a time."""
        columns = len(self.landmarks) + genes
        return np.concatenate([self.plan.infer(self.plan.read(rows))[:, columns] for rows in self.plan.chunks(0)])

    def scale(self, genes: np.ndarray) -> np.ndarray | None:
        """Those that the model standardizes by."""
        last = last_step(self.plan.model)
        if not getattr(last, "standardize", False):
            return None
        scale: np.ndarray = last.target_scale_[self.plan.inferred[genes]]
        return scale


class InferredFile(Candidate):
    """What was inferred before."""

    def __init__(self, file: ExpressionFile, measured: ExpressionFile):
        self.file = file
        self.profiles = measured.profile_ids
        roles = roles_before(file)
        if roles is not None:
            is_target = np.array([role == "target" for role in roles])
        else:
            is_target = ~copied(file, measured)
            if not is_target.all():
                warn_user(
                    f"{file.path} does not say which genes are landmarks; {np.count_nonzero(~is_target)} genes that "
                    f"equal what was measured are taken for that: {listed(file.gene_ids[~is_target])}."
                )
        self.targets, self.landmarks = file.gene_ids[is_target], file.gene_ids[~is_target]

    def read(self, genes: np.ndarray) -> np.ndarray:
        """Look them up by the profiles' names."""
        return self.file.read(self.profiles, self.targets[genes])


def copied(file: ExpressionFile, measured: ExpressionFile) -> np.ndarray:
    """Which genes of a file have exactly the values that were measured, in the profiles of the latter."""
    columns = find_genes(file.gene_ids, measured.gene_ids)
    both = np.flatnonzero(columns >= 0)
    equal = np.zeros(len(columns), dtype=bool)
    inferred, truth = file.read(measured.profile_ids, both), measured.read(genes=columns[both])
    equal[both] = (inferred.astype(np.float32) == truth.astype(np.float32)).all(axis=0)
    return equal


def compare(
    measured: str,
    candidates: Sequence[str],
    *,
    baseline: str | None,
    standardized: bool,
    output: str | None,
    by_gene: str | None,
    landmarks: str | None,
    targets: str | None,
    missing: str,
    **reading: Any,
) -> None:
    """Print, and write, how far each candidate is from what was measured."""
    paths = named_paths(candidates)
    for destination in (output, by_gene):
        if destination is not None:
            require_destination(Path(destination), measured, *paths.values(), landmarks, targets)
    if output is not None and by_gene is not None and Path(output).resolve() == Path(by_gene).resolve():
        raise ValueError(f"Got {output} for both tables, but expected two files.")
    if baseline is not None and baseline not in paths:
        raise ValueError(f"Got baseline={baseline!r}, but expected one of: {', '.join(paths)}.")
    names = {"landmark_names": None, "target_names": None, **gene_names(landmarks, targets), "missing": missing}
    with ExitStack() as opened:
        truth = opened.enter_context(open_expression(measured, **reading))
        named = {name: opened.enter_context(candidate(path, truth, names, reading)) for name, path in paths.items()}
        genes, places = genes_in_common(truth, named)
        warn_of_inferred(truth, find_genes(genes, truth.gene_ids), "genes")
        y_true, known = measured_values(truth, genes)
        genes, places = genes[known], {name: columns[known] for name, columns in places.items()}
        inferred = {name: found.read(places[name]) for name, found in named.items()}
        scale = training_scale(named, places) if standardized else None
    table = comparison_table(y_true, inferred, scale=scale, baseline=baseline)
    unit = "standardized by training" if standardized else f"in the units of {measured}"
    print(f"{len(y_true):,} profiles, {len(genes):,} genes; mean absolute error, {unit}\n")
    print(table)
    if output is not None:
        write_table(output, list(table))
    if by_gene is not None:
        write_table(by_gene, list(gene_rows(genes, y_true, inferred, scale)))


def named_paths(candidates: Sequence[str]) -> dict[str, str]:
    """Files by their names: those given as NAME=FILE, or the files' own."""
    paths: dict[str, str] = {}
    for text in candidates:
        name, equals, path = text.partition("=")
        if not (name and equals) or Path(text).exists():
            name, path = Path(text).name, text
        if name in paths:
            raise ValueError(f"Got two candidates called {name!r}. Name them: NAME=FILE.")
        paths[name] = path
    return paths


@contextmanager
def candidate(
    path: str, measured: ExpressionFile, names: dict[str, Any], reading: dict[str, Any]
) -> Iterator[Candidate]:
    """What a file stands for: a model, a matrix of weights, or inferred expression."""
    if is_model_file(path) or is_weights(path):
        yield FittedModel(fitted_model(path), measured, names)
        return
    with opened_beside(path, **{**reading, "layer": None}) as file:
        yield InferredFile(file, measured)


def genes_in_common(
    measured: ExpressionFile, candidates: dict[str, Candidate]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Genes that were measured and that all candidates infer, and where each has them; no landmark of any of them."""
    places = {name: find_genes(measured.gene_ids, found.targets) for name, found in candidates.items()}
    common = np.all([columns >= 0 for columns in places.values()], axis=0)
    for found in candidates.values():
        columns = find_genes(found.landmarks, measured.gene_ids)
        common[columns[columns >= 0]] = False
    if not common.any():
        counts = ", ".join(f"{(columns >= 0).sum():,} of {name}" for name, columns in places.items())
        raise ValueError(
            f"No gene of {measured.path} is inferred by all candidates ({counts}; landmarks do not count). Its genes "
            f"are called {listed(measured.gene_ids[:3])}."
        )
    return measured.gene_ids[common], {name: columns[common] for name, columns in places.items()}


def measured_values(measured: ExpressionFile, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was measured, and of which genes in all profiles."""
    values = measured.read(genes=genes)
    known = ~np.isnan(values).any(axis=0)
    if not known.all():
        warn_user(f"{np.count_nonzero(~known)} genes with missing values are left out: {listed(genes[~known])}.")
    if not known.any():
        raise ValueError(f"Every gene of {measured.path} has missing values; nothing is left to compare.")
    return values[:, known], known


def training_scale(candidates: dict[str, Candidate], places: dict[str, np.ndarray]) -> np.ndarray:
    """The standard deviations of the genes in training, by the first candidate that knows them."""
    for name, found in candidates.items():
        scale = found.scale(places[name])
        if scale is not None:
            return scale
    raise ValueError(
        "Got --standardized, but no candidate knows standard deviations of its training profiles. Add a model of dgex "
        "that was trained with standardize=True."
    )


def gene_rows(
    genes: np.ndarray, y_true: np.ndarray, inferred: dict[str, np.ndarray], scale: np.ndarray | None
) -> Iterator[dict[str, Any]]:
    """Error and correlation of every gene."""
    columns: dict[str, np.ndarray] = {"gene": genes}
    for name, y_pred in inferred.items():
        columns[f"error of {name}"] = genewise_mae(y_true, y_pred, scale=scale)
        columns[f"correlation of {name}"] = genewise_correlation(y_true, y_pred)
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def write_table(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table as tab-separated text, whole or not at all."""
    with whole(Path(path)) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
