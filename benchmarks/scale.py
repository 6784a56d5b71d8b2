"""What does training take of each device, and how fast is it? `python -m benchmarks.scale`, or with `--gpu`.

1. Memory of each device in a training step of the paper's architectures, on 1, 2, 4 and 8 devices. The step is compiled
   for arrays that are only described, and the compiler says what it takes: nothing is allocated.
2. Seconds per epoch and FLOP/s of `DGEXRegressor.fit`. An epoch is its mini-batches and the error of a twentieth of the
   profiles. FLOP/s count 6 x weights x profiles: no activation, update or error, but a gradient of the landmarks too,
   which is not computed.

Without `--gpu` the devices are eight virtual ones, which share the cores of this machine: no speed-up is to be
expected, what is measured is what dividing the work costs. The peer is NumPy with an epoch's bare products of the same
shapes. The configurations take turns, one epoch after one of warming up, three times; the three architectures are the
paper's smallest, middle and largest, on 1,000 profiles. Writes results/scale.json; about three quarters of an hour on
two cores, which should be idle otherwise: NumPy's threads wait for each other.

With `--gpu` the devices are those that JAX sees, and the sizes are the paper's: 88,807 profiles (synthetic), an eighth
as many to select the epoch on, and 200 epochs, extrapolated from five, with everything that comes before and after them
(compiling, placing the profiles, copying the model to the host). The peer is a bare product of large matrices of the
same type on every device. Each configuration has a process of its own, and so a peak of memory of its own. Writes
results/scale_gpu.json. To try it without a GPU, in half a minute:
`--gpu --compiled 3000x1 --trained 50x3 --partitions 1 --profiles 500 --targets 100`.
"""

import argparse
import os
import time
from collections import defaultdict
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks._results import provenance, write
from benchmarks.performance._rounds import in_new_process
from dgex import DGEXRegressor
from dgex._network import Layer, NetworkConfig
from dgex._optimizer import AT_REST
from dgex._programs import Rates, Scaling, TrainConfig, state_structure, step_program
from dgex._sharding import Layout

N_PROFILES, N_LANDMARKS, N_TARGETS, BATCH_SIZE, N_EPOCHS = 88_807, 943, 9_520, 200, 200  # of the paper
ARCHITECTURES = [f"{units}x{depth}" for units in (3000, 6000, 9000) for depth in (1, 2, 3)]
TRAINED = ["3000x1", "6000x2", "9000x3"]
LARGEST_STACK = 5 * 10**8  # weights of a stack that 24 GiB hold four times, with room for the rest
PAPER_MINUTES = {"9000x3": 12 * 60}  # for all targets: six hours for each half of them

# Dense TFLOP/s that the maker promises; float32 is TF32.
DATA_SHEET = {
    (card, dtype): rate
    for card in ("NVIDIA H200", "NVIDIA H100 80GB HBM3")
    for dtype, rate in (("float32", 494), ("bfloat16", 989))
}
LARGE = {"gpu": 8192, "cpu": 512}  # rows and columns of the peer's matrices
VIRTUAL = "virtual devices share the cores: what dividing the work costs, not how much it speeds up"
IN_COMMON = ("device", "profiles", "targets", "precision", "weights", "epochs", "note")  # left out of the tables


class Configuration(NamedTuple):
    """What is trained, on how many devices."""

    hidden: str
    partitions: int
    devices: int
    dtype: str = "float32"

    def network(self, n_targets: int) -> NetworkConfig:
        """The stack of networks for so many targets."""
        width, depth = map(int, self.hidden.split("x"))
        n_outputs = -(-n_targets // self.partitions)
        return NetworkConfig(N_LANDMARKS, (width,) * depth, n_outputs, "tanh", self.dtype, self.partitions)


def memory(hidden: str, partitions: list[int]) -> list[dict[str, Any]]:
    """What the compiler says that a step of one architecture takes of each device."""
    rows, one_device = [], {}
    for n_partitions, n_devices in product(partitions, usable_counts()):
        analysis = compiled_step(Configuration(hidden, n_partitions, n_devices)).memory_analysis()
        parts = {part: getattr(analysis, f"{part}_size_in_bytes") for part in ("argument", "output", "alias", "temp")}
        total = parts["argument"] + parts["output"] - parts["alias"] + parts["temp"]
        row = {"device": jax.devices()[0].device_kind, "hidden": hidden, "partitions": n_partitions}
        row |= {"devices": n_devices, **{f"{part} GB": size / 1e9 for part, size in parts.items()}}
        share = total / one_device.setdefault(n_partitions, total)
        rows.append({**row, "total GB": total / 1e9, "share of one device": share})
    return rows


def compiled_step(configuration: Configuration) -> Any:
    """The step program for the paper's profiles, from nothing but the shapes and places of its arrays."""
    layout = Layout(tuple(jax.devices()[: configuration.devices]), configuration.partitions)
    network = configuration.network(N_TARGETS)
    config = TrainConfig(network, "squared_error", "sgd", BATCH_SIZE, dropout=True)
    padded = config.padded_for(layout)
    stack, n_outputs, n_steps = network.n_networks, padded.network.n_outputs, -(-N_PROFILES // BATCH_SIZE)

    def divided(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32, sharding=layout.divided(len(shape)))

    def replicated(*shape: int, dtype: type = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.replicated)

    state = jax.tree.map(lambda array: divided(*array.shape), state_structure(padded))
    X, y = replicated(N_PROFILES, N_LANDMARKS), divided(stack, N_PROFILES, n_outputs)
    scaling = Scaling(*[replicated(N_LANDMARKS)] * 2, *[divided(stack, n_outputs)] * 2)
    order = replicated(n_steps * BATCH_SIZE, dtype=np.int32)
    ones = np.ones(stack, dtype=np.float32)
    settings = AT_REST._replace(learning_rate=ones, layer_rates=(Layer(ones, ones),) * len(network.layer_shapes))
    arguments = state, ones, X, y, scaling, order, 0, N_PROFILES, Rates(settings, 0.1), 0, 0, 0, n_steps
    return step_program(config, layout).lower(*arguments).compile()


def speed(
    configurations: list[Configuration], n_profiles: int, n_targets: int, n_rounds: int, n_epochs: int, gpu: bool
) -> list[dict[str, Any]]:
    """Train each configuration for one epoch of warming up and some that count, in several rounds."""
    # Sums of twenty factors are quickly made, and training does not diverge on them.
    rng = np.random.default_rng(0)
    shapes = (n_profiles, 20), (20, N_LANDMARKS), (20, n_targets)
    factors, of_landmarks, of_targets = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    X, y = factors @ of_landmarks, factors @ of_targets

    # As many validation profiles as the paper has, in proportion; what they are does not matter here.
    validation = {"X_val": X[: n_profiles // 8], "y_val": y[: n_profiles // 8]} if gpu else {}
    seconds, peers, peaks, besides = defaultdict(list), defaultdict(list), {}, {}
    for _, one in product(range(n_rounds), configurations):
        network = one.network(n_targets)
        model = DGEXRegressor(
            hidden_layer_sizes=network.hidden_layer_sizes,
            n_partitions=one.partitions,
            devices=one.devices,
            compute_dtype=one.dtype,
            batch_size=BATCH_SIZE,
            max_iter=1 + n_epochs,
            validation_fraction=0,
            monitor_size=-(-n_profiles // 20),
            random_state=0,
        )
        start = time.perf_counter()
        epochs = [epoch["seconds"] for epoch in model.fit(X, y, **validation).history_]
        besides[one] = time.perf_counter() - start - sum(epochs[1:])  # an epoch with compiling among it
        seconds[one] += epochs[1:]
        peaks[one] = peak_memory(one.devices)
        peers[one].append(one.devices * large_product(one.dtype) if gpu else products_of_an_epoch(network, n_profiles))

    rows = []
    for one in configurations:
        weights = one.partitions * sum(a * b for a, b in one.network(n_targets).layer_shapes)
        typical, rate = median(seconds[one]), 6e-12 * weights * n_profiles / median(seconds[one])
        row = {"device": jax.devices()[0].device_kind, "profiles": n_profiles, "targets": n_targets}
        row |= {**one._asdict(), "precision": precision(one.dtype), "weights": weights, "epochs": len(seconds[one])}
        row |= {"seconds": typical, "fastest": min(seconds[one]), "slowest": max(seconds[one]), "TFLOP/s": rate}
        row |= {"TFLOP/s of peer": median(peers[one]), "share of peer": rate / median(peers[one])}
        of_gpu = {"seconds besides": besides[one], "peak GB": peaks[one]}
        rows.append({**row, **(extrapolated(row | of_gpu) | of_gpu if gpu else {"note": VIRTUAL})})
    return rows


def extrapolated(row: dict[str, Any]) -> dict[str, Any]:
    """All epochs of the paper, its own time for them, and what the maker promises of the devices."""
    minutes = (row["seconds"] * N_EPOCHS + row["seconds besides"]) / 60
    promised = DATA_SHEET.get((row["device"], row["dtype"]))
    as_in_paper = (row["profiles"], row["targets"]) == (N_PROFILES, N_TARGETS) and row["hidden"] in PAPER_MINUTES
    return {
        "share of data sheet": row["TFLOP/s"] / (promised * row["devices"]) if promised else None,
        "minutes for 200 epochs": minutes,
        "times as fast as the paper": PAPER_MINUTES[row["hidden"]] / minutes if as_in_paper else None,
    }


def precision(dtype: str) -> str:
    """The arithmetic of the products; by default, JAX takes TF32 for float32 on NVIDIA's cards."""
    default = "TF32" if jax.default_backend() == "gpu" else "float32"
    return "bfloat16" if dtype == "bfloat16" else str(jax.config.jax_default_matmul_precision or default)


def products_of_an_epoch(network: NetworkConfig, n_profiles: int) -> float:
    """TFLOP/s of NumPy in one network's products: forward, gradients of the weights and of the input."""
    rng, elapsed, n_steps = np.random.default_rng(0), 0.0, -(-n_profiles // BATCH_SIZE)
    for fan_in, fan_out in network.layer_shapes:
        shapes = (BATCH_SIZE, fan_in), (fan_in, fan_out), (BATCH_SIZE, fan_out)
        x, w, g = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        for a, b in ((x, w), (x.T, g), (g, w.T)):
            result = a @ b  # its memory is new here, and not below
            start = time.perf_counter()
            for _ in range(n_steps):
                np.matmul(a, b, out=result)
            elapsed += time.perf_counter() - start
    return 6e-12 * n_steps * BATCH_SIZE * sum(a * b for a, b in network.layer_shapes) / elapsed


def large_product(dtype: str, n_products: int = 200) -> float:
    """TFLOP/s of one device in products of large matrices."""
    size = LARGE[jax.default_backend()]
    multiply = jax.jit(lambda a, b: jax.lax.fori_loop(0, n_products, lambda _, product: a @ product, b))
    a, b = (jax.random.normal(jax.random.key(seed), (size, size)) for seed in range(2))
    a, b = (a / size**0.5).astype(dtype), b.astype(dtype)  # a product with this a is as large as b
    multiply(a, b).block_until_ready()
    start = time.perf_counter()
    multiply(a, b).block_until_ready()
    return 2e-12 * size**3 * n_products / (time.perf_counter() - start)


def peak_memory(n_devices: int) -> float | None:
    """The most GB that this process has had in use on one device; None where devices do not tell."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.devices()[:n_devices]]
    return None if None in peaks else max(peaks) / 1e9


def usable_counts() -> list[int]:
    """The numbers of devices to measure with, as far as there are so many."""
    return [count for count in (1, 2, 4, 8) if count <= len(jax.devices())]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows for people: columns aligned, three digits."""
    names = [name for name in rows[0] if name not in IN_COMMON]
    cells = [[f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in (names, *cells))


def summary(rows: list[dict[str, Any]]) -> str:
    """GB of each device for one network on all targets, as Markdown."""
    by_architecture = defaultdict(dict)
    for row in rows:
        if "total GB" in row and row["partitions"] == 1:
            by_architecture[row["hidden"]][row["devices"]] = row["total GB"]
    counts = sorted({count for sizes in by_architecture.values() for count in sizes})
    lines = [
        f"| hidden layers | {' | '.join(f'{count} device(s)' for count in counts)} |",
        "|---|" + "---:|" * len(counts),
    ]
    for hidden, sizes in by_architecture.items():
        units, depth = hidden.split("x")
        lines.append(f"| {depth} x {units} | " + " | ".join(f"{sizes[count]:.2f} GB" for count in counts) + " |")
    return "\n".join(lines)


def main(gpu: bool, compiled: list[str], trained: list[str], partitions: list[int], **sizes: int) -> None:
    """Compile, train, write after every step, and print."""
    if not gpu:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
        os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    origin, of_memory, of_speed = provenance(), [], []

    def add(rows: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
        rows += new
        write("scale_gpu" if gpu else "scale", of_memory + of_speed, origin)
        print(table(new), end="\n\n", flush=True)

    for hidden in compiled:
        add(of_memory, in_new_process(memory, hidden, partitions))
    n_profiles = sizes["profiles"] or (N_PROFILES if gpu else 1_000)
    n_epochs = sizes["epochs"] or (5 if gpu else 3)
    dtypes = ("float32", "bfloat16") if gpu else ("float32",)
    grid = product(partitions, trained, in_new_process(usable_counts), dtypes)
    grid = [Configuration(hidden, n_partitions, *rest) for n_partitions, hidden, *rest in grid]
    if not gpu:
        grid = [one for one in grid if one.network(sizes["targets"]).n_parameters <= LARGEST_STACK]
    rounds = (1, n_epochs) if gpu else (n_epochs, 1)
    for together in [[one] for one in grid] if gpu else [grid]:
        add(of_speed, in_new_process(speed, together, n_profiles, sizes["targets"], *rounds, gpu))
    print(*map(table, filter(None, (of_memory, of_speed))), sep="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the devices that JAX sees, and the paper's sizes")
    parser.add_argument("--compiled", nargs="*", default=ARCHITECTURES, metavar="UNITSxLAYERS", help="measure memory")
    parser.add_argument("--trained", nargs="+", default=TRAINED, metavar="UNITSxLAYERS", help="measure speed")
    parser.add_argument("--partitions", nargs="+", type=int, default=[1, 2, 8])
    parser.add_argument("--profiles", type=int, help="to train on")
    parser.add_argument("--targets", type=int, default=N_TARGETS, help="to train on")
    parser.add_argument("--epochs", type=int, help="of each configuration that count: 5 on GPUs, else 3")
    main(**vars(parser.parse_args()))
