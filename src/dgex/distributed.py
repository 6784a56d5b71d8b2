"""Several processes, on one machine or many, that train one model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import jax

__all__ = ["initialize"]

# A process is given up when nothing was heard of it for so long.
HEARTBEAT_TIMEOUT_SECONDS = 30


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_timeout_seconds: int = HEARTBEAT_TIMEOUT_SECONDS,
    **settings: Any,
) -> None:
    """Join the processes that train together: `jax.distributed.initialize`, such that none waits for a dead one.

    Call it before anything else that uses JAX. The processes then train one model whenever all of them call
    :meth:`dgex.DGEXRegressor.fit` with the same data; `jax.distributed.initialize` itself does too. What this function
    adds: when a process ends with an error, or dies, the others end within `heartbeat_timeout_seconds` (JAX waits
    for 100 seconds, and for 300 at the end of a process that failed), and a process that is asked to end by SIGTERM
    does end. An error that nobody catches ends its process at once, without `atexit`, except in interactive sessions.

    Parameters
    ----------
    coordinator_address : str, default=None
        Address and port of the first process, such as "10.0.0.1:1234". Under Slurm and Open MPI all three may be left
        out.
    num_processes : int, default=None
        Number of processes.
    process_id : int, default=None
        Number of this process, from 0.
    heartbeat_timeout_seconds : int, default=30
        A process of which nothing was heard for so long is given up, and the others end.
    **settings
        Passed on to `jax.distributed.initialize`.

    Raises
    ------
    RuntimeError
        If JAX has been used before.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it swallows SIGTERM
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        heartbeat_timeout_seconds=heartbeat_timeout_seconds,
        **settings,
    )
    if not hasattr(sys, "ps1"):  # an interactive session survives a typing error
        sys.excepthook = _ending_at_once(sys.excepthook)


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _ending_at_once(report: Hook) -> Hook:
    """A hook that reports an error that nobody caught and ends, without waiting for the other processes to end too."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        report(kind, error, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    return hook
