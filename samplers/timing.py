"""Wall-clock time split into compilation and work, compiled programs, and how many threads to use."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

KEPT = 100
"""So many compiled programs does a process keep in memory. On the CPU each has up to some 250 memory
mappings, and Linux allows a process 65 530: a comparison of all of posteriordb compiles more than that."""


class Clock:
    """Seconds of one run; compilation is kept apart from the phases that it interrupts."""

    def __init__(self) -> None:
        self.compile_seconds = 0.0
        self._compiled_before = 0.0
        self._started = time.perf_counter()
        self._lock = threading.Lock()

    def add_compilation(self, seconds: float) -> None:
        with self._lock:
            self.compile_seconds += seconds

    def lap(self) -> float:
        """Seconds since the last lap, without the compilation that fell into them."""
        now = time.perf_counter()
        lap = now - self._started - (self.compile_seconds - self._compiled_before)
        self._started, self._compiled_before = now, self.compile_seconds
        return max(lap, 0.0)


class Program:
    """A jitted function compiled once per signature, with the time that took told to a clock.

    Several threads may call it; those that need a program being compiled wait for it. Of what all programs of
    a process have compiled the `KEPT` last used are kept; others are compiled again.
    """

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._lock = threading.Lock()

    def __call__(self, clock: Clock, *args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        precision = jax.config.read("jax_enable_x64")  # decides the types of what is made inside
        key = self, structure, precision, tuple((jax.typeof(x).str_short()) for x in leaves)
        with self._lock:
            compiled = _RECENT.get(key)
            if compiled is None:
                start = time.perf_counter()
                own = functools.partial(self._function)  # JAX keeps what it compiles as long as the function
                compiled = jax.jit(own).lower(*args).compile()
                clock.add_compilation(time.perf_counter() - start)
                _RECENT.put(key, compiled)
        return jax.block_until_ready(compiled(*args))


class _Recent:
    """The compiled programs last used."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, Callable] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Callable | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: Hashable, compiled: Callable) -> None:
        with self._lock:
            self._found[key] = compiled
            while len(self._found) > KEPT:
                self._found.popitem(last=False)


_RECENT = _Recent()


def worker_threads() -> int:
    """Threads for independent chains: ``$ESSPER_THREADS``, or the cores this process may use."""
    asked = os.environ.get("ESSPER_THREADS")
    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        threads = int(asked)
    except ValueError:
        threads = 0
    if threads < 1:
        raise ValueError(f"ESSPER_THREADS={asked!r}: give a number of threads, 1 or more")
    return threads
