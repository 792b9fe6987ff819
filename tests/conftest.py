"""Compiled programs: made soon, few at a time, shared by processes and with the next run."""

import gc
import os
from pathlib import Path

import jax
import pytest
from essper.models.cache import cache_dir

MAPPINGS = 20_000
"""Of memory, in a process: every compiled program has some, and Linux allows 65 530 of them."""


def pytest_configure(config):
    # Most of the suite's time is compilation. Few programs run long enough for LLVM's optimizations to pay
    # (those of `invariance.drifts` have them), and many tests need the programs of others.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {flags}"
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def _few_programs_in_memory():
    """The programs of thousands of tests do not fit into one process."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()
        gc.collect()
