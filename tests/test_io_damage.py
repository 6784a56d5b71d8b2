"""Files that are damaged at random: the outcome is what they say now, or an error of the library, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# More by hand: DGEX_MUTATIONS=100000 pytest tests/test_io_damage.py
N_MUTATIONS = int(os.environ.get("DGEX_MUTATIONS", "3000"))

SCRIPT = Path(__file__).parent / "damage" / "mutate.py"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_read_or_refused(seed, data_folder, tmp_path):
    # In a process of its own, which a crash of a library under ours would end.
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(data_folder), str(tmp_path), str(seed), str(N_MUTATIONS // 2)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    last = (tmp_path / "last.txt").read_text() if (tmp_path / "last.txt").exists() else "none"
    assert result.returncode == 0, f"after {last}: {result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    n_read, n_refused = map(int, result.stdout.split()[-2:])
    assert n_read + n_refused == N_MUTATIONS // 2
    assert n_read > 0
    assert n_refused > 0
