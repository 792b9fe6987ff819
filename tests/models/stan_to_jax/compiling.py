"""Compiling many small programs soon."""

FAST_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Without LLVM's optimizations: half of the time. For tests of formulas, one call a program; whole programs
are tested as they run."""
