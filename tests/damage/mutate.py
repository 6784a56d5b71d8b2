"""Run by tests/test_io_damage.py: `mutate.py DATA FOLDER SEED N_MUTATIONS` prints how many were read, and refused."""

import faulthandler
import gzip
import random
import resource
import sys
from pathlib import Path

import numpy as np

from dgex.io import ExpressionFileError, open_expression, write_expression

# Not h5ad: AnnData keeps text in heaps of HDF5, on which HDF5 2.0 itself loops forever when they are damaged
# (H5HG__cache_heap_deserialize). Of GCTX, only text of fixed length is read.
ENDINGS = (".gctx", ".parquet", ".tsv", ".tsv.gz")

# A reader that believes a damaged header would ask for more.
MEMORY_BYTES = 4 * 2**30

# Seconds after which a file counts as hanging.
TIMEOUT = 60


def originals(data, folder):
    """Real files in every format, small enough to be damaged by the thousand."""
    for path in sorted((data / "gctx").iterdir()):
        content = path.read_bytes()
        yield path.name, content if len(content) < 2**20 else b"".join(content.splitlines(keepends=True)[:60])
        if path.suffix == ".gct" and len(content) < 2**20:
            yield f"{path.name}.gz", gzip.compress(content)
    with open_expression(data / "ecoli_rnaseq_precise2.npz") as file:
        X = file.read(range(12), range(40))
        described = {"profile_ids": file.profile_ids[:12], "gene_ids": file.gene_ids[:40]}
    described["profile_metadata"] = {"batch": [f"batch {n % 3}" for n in range(12)], "depth": np.arange(12) / 2}
    for ending in ENDINGS:
        for compression in (0, 4) if ending == ".gctx" else (0,):
            path = folder / f"original{ending}"
            write_expression(path, X, **described, compression=compression)
            yield f"ours-{compression}{ending}", path.read_bytes()
    arrays = {"X": X, "samples": described["profile_ids"].astype(str), "genes": described["gene_ids"].astype(str)}
    for save in (np.savez, np.savez_compressed):
        save(folder / "original.npz", **arrays)
        yield f"{save.__name__}.npz", (folder / "original.npz").read_bytes()


def damaged(content, rng):
    """A copy with a few bytes changed, a part missing, repeated or replaced, or the end cut off."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        start = rng.randrange(len(content) or 1)
        length = rng.choice([1, 1, 2, 4, 8, 64, 1024])
        kind = rng.randrange(6)
        if kind == 0:
            content[start : start + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            content[start : start + length] = rng.randbytes(length)
        elif kind == 2:
            del content[start : start + length]
        elif kind == 3:
            content[start:start] = content[start : start + length]
        elif kind == 4:
            content[start : start + length] = rng.choice([b"\xff", b"\x00", b"9", b"\t", b"\n", b'"']) * length
        else:
            del content[start:]
    return bytes(content)


def main(data, folder, seed, n_mutations):
    files = list(originals(data, folder))
    rng = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    n_read = n_refused = 0
    for number in range(n_mutations):
        name, content = files[number % len(files)]
        path = folder / "damaged"
        path.write_bytes(damaged(content, rng))
        (folder / "last.txt").write_text(f"{name}, mutation {number} of seed {seed}")
        faulthandler.dump_traceback_later(TIMEOUT, exit=True)
        try:
            with open_expression(path) as file:
                for metadata in (file.profile_metadata, file.gene_metadata):
                    for column in metadata:
                        assert len(metadata[column]) in file.shape
                X = file.read()
                assert X.shape == file.shape
                assert X.dtype == file.dtype
            n_read += 1
        except ExpressionFileError as error:
            if str(path) not in str(error):
                raise
            n_refused += 1
        faulthandler.cancel_dump_traceback_later()
    print(n_read, n_refused)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
