"""Generalized linear models: a density whose location is α + xβ, computed here and given to the density.

Signatures are those of the Stan Functions Reference. In Stan these functions exist for their speed; here
the matrix product and the density are one fused program anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..functions.operators import binary
from ..numeric import lgamma, log, log_sigmoid
from ..values import Type, Value, aligned
from .base import Terms, density, finite, positive_finite
from .special import log_rising_factorial

Rewritten = tuple[str, tuple[Value, ...]]


def _location(x: Value, alpha: Value, beta: Value) -> Value:
    return binary("+", binary("*", x, beta), alpha)


def _with_location(name: str) -> Callable[..., Rewritten]:
    """``(y, x, alpha, beta, further)`` → the density of ``(y, location, further)``."""

    def rewrite(y: Value, x: Value, alpha: Value, beta: Value, *further: Value) -> Rewritten:
        return name, (y, _location(x, alpha, beta), *further)

    return rewrite


def _binomial(n: Value, trials: Value, x: Value, alpha: Value, beta: Value) -> Rewritten:
    return "binomial_logit", (n, trials, _location(x, alpha, beta))


def _categorical(y: Value, x: Value, alpha: Value, beta: Value) -> Rewritten:
    product = binary("*", x, beta)
    level, _, (scores, intercepts) = aligned([product, alpha])
    arrays = 1 if product.kind == "matrix" else 0
    return "categorical_logit", (y, Value(Type("vector", arrays), scores + intercepts, level))


def _ordered(y: Value, x: Value, beta: Value, cuts: Value) -> Rewritten:
    return "ordered_logistic", (y, binary("*", x, beta), cuts)


REWRITTEN: dict[str, tuple[int, Callable[..., Rewritten]]] = {
    "bernoulli_logit_glm": (4, _with_location("bernoulli_logit")),
    "poisson_log_glm": (4, _with_location("poisson_log")),
    "normal_id_glm": (5, _with_location("normal")),
    "neg_binomial_2_log_glm": (5, _with_location("_neg_binomial_2_log_terms")),
    "binomial_logit_glm": (5, _binomial),
    "categorical_logit_glm": (4, _categorical),
    "ordered_logistic_glm": (4, _ordered),
}
"""By name: the number of arguments, and the same density with its location computed."""


def rewritten(name: str, arguments: Sequence[Value]) -> Rewritten | None:
    """The density and its arguments that a generalized linear model stands for; None for any other."""
    if name not in REWRITTEN:
        return None
    count, rewrite = REWRITTEN[name]
    return rewrite(*arguments) if len(arguments) == count else None


@density(0, 0, 0, discrete=True)
def _neg_binomial_2_log_terms(n: Any, eta: Any, phi: Any) -> Terms:
    """`neg_binomial_2_log` in the terms in which Stan's generalized linear model has it."""
    log_phi = log(phi)
    return Terms(
        (
            -lgamma(n + 1.0),
            phi * log_phi,
            log_rising_factorial(phi, n),
            n * eta,
            (n + phi) * (log_sigmoid(log_phi - eta) - log_phi),
        ),
        valid=(n >= 0, finite(eta), positive_finite(phi)),
    )
