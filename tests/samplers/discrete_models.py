"""numpyro models with discrete sites whose evaluations are counted, and their marginals."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

Y = np.array([-2.3, 0.4, 0.9, 2.6])
CENTERS = 3
SHARE = 0.3


class Evaluations:
    """How often a model's log density has been evaluated, alone or with its gradient."""

    def __init__(self) -> None:
        self.gradients = self.densities = 0
        self._lock = threading.Lock()
        self.factor = self._factor()

    def _count(self, kind: str) -> np.ndarray:
        with self._lock:
            setattr(self, kind, getattr(self, kind) + 1)
        return np.zeros(())

    def _factor(self) -> Callable:
        """0 for any number; its value and its derivative both hang on the count."""

        def told(kind: str, x):
            return jax.pure_callback(lambda _: self._count(kind), jax.ShapeDtypeStruct((), x.dtype), x)

        @jax.custom_vjp
        def factor(x):
            return told("densities", x)

        def forward(x):
            zero = told("gradients", x)
            return zero, zero

        factor.defvjp(forward, lambda zero, cotangent: (zero * cotangent,))
        return factor


def parameters():
    """Named so that their order is not that of the alphabet."""
    scale: Any = numpyro.sample("scale", dist.HalfNormal(1.0))
    mean: Any = numpyro.sample("mean", dist.Normal(0.0, 2.0))
    return scale, mean


def centers(mean):
    return jnp.stack([jnp.asarray(-2.0), mean, jnp.asarray(2.0)])


def mixture(y, counter: Evaluations | None = None):
    """Three components, the middle one of which is sought, and a switch that widens all."""
    scale, mean = parameters()
    wide: Any = numpyro.sample("wide", dist.BernoulliProbs(SHARE))
    with numpyro.plate("rows", len(y)):
        label: Any = numpyro.sample("label", dist.CategoricalProbs(jnp.array([0.2, 0.5, 0.3])))
        numpyro.sample("y", dist.Normal(centers(mean)[label], scale * (1 + wide)), obs=y)
    if counter is not None:
        # Of all sites: what hangs on some alone need not be evaluated again where others change.
        numpyro.factor("count", counter.factor(mean + scale + wide + label.sum()))


def log_parts(scale, mean, y):
    """log p(wide, label_i, y_i | scale, mean) of the rows, ``f[2, n, 3]``, without wide's own share."""
    widths = scale * jnp.array([1.0, 2.0])
    fit = dist.Normal(centers(mean), widths[:, None, None]).log_prob(y[:, None])
    return jnp.log(jnp.array([0.2, 0.5, 0.3])) + fit


def log_wide(scale, mean, y):
    """log p(wide, y | scale, mean), ``f[2]``."""
    rows = jax.nn.logsumexp(log_parts(scale, mean, y), axis=2).sum(axis=1)
    return rows + jnp.log(jnp.array([1 - SHARE, SHARE]))


def marginal(y):
    """The mixture with both kinds of discrete sites summed out."""
    scale, mean = parameters()
    numpyro.factor("y", jax.nn.logsumexp(log_wide(scale, mean, y)))


def exact_means(target, y):
    """E of the constrained parameters, of ``wide`` and of every row's being in the middle, by a grid."""
    u = np.linspace(-6, 2.5, 240)
    m = np.linspace(-9, 9, 361)
    points = jnp.asarray(list(itertools.product(u, m)))
    weights = jax.nn.softmax(jax.jit(jax.vmap(target.log_density))(points))

    def shares(point):
        scale, mean = jnp.exp(point[0]), point[1]
        wide = jax.nn.softmax(log_wide(scale, mean, y))
        middle = jax.nn.softmax(log_parts(scale, mean, y), axis=2)[:, :, 1]
        return jnp.concatenate([jnp.stack([scale, mean, wide[1]]), wide @ middle])

    return np.asarray(weights @ jax.jit(jax.vmap(shares))(points))
