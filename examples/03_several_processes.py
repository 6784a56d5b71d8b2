"""Train one model with several processes and save it as it goes.

    python 03_several_processes.py FOLDER --coordinator 10.0.0.1:1234 --processes 2 --process 0

and the same with `--process 1` on the other machine. Under Slurm and Open MPI the three numbers are found out
(docs/several-devices.md). FOLDER holds landmarks.npy and targets.npy, profiles x genes, and receives model.joblib. If
something goes wrong, start it again: it goes on from the model that was saved last.
"""

import argparse
from pathlib import Path

import jax
import joblib
import numpy as np

from dgex import DGEXRegressor, distributed


def main(folder: Path, units: int, layers: int, epochs: int, epochs_per_save: int) -> None:
    """Train, or go on."""
    X = np.load(folder / "landmarks.npy")
    y = np.load(folder / "targets.npy", mmap_mode="r")  # each process reads the targets of its devices
    saved = folder / "model.joblib"
    if saved.exists():
        model = joblib.load(saved)
    else:
        model = DGEXRegressor(hidden_layer_sizes=(units,) * layers, random_state=0, warm_start=True, verbose=True)
    while getattr(model, "n_iter_", 0) < epochs:
        model.set_params(max_iter=min(epochs_per_save, epochs - getattr(model, "n_iter_", 0))).fit(X, y)
        if jax.process_index() == 0:
            joblib.dump(model, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)  # all of it or nothing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--units", type=int, default=3000)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--epochs-per-save", type=int, default=20)
    parser.add_argument("--coordinator", help="address and port of the first process")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int, help="number of this process, from 0")
    arguments = vars(parser.parse_args())
    distributed.initialize(*(arguments.pop(name) for name in ("coordinator", "processes", "process")))
    main(**arguments)
