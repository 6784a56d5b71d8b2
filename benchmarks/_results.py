"""Where a number comes from: every file of results says with what, on what and how it was made."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("dgex", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")


def provenance() -> dict[str, Any]:
    """Commit, command, machine and versions."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    uncommitted = git("status", "--porcelain", "--", "src", "benchmarks", "examples", ":!benchmarks/results")
    return {
        "commit": git("rev-parse", "HEAD") + (" with uncommitted changes" if uncommitted else ""),
        "command": " ".join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    }


def write(name: str, rows: list[dict[str, Any]], origin: dict[str, Any]) -> Path:
    """Write rows and where they come from; `origin` is taken before the measurement."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**origin, "rows": rows}, indent=1) + "\n")
    temporary.replace(path)
    return path


def _processor() -> str:
    """Its name; with family and model where a virtual machine leaves the number out, since several are called so."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = told.get("model name", platform.processor())
    if any(map(str.isdigit, name)) or "cpu family" not in told:
        return name
    return f"{name} (family {told['cpu family']}, model {told['model']})"
