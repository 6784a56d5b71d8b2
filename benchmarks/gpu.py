"""How close does a GPU come to what it can do? `python -m benchmarks.gpu`, on a machine with one.

1. What the GPU can do: bytes per second of a copy, FLOP/s of large products in TF32 and bfloat16.
2. Training, for several batch sizes: seconds of a step, as epochs of `DGEXRegressor.fit` take them, beside the least
   that these rates allow (`floor`), and beside the same network in PyTorch at the paper's batch size.
3. Where the time of a step goes, by kernels, from a profile of an epoch.
4. What the training error and the validation errors of an epoch cost at the paper's proportions.
5. Inference from array to array, in profiles per second, beside the copy of the same output to the host.
6. Ten small networks in one program, against one after the other.

Writes results/gpu.json; about four minutes. `--page docs/gpu.md` only fills the tables of a page from it. To try it
without a GPU, in a minute:
`--profiles 600 --targets 40 --networks 30x1 --batches 200 --units 20 --inferred 50`.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._pages import fill, markdown
from benchmarks._results import FOLDER, provenance, write
from benchmarks.performance._errors import shares
from benchmarks.performance._rounds import in_new_process, medians, noise
from benchmarks.scale import large_product
from dgex import DGEXRegressor

N_LANDMARKS, INFERRED = 943, 21_290
EPOCHS = 5  # that count; one goes before
PRODUCTS = ("gemm", "cutlass", "nvjet", "cublas", "dot", "xmma")  # in names of kernels


def ceilings() -> dict[str, Any]:
    """Bytes and FLOPs per second of the device."""
    size, n_copies = (2**28, 50) if jax.default_backend() == "gpu" else (2**20, 2)
    copy = jax.jit(lambda array: jax.lax.fori_loop(0, n_copies, lambda _, array: array + 1.0, array), donate_argnums=0)
    array = copy(jnp.zeros(size, dtype=jnp.float32)).block_until_ready()
    start = time.perf_counter()
    copy(array).block_until_ready()
    seconds = (time.perf_counter() - start) / n_copies
    rates = {dtype: 1e12 * large_product(dtype) for dtype in ("float32", "bfloat16")}
    return {"device": jax.devices()[0].device_kind, "bytes per second": 8 * size / seconds, **rates}


def floor(widths: list[int], batch: int, dtype: str, limits: dict[str, Any]) -> dict[str, float]:
    """The least seconds of a training step, by FLOPs and by bytes.

    FLOPs: three products a layer, but none for the gradient of the landmarks. Bytes: every weight is read in the
    forward product, for the gradient of the units below (not of the landmarks) and for the update, and written there;
    momentum is read and written; a mini-batch is read. Gradients and activations are free: no kernel has to write them.
    """
    layers = list(pairwise(widths))
    weights = sum(a * b for a, b in layers)
    first = layers[0][0] * layers[0][1]
    flops = 2 * batch * (3 * weights - first)
    n_bytes = 4 * (6 * weights - first + batch * (widths[0] + widths[-1]))
    return {"floor by FLOPs": flops / limits[dtype], "floor by bytes": n_bytes / limits["bytes per second"]}


def model(hidden: tuple[int, ...], batch: int, dtype: str = "float32", **settings: Any) -> DGEXRegressor:
    """The network, with rates so small that noise cannot make it diverge."""
    fixed = {"dropout": 0.1, "standardize": False, "learning_rate_init": 1e-6, "learning_rate_min": 1e-7}
    changing = {"max_iter": 1 + EPOCHS, "validation_fraction": 0.0, "monitor_size": 1} | settings
    return DGEXRegressor(
        hidden_layer_sizes=hidden, batch_size=batch, compute_dtype=dtype, random_state=0, **fixed, **changing
    )


def epoch(fitted: DGEXRegressor) -> float:
    """Median seconds of an epoch after the first."""
    return median(record["seconds"] for record in fitted.history_[1:])


def steps(
    hidden: tuple[int, ...], batches: list[int], n_profiles: int, n_targets: int, limits: dict[str, Any]
) -> list[dict[str, Any]]:
    """Training steps of one network: each batch size, PyTorch at the first of them, and the kernels there."""
    X, y = noise(n_profiles, N_LANDMARKS), noise(n_profiles, n_targets, seed=1)
    name, rows = "x".join(map(str, (N_LANDMARKS, *hidden, n_targets))), []
    for batch, dtype in product(batches, ("float32", "bfloat16")):
        if dtype == "bfloat16" and batch not in (batches[0], batches[-1]):
            continue
        seconds = epoch(model(hidden, batch, dtype).fit(X, y)) / -(-n_profiles // batch)
        least = floor([N_LANDMARKS, *hidden, n_targets], batch, dtype, limits)
        row = {"case": "training step", "network": name, "batch": batch, "dtype": dtype, "seconds": seconds, **least}
        rows.append({**row, "share of roofline": max(least.values()) / seconds, "profiles per second": batch / seconds})
    for form, compiled in (("PyTorch", False), ("PyTorch, compiled", True)):
        try:
            seconds = torch_epoch(hidden, X, y, batches[0], compiled) / -(-n_profiles // batches[0])
        except Exception as error:  # what a compiler of another project raises, only its row is missing
            print(f"{form}: {type(error).__name__}: {error}", flush=True)
            continue
        row = {"case": "training step", "of": form, "network": name, "batch": batches[0], "dtype": "float32"}
        rows.append({**row, "seconds": seconds, "times as long as dgex": seconds / rows[0]["seconds"]})
    return rows + kernels(hidden, batches[0], X, y)


def torch_epoch(hidden: tuple[int, ...], X: np.ndarray, y: np.ndarray, batch: int, compiled: bool) -> float:
    """Median seconds of an epoch of the same training in PyTorch, in TF32, with all profiles on the device."""
    import torch

    from benchmarks.performance._training import torch_training

    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = torch_training(hidden, X, y, batch, compiled=compiled, device=device)
    return medians({"epoch": lambda: train(1)}, EPOCHS)["epoch"]


def kernels(hidden: tuple[int, ...], batch: int, X: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """Microseconds of a step by kernel, from the profile of a short fit whose program is compiled."""
    fitted = model(hidden, batch, max_iter=2).fit(X, y)
    n_steps = 2 * -(-len(X) // batch)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            fitted.fit(X, y)
        durations, counts = device_events(next(Path(folder).rglob("*.xplane.pb")))
    total = sum(durations.values())
    longest = sorted(durations, key=durations.__getitem__, reverse=True)[:12]
    name = "x".join(map(str, (X.shape[1], *hidden, y.shape[1])))
    shared = {"case": "kernels of a step", "network": name, "batch": batch}
    rows = [
        {
            **shared,
            "kernel": kernel,
            "microseconds": durations[kernel] / n_steps / 1e3,
            "times": counts[kernel] / n_steps,
        }
        for kernel in longest
    ]
    products = sum(duration for kernel, duration in durations.items() if any(part in kernel for part in PRODUCTS))
    return [
        {**shared, "busy microseconds": total / n_steps / 1e3, "share of products": products / max(total, 1)},
        *rows,
    ]


def device_events(path: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Nanoseconds and number of the events on streams of devices, by kernel and by operation of the program."""
    durations: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                name = f"{operation}: {event.name}" if operation else event.name
                durations[name] += event.duration_ns
                counts[name] += 1
    return durations, counts


def monitoring(hidden: tuple[int, ...], n_profiles: int, n_targets: int) -> list[dict[str, Any]]:
    """What measuring errors adds to an epoch."""
    without, monitored, both = shares(hidden, n_profiles, n_targets)
    name = "x".join(map(str, (N_LANDMARKS, *hidden, n_targets)))
    row = {"case": "errors of an epoch", "network": name, "profiles": n_profiles, "seconds without": without}
    return [{**row, "share of training error": monitored, "share of both errors": both}]


def inference(n_units: int, n_profiles: int, n_targets: int) -> list[dict[str, Any]]:
    """Profiles per second of `predict`, and of bringing as large an array from the device."""
    fitted = model((n_units,), 200, max_iter=1).fit(noise(400, N_LANDMARKS), noise(400, n_targets, seed=1))
    X = noise(n_profiles, N_LANDMARKS)
    out = np.empty((n_profiles, n_targets), dtype=np.float32)
    on_device = jnp.zeros((n_profiles, n_targets), dtype=jnp.float32)
    things: dict[str, Callable[[], Any]] = {
        "predict": lambda: fitted.predict(X, out=out),
        "copy": lambda: np.copyto(out, jax.device_get(on_device + 0.0)),
    }
    seconds = medians(things, 3)
    expected = np.tanh(X[:256] @ fitted.coefs_[0] + fitted.intercepts_[0]) @ fitted.coefs_[1] + fitted.intercepts_[1]
    off = float(np.abs(fitted.predict(X[:256]) - expected).max() / np.abs(expected).max())
    row = {"case": "inference", "network": f"{N_LANDMARKS}x{n_units}x{n_targets}", "profiles": n_profiles}
    rates = {f"profiles per second of {name}": n_profiles / value for name, value in seconds.items()}
    return [{**row, **rates, "share of copy": seconds["copy"] / seconds["predict"], "largest relative error": off}]


def concurrent(n_profiles: int, n_networks: int = 10, n_units: int = 300, n_targets: int = 950) -> list[dict[str, Any]]:
    """Epochs of small networks in one program, against one after the other."""
    X, y = noise(n_profiles, N_LANDMARKS), noise(n_profiles, n_targets, seed=1)
    one = epoch(model((n_units,), 200).fit(X, y[:, : n_targets // n_networks]))
    together = epoch(model((n_units,), 200, n_partitions=n_networks).fit(X, y))
    row = {
        "case": "small networks",
        "networks": n_networks,
        "units": n_units,
        "targets of each": n_targets // n_networks,
    }
    return [{**row, "seconds one": one, "seconds together": together, "times as fast": n_networks * one / together}]


def tables(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The tables of docs/gpu.md."""
    chosen = {case: [row for row in rows if row["case"] == case] for case in {row["case"] for row in rows}}
    steps = [["network", "batch", "type", "microseconds", "share of the roofline", "thousand profiles per second"]]
    peers = [["network", "batch", "PyTorch", "times as long as dgex"]]
    for row in chosen["training step"]:
        start = [row["network"], str(row["batch"])]
        if "of" in row:
            peers.append([*start, row["of"].removeprefix("PyTorch, ") if "," in row["of"] else "eager"])
            peers[-1].append(f"{row['times as long as dgex']:.2f}")
        else:
            numbers = f"{1e6 * row['seconds']:,.0f}", f"{row['share of roofline']:.0%}"
            steps.append([*start, row["dtype"], *numbers, f"{row['profiles per second'] / 1e3:,.0f}"])
    kernels = [["network", "kernel", "in a step", "microseconds"]]
    for row in chosen["kernels of a step"]:
        if "kernel" in row and row["times"] >= 1:  # others are of the placing of profiles
            name = row["kernel"].split(": ")[-1].split("(")[0].removeprefix("void ")[:60]
            kernels.append([row["network"], f"`{name}`", f"{row['times']:.0f}", f"{row['microseconds']:.0f}"])
    alignments = {"gpu_steps": "---|---:|---|---:|---:|---:", "gpu_peers": "---|---:|---|---:"}
    alignments["gpu_kernels"] = "---|---|---:|---:"
    tables = zip(alignments.items(), (steps, peers, kernels), strict=True)
    return {name: markdown([lines[0], alignment.split("|"), *lines[1:]]) for (name, alignment), lines in tables}


def main(networks: list[str], batches: list[int], profiles: int, targets: int, units: int, inferred: int) -> None:
    """Measure, write after every step, and print."""
    origin, rows = provenance(), []

    def add(new: list[dict[str, Any]]) -> None:
        rows.extend(new)
        write("gpu", rows, origin)
        print(*new, sep="\n", flush=True)

    start = time.perf_counter()
    limits = in_new_process(ceilings)
    add([{"case": "ceilings", **limits}])
    for network in networks:
        width, depth = map(int, network.split("x"))
        add(in_new_process(steps, (width,) * depth, batches, profiles, targets, limits))
    add(in_new_process(monitoring, (units,), profiles, targets))
    add(in_new_process(inference, units, profiles, inferred))
    add(in_new_process(concurrent, profiles))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=int, default=40_000)
    parser.add_argument("--targets", type=int, default=9_520)
    parser.add_argument("--networks", nargs="+", default=["3000x1", "9000x3"], metavar="UNITSxLAYERS")
    parser.add_argument("--batches", nargs="+", type=int, default=[200, 500, 1000, 2000])
    parser.add_argument("--units", type=int, default=3000, help="of the network for errors and inference")
    parser.add_argument("--inferred", type=int, default=INFERRED, help="targets of inference")
    parser.add_argument("--page", type=Path, help="only fill the tables of this page")
    arguments = vars(parser.parse_args())
    if page := arguments.pop("page"):
        fill(page, tables(json.loads((FOLDER / "gpu.json").read_text())["rows"]))
    else:
        main(**arguments)
