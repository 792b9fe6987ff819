"""What ``essper compare`` runs when it is not told otherwise."""

DEFAULT_POSTERIORS = (
    "eight_schools-eight_schools_noncentered",
    "simulated_ar-arK",
    "simulated_garch-garch11",
    "simulated_gp-gp_regr",
    "simulated_hmm-hmm_example",
    "simulated_kidiq-kidscore_momiq",
    "simulated_mesquite-logmesquite_logvas",
    "simulated_nes-nes",
    "simulated_regression-blr",
)
"""The built-in posteriors on which NUTS passes every gate within the default budget.

Left out are those that need more (``gp_pois_regr``, ``kidscore_interaction``, ``earn_height``: strong
correlations), the centered eight schools, whose funnel no sampler here gets right, and the slow ODE.
"""
DEFAULT_SAMPLERS = ("nuts", "hmc", "drhmc")
DEFAULT_BUDGET = 100_000
"""Gradients per chain, warmup included."""
DEFAULT_CHAINS = 4
DEFAULT_OUT = "results/compare"
