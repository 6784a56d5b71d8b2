"""Two real processes on this machine, with two virtual devices each, that talk over 127.0.0.1."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from tests.two_processes.train import MODELS, PARAMETERS

from dgex import DGEXRegressor

SCRIPT = Path(__file__).parent / "two_processes" / "train.py"
EXAMPLE = Path(__file__).parents[1] / "examples" / "03_several_processes.py"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(folder, scenario, timeout=400):
    """The exit statuses and outputs of two processes with two devices each."""
    port = free_port()
    return outcomes([[SCRIPT, folder, port, 2, process, scenario] for process in range(2)], timeout=timeout)


def outcomes(commands, environments=({}, {}), timeout=400):
    """The exit statuses and outputs of Python commands that run at the same time."""
    common = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-u", *map(str, command)],
            env={**common, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_processes")
    rng = np.random.default_rng(0)
    X = rng.normal(8, 2, (100, 12)).astype(np.float32)
    y = np.tanh(X - 8) @ rng.normal(size=(12, 21)) + rng.normal(size=(100, 21))
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    statuses, outputs = run(folder, "train")
    assert statuses == [0, 0], outputs
    return {name: [joblib.load(folder / f"{name}-{p}.joblib") for p in range(2)] for name in [*MODELS, "resumed"]}


def assert_same_model(a, b, **tolerance):
    for one, other in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


@pytest.mark.parametrize("name", ["joint", "partitioned", "streamed", "closed form", "own"])
def test_two_processes_train_the_model_of_one(trained, folder, name):
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    alone = DGEXRegressor(**PARAMETERS | MODELS[name]).fit(X[:80], y[:80], X[80:], y[80:])
    for model in trained[name]:
        assert_same_model(alone, model, rtol=1e-4, atol=2e-6)
        np.testing.assert_array_equal(alone.partition_, model.partition_)
        np.testing.assert_array_equal(alone.best_epoch_, model.best_epoch_)
        np.testing.assert_allclose(model.fit_prediction, alone.predict(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["joint", "unseeded", "partitioned", "streamed", "closed form", "resumed"])
def test_both_processes_end_with_the_same_model(trained, name):
    assert_same_model(*trained[name], rtol=0)
    histories = [[{**record, "seconds": 0} for record in model.history_] for model in trained[name]]
    assert histories[0] == histories[1]


def test_processes_go_on_with_a_model(trained, folder):
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    assert_same_model(
        DGEXRegressor(**PARAMETERS, random_state=0).fit(X, y), trained["resumed"][0], rtol=1e-4, atol=2e-6
    )


def test_misuse_is_one_clear_error_in_every_process(folder):
    statuses, outputs = run(folder, "misuse")
    assert statuses == [0, 0], outputs
    errors = [dict(line.split(": ", 1) for line in output.splitlines() if ": " in line) for output in outputs]
    for process in range(2):
        assert "end of misuse" in outputs[process]
        said = errors[process]
        assert "ValueError: Got y of shape [100, 21] in process 0, [100, 20] in process 1" in said["targets"]
        assert "ValueError: Got X of shape [100, 12] in process 0, [99, 12] in process 1" in said["profiles"]
        assert "Got expression with a checksum of" in said["values"]
        assert "Got gene names with a checksum of" in said["names"]
        assert "Got a model to go on with, with a checksum of" in said["other models"]
        assert "Got hidden_layer_sizes = (14, 9) in process 0, (14, 10) in process 1" in said["parameter"]
        assert "contains NaN" in said["missing"]
        assert "The 'dropout' parameter of DGEXRegressor must be a float" in said["invalid"]
        assert "Got callbacks of types [] in process 0, ['Stop'] in process 1" in said["callbacks"].replace('"', "'")
        assert "devices=99, but only 4 cpu device(s)" in said["device"]
        assert "Got n_partitions=22, but expected at most 21" in said["partitions"]
        assert "MemoryError: Training a network of 12 x 10000000 x 10000000 x 21 units on 4" in said["memory"]
    assert errors[0]["missing"].startswith("RuntimeError: Got an error in 1 of the 2 processes")
    assert errors[1]["missing"].startswith("ValueError: Input X contains NaN")
    assert "Got devices of process 0 only, but this is process 1 of 2" in errors[1]["one process"]


@pytest.mark.parametrize(("scenario", "victim"), [("first dies", 0), ("die", 1)])
def test_when_a_process_dies_the_other_ends_with_an_error_and_training_can_go_on(folder, scenario, victim):
    # JAX by itself would wait for 100 seconds.
    statuses, outputs = run(folder, scenario, timeout=100)
    other = 1 - victim
    assert statuses[victim] == -9
    assert statuses[other] not in (0, -9)
    assert "training" in outputs[other]
    told = f"Process {other} cannot go on: another of the 2 processes", "another task died"
    assert any(text in outputs[other] for text in told)

    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    resumed = joblib.load(folder / "saved.joblib").set_params(max_iter=5).fit(X, y)
    assert_same_model(DGEXRegressor(**PARAMETERS, random_state=0).fit(X, y), resumed, rtol=1e-4, atol=2e-6)


def launched(launcher, process, port):
    """Arguments and environment of a process as launchers start it; nothing else than JAX reads of them."""
    if launcher == "by hand":
        return ["--coordinator", f"127.0.0.1:{port}", "--processes", 2, "--process", process], {}
    if launcher == "Slurm":
        names = {"SLURM_JOB_ID": 1, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": 2, "SLURM_PROCID": process}
        names["SLURM_LOCALID"] = process
    else:
        names = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://127.0.0.1:1", "OMPI_COMM_WORLD_SIZE": 2}
        names.update(OMPI_COMM_WORLD_RANK=process, OMPI_COMM_WORLD_LOCAL_RANK=process)
    return [], {name: str(value) for name, value in {**names, "JAX_COORDINATOR_PORT": port}.items()}


def test_the_example_runs_under_every_launcher_and_goes_on_from_what_was_saved(folder, tmp_path):
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    np.save(tmp_path / "landmarks.npy", X)
    np.save(tmp_path / "targets.npy", np.asfortranarray(y))
    for epochs, launcher in [(2, "by hand"), (5, "Slurm"), (6, "Open MPI")]:
        port = free_port()
        options, environments = zip(*(launched(launcher, process, port) for process in range(2)), strict=True)
        command = [EXAMPLE, tmp_path, "--units", 10, "--epochs", epochs, "--epochs-per-save", 2]
        statuses, outputs = outcomes([[*command, *more] for more in options], environments)
        assert statuses == [0, 0], outputs
        assert f"Epoch {epochs:3d}" in outputs[0]
        assert "Epoch" not in outputs[1]
    model = joblib.load(tmp_path / "model.joblib")
    alone = DGEXRegressor(hidden_layer_sizes=(10,), random_state=0, max_iter=6).fit(X, y)
    assert model.n_iter_ == 6
    assert_same_model(alone, model, rtol=1e-4, atol=2e-6)
