"""Stan posteriors whose executed gradients can be counted."""

from functools import cache

from essper.models import Target, from_stan

REJECTING = """
data { int N; vector[N] y; }
parameters { vector[N] theta; real<lower=0> tau; }
transformed parameters { real shift = theta[1] + tau; }
model {
  if (tau > 4) reject("tau is ", tau);
  theta ~ normal(0, 1);
  y ~ normal(tau * theta, 1);
  tau ~ normal(0, 2);
}
"""


@cache
def rejecting_posterior() -> Target:
    """Of dimension 3; fails where tau > 4, which chains and their first positions do run into."""
    return from_stan(REJECTING, {"N": 2, "y": [1.5, -2.0]}, name="rejecting")


@cache
def gaussian_posterior() -> Target:
    """Of dimension 3, standard deviations 1, 2 and 3."""
    return from_stan("parameters { vector[3] x; } model { x ~ normal(0, [1, 2, 3]'); }", name="gaussian")
