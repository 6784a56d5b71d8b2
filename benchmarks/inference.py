"""How fast and in how much memory are profiles inferred from file to file? `python -m benchmarks.inference`.

A network of 978 x 3000 x 21,290 units infers 10,000 and 100,000 profiles from one GCTX file into another. Each run is a
process of its own: memory is the most that it had resident, beyond what it had with the model loaded. The peers,
measured in the same run, are the two things that no program can do without: the products of the network's matrices, by
NumPy, and writing as many bytes in sequence to the same disk and bringing them onto it. The slower of the two is the
limit.

Then 100 profiles, chosen at random, are read from the larger file.

Needs 11 GB on disk in a temporary folder, and writes results/inference.json. About six minutes on two cores.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np

from benchmarks._memory import most_resident, resident
from benchmarks._results import provenance, write
from benchmarks.performance._rounds import in_new_process
from dgex import DGEXRegressor
from dgex.inference import predict_to_file
from dgex.io import create_expression, open_expression

N_LANDMARKS, N_UNITS, N_TARGETS = 978, 3000, 21_290
PRODUCT_ROWS = 1024
WRITTEN_BYTES = 2**31


def prepare(folder: Path, n_profiles: int, n_units: int, n_targets: int) -> None:
    """Fit a model for an epoch on noise, and write noise to infer from."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, N_LANDMARKS), dtype=np.float32)
    y = rng.standard_normal((400, n_targets), dtype=np.float32)
    model = DGEXRegressor(hidden_layer_sizes=(n_units,), max_iter=1, random_state=0).fit(X, y)
    joblib.dump(model, folder / "model.joblib")
    profile_ids = [f"profile {number}" for number in range(n_profiles)]
    with create_expression(folder / f"{n_profiles}.gctx", profile_ids=profile_ids, gene_ids=landmark_names()) as writer:
        for start in range(0, n_profiles, 10_000):
            n = min(10_000, n_profiles - start)
            writer.write(rng.standard_normal((n, N_LANDMARKS), dtype=np.float32))


def landmark_names() -> list[str]:
    """Names of the landmarks."""
    return [f"landmark {number}" for number in range(N_LANDMARKS)]


def infer(folder: Path, n_profiles: int, n_targets: int) -> dict[str, float]:
    """Seconds, and memory beyond the model."""
    model = joblib.load(folder / "model.joblib")
    before = resident()
    start = time.perf_counter()
    predict_to_file(
        model,
        folder / f"{n_profiles}.gctx",
        folder / f"{n_profiles}-inferred.gctx",
        landmark_names=landmark_names(),
        target_names=[f"target {number}" for number in range(n_targets)],
        verbose=False,
    )
    return {"seconds": time.perf_counter() - start, "MB beyond the model": most_resident() - before}


def read_some(folder: Path, n_profiles: int) -> dict[str, float]:
    """Open the file that was written and read 100 profiles."""
    chosen = np.sort(np.random.default_rng(0).choice(n_profiles, 100, replace=False))
    before = resident()
    start = time.perf_counter()
    with open_expression(folder / f"{n_profiles}-inferred.gctx") as file:
        X = file.read([f"profile {number}" for number in chosen])
    return {"seconds": time.perf_counter() - start, "MB": most_resident() - before, "values": X.size}


def products(n_units: int, n_targets: int, n_rounds: int = 5) -> float:
    """Profiles per second of the network's bare products, by NumPy; the median of several rounds."""
    rng = np.random.default_rng(0)
    x, a, b = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((PRODUCT_ROWS, N_LANDMARKS), (N_LANDMARKS, n_units), (n_units, n_targets))
    )
    h, y = x @ a, np.empty((PRODUCT_ROWS, n_targets), dtype=np.float32)
    seconds = []
    for _ in range(n_rounds + 1):
        start = time.perf_counter()
        np.matmul(x, a, out=h)
        np.matmul(h, b, out=y)
        seconds.append(time.perf_counter() - start)
    return PRODUCT_ROWS / float(np.median(seconds[1:]))


def writing(folder: Path, bytes_per_profile: int) -> float:
    """Profiles per second of writing their bytes in sequence, until they are on the disk."""
    block = np.random.default_rng(0).bytes(2**24)
    path = folder / "bytes"
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(WRITTEN_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return WRITTEN_BYTES / bytes_per_profile / seconds


def main(sizes: list[int], n_units: int, n_targets: int) -> None:
    """Measure each size, its limits before and after, and reading."""
    origin, rows = provenance(), []
    bytes_per_profile = 4 * (N_LANDMARKS + n_targets)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n_profiles in sizes:
            in_new_process(prepare, folder, n_profiles, n_units, n_targets)
            limits = [in_new_process(products, n_units, n_targets)], [writing(folder, bytes_per_profile)]
            measured = in_new_process(infer, folder, n_profiles, n_targets)
            limits[0].append(in_new_process(products, n_units, n_targets))
            limits[1].append(writing(folder, bytes_per_profile))
            of_products, of_writing = (float(np.mean(pair)) for pair in limits)
            rate = n_profiles / measured["seconds"]
            rows.append(
                {
                    "case": "infer",
                    "network": f"{N_LANDMARKS}x{n_units}x{n_targets}",
                    "profiles": n_profiles,
                    **measured,
                    "profiles per second": rate,
                    "limit by products": of_products,
                    "limit by writing": of_writing,
                    "share of the limit": rate / min(of_products, of_writing),
                }
            )
            print(rows[-1], flush=True)
        some = in_new_process(read_some, folder, sizes[-1])
        rows.append({"case": "read 100 profiles", "profiles": sizes[-1], "genes": N_LANDMARKS + n_targets, **some})
        print(rows[-1])
    write("inference", rows, origin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--n-units", type=int, default=N_UNITS)
    parser.add_argument("--n-targets", type=int, default=N_TARGETS)
    main(**vars(parser.parse_args()))
