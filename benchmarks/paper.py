"""Repeat the tables and figures of Chen et al. (2016): `python -m benchmarks.paper`.

Networks of every architecture and dropout rate are trained once each, their epoch chosen for both platforms, and
compared with linear regression, its penalized forms and KNN-GE, tuned on the same validation profiles. Of the best
architecture, two networks of random halves of the targets (the paper's) and of clustered halves stand beside the joint
one.

Without files, the compendium is that of human arrays with the RNA-seq of two other laboratories, which needs the folder
of real expression data (`DGEX_DATA`, or ../shared/data beside the checkout). With `--arrays`, `--rnaseq` and
`--landmarks` it is that of the files, in any format that dgex.io reads, normalized before: those of GSE92743 give the
paper's scale (docs/public-data.md). The 27 networks need `--units 3000 6000 9000` and a GPU; the default is one width.

Splits, initial weights and halves differ by seed. Everything that is trained is kept in the folder; run it again to go
on. Writes tables.md, of means over seeds, and the figures of the first seed there, and results/paper.json unless it is
told not to. `--page docs/paper.md` fills the tables of a page from that file and does nothing else. 20 minutes for
each seed on two cores by default.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks._pages import fill
from benchmarks._results import FOLDER, provenance, write
from benchmarks.accuracy._datasets import Parts, Profiles, Split, arrays_split, by_role, human, platforms_split
from benchmarks.accuracy._linear import lasso, least_squares, ridge
from benchmarks.accuracy._methods import gene_neighbors
from dgex import DGEXRegressor
from dgex._commands._genes import gene_list
from dgex.io import open_expression
from dgex.metrics import genewise_mae, relative_improvement, win_rate
from dgex.plotting import ArchitectureDisplay, GenewiseComparisonDisplay, GenewiseErrorDisplay, TrainingCurveDisplay
from dgex.preprocessing import find_genes, find_near_duplicates, gene_scaling, standardized

LAYERS = (1, 2, 3)
DROPOUT = (0.0, 0.1, 0.25)

UNIT = "standardized expression"

# The paper's names of the linear models, by what they are here.
BASELINES = {"LR": least_squares, "LR-L1": lasso, "LR-L2": ridge, "KNN-GE": gene_neighbors}

# Which targets share a network: all, random halves as in the paper, or halves of similar targets.
PARTITIONS = {
    "joint": {},
    "random halves": {"n_partitions": 2},
    "clustered halves": {"n_partitions": 2, "partition": "clustered"},
}

# Shares of the arrays for validation and test, as in the paper; and of RNA-seq, if it has no validation file.
HELD_OUT = 0.1


class Platform(NamedTuple):
    """What networks are chosen on and tested on."""

    name: str
    validation: Profiles
    test: Profiles


class Compendium(NamedTuple):
    """Training profiles, and two platforms to infer; each is standardized by itself."""

    train: Profiles
    platforms: tuple[Platform, Platform]


class Cell(NamedTuple):
    """A network to be trained."""

    layers: int
    units: int
    dropout: float
    partition: str = "joint"

    @property
    def name(self) -> str:
        """As the paper calls it, with the partition where that is not all targets together."""
        name = f"D-GEX-{round(100 * self.dropout)}%-{self.units}x{self.layers}"
        return name if self.partition == "joint" else f"{name}, {self.partition}"


class Trained(NamedTuple):
    """Gene-wise errors on both platforms, the best epochs for them, and what the network's history says."""

    errors: list[np.ndarray]
    best_epochs: list[list[int]]
    history: list[dict[str, float]]


def of_the_data_folder(seed: int) -> Compendium:
    """Human arrays, split at random; lymphoblastoid RNA-seq to choose on, glioblastoma RNA-seq to test on."""
    parts = split(len(human().groups), seed)
    arrays, rnaseq = arrays_split(human(), parts), platforms_split(human(), parts.train)
    return Compendium(
        arrays.train,
        (Platform("arrays", arrays.validation, arrays.test), Platform("RNA-seq", rnaseq.validation, rnaseq.test)),
    )


def of_files(arrays: Path, rnaseq: Path, validation: Path | None, landmarks: Path, seed: int) -> Compendium:
    """Expression of the genes that all files have, arrays without near-duplicates; the landmarks are listed."""
    with open_expression(arrays) as array_file, open_expression(rnaseq) as rnaseq_file:
        of_both = set(rnaseq_file.gene_ids)
        genes = np.array([gene for gene in array_file.gene_ids if gene in of_both], dtype=object)
        is_landmark = among(gene_list(str(landmarks)), genes)
        if is_landmark.all():
            raise ValueError(f"{landmarks} lists all {len(genes)} genes of the files; expected the landmarks only.")
        all_arrays = array_file.read(genes=genes)
        of_rnaseq = [rnaseq_file.read(genes=genes)]
    rows = np.flatnonzero(~find_near_duplicates(all_arrays, random_state=0))
    print(
        f"{len(all_arrays) - len(rows)} of {len(all_arrays)} arrays nearly repeat others and are left out", flush=True
    )
    of_arrays = [all_arrays[rows[part]] for part in split(len(rows), seed)]
    if validation is None:
        train, chosen_on, test = split(len(of_rnaseq[0]), seed)
        of_rnaseq = [of_rnaseq[0][chosen_on], of_rnaseq[0][np.concatenate([train, test])]]
    else:
        with open_expression(validation) as file:
            of_rnaseq.insert(0, file.read(genes=genes))
    return compendium(of_arrays, of_rnaseq, is_landmark)


def among(landmarks: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Which genes are landmarks, all of which have to be there."""
    columns = find_genes(landmarks, genes)
    absent = landmarks[columns < 0]
    if len(absent):
        raise SystemExit(
            f"{len(absent)} of {len(landmarks)} landmarks are not among the {len(genes)} genes of all files: "
            f"{', '.join(absent[:5])}. Leave them out of the list, or name them as the files do."
        )
    is_landmark = np.zeros(len(genes), dtype=bool)
    is_landmark[columns] = True
    return is_landmark


def split(n_profiles: int, seed: int) -> Parts:
    """Rows for training, validation and test."""
    order = np.random.default_rng(seed).permutation(n_profiles)
    n_held_out = max(1, round(HELD_OUT * n_profiles))
    borders = [n_profiles - 2 * n_held_out, n_profiles - n_held_out]
    return Parts(*(np.sort(rows) for rows in np.split(order, borders)))


def compendium(arrays: list[np.ndarray], rnaseq: list[np.ndarray], is_landmark: np.ndarray) -> Compendium:
    """Standardize: arrays by the training profiles, each RNA-seq data set by itself, as in the paper."""
    statistics = gene_scaling(arrays[0])
    train, *of_arrays = [by_role(standardized(part, *statistics), is_landmark) for part in arrays]
    of_rnaseq = [by_role(standardized(part, *gene_scaling(part)), is_landmark) for part in rnaseq]
    return Compendium(train, (Platform("arrays", *of_arrays), Platform("RNA-seq", *of_rnaseq)))


def trained(cell: Cell, data: Compendium, epochs: int, seed: int) -> Trained:
    """Train once, and choose the epoch for each platform by its own validation profiles."""
    model = DGEXRegressor(
        hidden_layer_sizes=(cell.units,) * cell.layers,
        dropout=cell.dropout,
        max_iter=epochs,
        standardize=False,
        random_state=seed,
        **PARTITIONS[cell.partition],
    )
    sets = [platform.validation for platform in data.platforms]
    model.fit(*data.train, X_val=tuple(part.X for part in sets), y_val=tuple(part.y for part in sets))
    models = [model.best_model(number) for number in range(len(sets))]
    errors = [
        genewise_mae(platform.test.y, best.predict(platform.test.X))
        for best, platform in zip(models, data.platforms, strict=True)
    ]
    return Trained(errors, [np.atleast_1d(best.best_epoch_).tolist() for best in models], model.history_)


def baselines(data: Compendium, seed: int) -> dict[str, list[np.ndarray]]:
    """Gene-wise errors of the other models on both platforms."""
    return {
        name: [
            genewise_mae(platform.test.y, fit(Split(data.train, *platform[1:]), seed).predict(platform.test.X))
            for platform in data.platforms
        ]
        for name, fit in BASELINES.items()
    }


def kept(folder: Path, name: str, make: Any) -> Any:
    """What is stored under a name, or what is made and stored now."""
    path = folder / f"{name}.json"
    if not path.exists():
        print(f"{name} ...", flush=True)
        path.with_suffix(".part").write_text(json.dumps(make(), default=np.ndarray.tolist))
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())


def require_same_settings(arguments: argparse.Namespace) -> None:
    """Raise if a folder has results of other files or of another number of epochs, which would be taken for these."""
    files = [path for path in (arguments.arrays, arguments.rnaseq, arguments.validation, arguments.landmarks) if path]
    settings = {
        "files": [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime] for path in files],
        "epochs": arguments.epochs,
    }
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if any(arguments.folder.glob("seed *")) and not (arguments.folder / "settings.json").exists():
        raise SystemExit(
            f"{arguments.folder} has results of unknown settings. Pass another --folder, or delete that one."
        )
    before = kept(arguments.folder, "settings", lambda: settings)
    if before != settings:
        raise SystemExit(
            f"{arguments.folder} has results of other settings:\n  {before}\nand not of\n  {settings}\nPass another "
            "--folder, or delete that one."
        )


def draw(folder: Path, platform: int, name: str, networks: dict[Cell, Trained], others: dict[str, Any]) -> None:
    """Figures 1 to 5 of one platform, those of errors at every dropout rate, and the partitions side by side."""
    joint = {cell: network for cell, network in networks.items() if cell.partition == "joint"}
    best = best_of(joint, platform)
    rows = [{**cell._asdict(), "error": network.errors[platform].mean()} for cell, network in joint.items()]
    levels = {other: errors[platform].mean() for other, errors in others.items()}
    figures = {"architectures": ArchitectureDisplay.from_results(rows, baselines=levels)}
    references = {other: others[other][platform] for other in ("LR", "KNN-GE")}
    for cell in (best._replace(dropout=dropout) for dropout in DROPOUT):
        error, of_rate = joint[cell].errors[platform], "" if cell == best else f" at {cell.dropout:.0%}"
        by_gene = {cell.name: error, **references}
        figures[f"densities{of_rate}"] = GenewiseErrorDisplay(by_gene, unit=UNIT)
        for other, of_other in references.items():
            comparison = GenewiseComparisonDisplay(error, of_other, names=(cell.name, other), unit=UNIT)
            figures[f"against {other}{of_rate}"] = comparison
    of_dropout = {f"dropout {dropout:.0%}": joint[best._replace(dropout=dropout)] for dropout in DROPOUT}
    figures["learning curves"] = TrainingCurveDisplay(
        {label: renamed(network.history, platform) for label, network in of_dropout.items()},
        best_epochs={label: network.best_epochs[platform] for label, network in of_dropout.items()},
        validation_names=[name],
    )
    for cell, network in networks.items():
        if cell.partition != "joint":
            pair = network.errors[platform], joint[cell._replace(partition="joint")].errors[platform]
            figures[cell.partition] = GenewiseComparisonDisplay(*pair, names=(cell.partition, "joint"), unit=UNIT)
    for what, display in figures.items():
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.subplots(2, 1, height_ratios=(3, 1)) if what == "learning curves" else figure.subplots()
        display.plot(ax=axes)
        figure.savefig(folder / f"{name} {what}.png".replace(" ", "_"), dpi=150)


def best_of(networks: dict[Cell, Trained], platform: int) -> Cell:
    """The network with the lowest error on a platform's validation profiles."""
    column = f"validation_mae_{platform}"
    return min(networks, key=lambda cell: min(record[column] for record in networks[cell].history))


def renamed(history: list[dict[str, float]], platform: int) -> list[dict[str, float]]:
    """A history with the errors of one validation set only, as if it were the only one."""
    column = f"validation_mae_{platform}"
    kept_columns = ("epoch", "learning_rate", "loss", "train_mae")
    return [{**{key: record[key] for key in kept_columns}, "validation_mae_0": record[column]} for record in history]


class Trial(NamedTuple):
    """What was trained with one seed."""

    platforms: list[str]
    networks: dict[Cell, Trained]
    others: dict[str, list[np.ndarray]]

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Results of every model on every platform."""
        for number, platform in enumerate(self.platforms):
            linear = self.others["LR"][number]
            for cell, network in self.networks.items():
                yield {"seed": seed, "platform": platform, "model": cell.name, **cell._asdict()} | figures_of(
                    network.errors[number], linear
                )
            for name, errors in self.others.items():
                yield {"seed": seed, "platform": platform, "model": name} | figures_of(errors[number], linear)


def figures_of(error: np.ndarray, linear: np.ndarray) -> dict[str, float]:
    """Error over genes, and how it compares with linear regression's."""
    improvement = relative_improvement(error.mean(), linear.mean())
    return {"MAE": error.mean(), "sd": error.std(), "vs LR": improvement, "won": win_rate(error, linear)}


def trial(arguments: argparse.Namespace, seed: int) -> Trial:
    """Train with one seed what is not kept yet: all networks, and halves of the targets with the best of them."""
    folder = arguments.folder / f"seed {seed}"
    folder.mkdir(parents=True, exist_ok=True)
    files = arguments.arrays, arguments.rnaseq, arguments.validation, arguments.landmarks
    data = of_files(*files, seed) if arguments.arrays else of_the_data_folder(seed)
    others = kept(folder, "baselines", lambda: baselines(data, seed))
    networks: dict[Cell, Trained] = {}

    def run(cell: Cell) -> None:
        stored = kept(folder, cell.name, lambda: trained(cell, data, arguments.epochs, seed))
        networks[cell] = Trained([np.array(error) for error in stored[0]], *stored[1:])

    for layers, units, dropout in product(LAYERS, arguments.units, DROPOUT):
        run(Cell(layers, units, dropout))
    best = best_of(networks, 0)
    for partition in PARTITIONS:
        run(best._replace(partition=partition))
    others = {name: [np.array(error) for error in errors] for name, errors in others.items()}
    return Trial([platform.name for platform in data.platforms], networks, others)


def tables(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Table 1 (arrays) and 2 (the other platform), and the partitions of the targets side by side."""
    result = {}
    for number, platform in enumerate(dict.fromkeys(row["platform"] for row in rows), start=1):
        here = [row for row in rows if row["platform"] == platform]
        result[f"paper_table_{number}"] = "\n".join(errors_table(here))
    result["paper_partitions"] = "\n".join(partitions_table(rows))
    return result


def errors_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Errors and standard deviations over genes, means over seeds."""
    networks = [row for row in rows if row.get("partition") == "joint"]
    units = sorted({row["units"] for row in networks})
    yield "| layers | dropout | " + " | ".join(f"{size} units" for size in units) + " |"
    yield "| ---: | ---: |" + " ---: |" * len(units)
    for layers, dropout in product(LAYERS, DROPOUT):
        cells = [
            error_of([row for row in networks if (row["layers"], row["dropout"], row["units"]) == (layers, dropout, n)])
            for n in units
        ]
        yield f"| {layers} | {dropout:.0%} | " + " | ".join(cells) + " |"
    for name in BASELINES:
        cells = [error_of([row for row in rows if row["model"] == name]), *[""] * (len(units) - 1)]
        yield f"| {name} | | " + " | ".join(cells) + " |"


def error_of(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds of the error and of its standard deviation over genes."""
    return f"{np.mean([row['MAE'] for row in rows]):.4f} ± {np.mean([row['sd'] for row in rows]):.4f}"


def partitions_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How much higher errors are than those of the same network of all targets, seed by seed."""
    halves = [row for row in rows if row.get("partition", "joint") != "joint"]
    joint = {(row["seed"], row["platform"], row["model"]): row["MAE"] for row in rows}
    yield "| platform | targets | MAE | above the joint network, by seed |"
    yield "| --- | --- | ---: | --- |"
    for platform, partition in dict.fromkeys((row["platform"], row["partition"]) for row in halves):
        those = [row for row in halves if (row["platform"], row["partition"]) == (platform, partition)]
        excess = [row["MAE"] / joint[row["seed"], platform, row["model"].split(",")[0]] - 1 for row in those]
        error = np.mean([row["MAE"] for row in those])
        yield f"| {platform} | {partition} | {error:.4f} | {', '.join(f'{part:+.1%}' for part in excess)} |"


def main(arguments: argparse.Namespace) -> None:
    """Train what is missing, write tables and figures."""
    if arguments.page:
        fill(arguments.page, tables(json.loads((FOLDER / "paper.json").read_text())["rows"]))
        return
    require_same_settings(arguments)
    origin, rows = provenance(), []
    for seed in range(arguments.seeds):
        done = trial(arguments, seed)
        rows += done.rows(seed)
        if seed == 0:
            for number, platform in enumerate(done.platforms):
                draw(arguments.folder, number, platform, done.networks, done.others)
    text = "\n\n".join(tables(rows).values()) + "\n"
    (arguments.folder / "tables.md").write_text(text)
    print(text)
    if not arguments.no_results:
        write("paper", rows, origin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=Path, help="training compendium, a file of expression")
    parser.add_argument("--rnaseq", type=Path, help="the other platform, with the same genes")
    parser.add_argument(
        "--validation", type=Path, help="profiles to choose for the other platform by; or a tenth of it"
    )
    parser.add_argument("--landmarks", type=Path, help="list of the landmarks")
    parser.add_argument("--units", type=int, nargs="+", default=[500])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0")
    parser.add_argument("--folder", type=Path, default=Path("paper"), help="for what is trained, tables and figures")
    parser.add_argument("--no-results", action="store_true", help="leave results/paper.json alone")
    parser.add_argument("--page", type=Path, help="only fill the tables of this page")
    chosen = parser.parse_args()
    together = {bool(path) for path in (chosen.arrays, chosen.rnaseq, chosen.landmarks)}
    if len(together) == 2 or (chosen.validation and not chosen.arrays):
        parser.error("--arrays, --rnaseq and --landmarks go together, and --validation with them")
    main(chosen)
