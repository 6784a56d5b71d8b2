"""What each of the processes of tests/test_distributed.py runs: `train.py FOLDER PORT N_PROCESSES PROCESS SCENARIO`."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import joblib
import numpy as np
import pandas as pd

from dgex import DGEXRegressor, _session, distributed
from dgex._sharding import Layout

PARAMETERS = {"hidden_layer_sizes": (14, 9), "dropout": 0.3, "batch_size": 16, "max_iter": 8}
MODELS = {
    "joint": {"random_state": 0},
    "unseeded": {"random_state": None, "max_iter": 1},
    "partitioned": {"random_state": 0, "n_partitions": 4, "partition": "clustered", "solver": "adamw"},
    "streamed": {"random_state": 0, "data_location": "host"},
    "closed form": {"random_state": 0, "start": "closed_form", "linear_path": True, "max_iter": 2},
    "own": {"random_state": 0, "devices": "one"},
}


class Stop:
    """A callback of scikit-learn's."""

    def setup(self, *arguments, **named):
        pass

    def teardown(self, *arguments, **named):
        pass

    def on_fit_task_begin(self, *arguments, **named):
        pass

    def on_fit_task_end(self, *arguments, **named):
        return False


def profiles(folder):
    """The targets stay on disk: a process reads its own."""
    return np.load(folder / "X.npy"), np.load(folder / "y.npy", mmap_mode="r")


def train(folder, process):
    X, y = profiles(folder)
    shares = []
    original = Layout.place_targets

    def place_targets(*arguments):
        placed = original(*arguments)
        shares.append(sum(shard.data.nbytes for shard in placed.addressable_shards) / placed.nbytes)
        return placed

    Layout.place_targets = place_targets
    closed_form_parameters = _session.closed_form_parameters

    def rounded_otherwise(*arguments):
        """What a process of other processors might find, exaggerated."""
        return jax.tree.map(lambda array: array * np.float32(1 + process / 10), closed_form_parameters(*arguments))

    _session.closed_form_parameters = rounded_otherwise
    for name, parameters in MODELS.items():
        model = DGEXRegressor(**PARAMETERS | parameters).fit(X[:80], y[:80], X[80:], y[80:])
        model.fit_prediction = model.predict(X)
        joblib.dump(model, folder / f"{name}-{process}.joblib")
    # Of the targets, each of two processes holds those of its devices; of the model of its own, all.
    assert shares
    assert set(shares) == {0.5, 1.0}, shares
    assert shares.count(1.0) == 2  # training and validation
    model = DGEXRegressor(**PARAMETERS, random_state=0, warm_start=True).set_params(max_iter=3).fit(X, y)
    model.set_params(max_iter=5).fit(X, y)
    joblib.dump(model, folder / f"resumed-{process}.joblib")


def misuse(folder, process):
    X, y = profiles(folder)
    spoiled = X.copy()
    spoiled[3, 2] = np.nan
    calls = {
        "targets": {"y": y[:, : 21 - process]},
        "profiles": {"X": X[process:], "y": y[process:]},
        "values": {"X": X + process * (np.arange(100) == 50)[:, None]},
        "names": {"X": pd.DataFrame(X, columns=[f"gene {number * (-1) ** process}" for number in range(12)])},
        "parameter": {"hidden_layer_sizes": (14, 9 + process)},
        "missing": {"X": spoiled if process else X},
        "invalid": {"dropout": 0.3 + process},
        "device": {"devices": 99},
        "one process": {"devices": 2},
        "partitions": {"n_partitions": 22},
        "memory": {"hidden_layer_sizes": (10_000_000, 10_000_000)},
    }
    for name, changes in calls.items():
        data = {key: changes.pop(key, default) for key, default in (("X", X), ("y", y))}
        try:
            DGEXRegressor(**PARAMETERS | changes).fit(**data)
        except Exception as error:
            if name != "one process" or process == 1:  # the first process has these devices, and trains alone
                print(f"{name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
    model = DGEXRegressor(**PARAMETERS)
    if process:
        model.set_callbacks(Stop())
    try:
        model.fit(X, y)
    except Exception as error:
        print(f"callbacks: {type(error).__name__}: {error}", flush=True)
    own = DGEXRegressor(**PARAMETERS, devices="one", random_state=process, warm_start=True).fit(X, y)
    try:
        own.set_params(devices=None).fit(X, y)
    except Exception as error:
        print(f"other models: {type(error).__name__}: {error}", flush=True)
    print("end of misuse", flush=True)


def die(folder, process, victim):
    X, y = profiles(folder)
    model = DGEXRegressor(**PARAMETERS, random_state=0, warm_start=True).set_params(max_iter=3).fit(X, y)
    if process == 0:
        joblib.dump(model, folder / "saved.joblib")
    if process == victim:
        signal.setitimer(signal.ITIMER_REAL, 2.0)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    print("training", flush=True)
    model.set_params(max_iter=10**6).fit(X, y)


if __name__ == "__main__":
    folder, port, n_processes, process, scenario = Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5]
    distributed.initialize(f"127.0.0.1:{port}", n_processes, process, coordinator_bind_address=f"127.0.0.1:{port}")
    assert len(jax.devices()) == 2 * n_processes
    scenarios = {"train": train, "misuse": misuse, "first dies": partial(die, victim=0), "die": partial(die, victim=1)}
    scenarios[scenario](folder, process)
