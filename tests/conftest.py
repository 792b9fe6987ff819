"""Compiled programs are shared: between the processes of a run, the command line's, and the next run."""

import jax
from essper.models.cache import cache_dir


def pytest_configure(config):
    # Half of the suite's time is compilation, and many tests need the programs of others.
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
