"""Compiled programs are shared: between the processes of a run, the command line's, and the next run."""

import gc
from pathlib import Path

import jax
import pytest
from essper.models.cache import cache_dir

MAPPINGS = 20_000
"""Of memory, in a process: every compiled program has some, and Linux allows 65 530 of them."""


def pytest_configure(config):
    # Half of the suite's time is compilation, and many tests need the programs of others.
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
