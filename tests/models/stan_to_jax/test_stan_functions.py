"""Every function that is lowered, against Stan: value, gradient, type, concrete evaluation, rows.

One Stan program holds many calls. Call k contributes uₖ sₖ(x) to the target, with sₖ a weighted sum of
its elements and u parameters: the gradient at u = eₖ is (∇sₖ, s), so that calls are compared one by one.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax.errors import Ragged, UnsupportedStanError
from essper.models.stan_to_jax.functions import call, known
from essper.models.stan_to_jax.values import (
    INT,
    MATRIX,
    REAL,
    ROW_VECTOR,
    VECTOR,
    Level,
    Type,
    Value,
    integer,
    real,
)

REALS, INTS, VECTORS, ROW_VECTORS = (Type(kind, 1) for kind in ("real", "int", "vector", "row_vector"))

# -- the arguments: in Stan, and the same in numpy or jax.numpy from the flat parameters -----------------

DATA = """
  array[3] int N = {3, 1, 2}; array[3] int K = {5, 6, 4};
  array[3] real E = {0.1, 0.7, 1.5}; array[2] vector[3] F = {[0.1, -0.2, 1.3]', [0.4, 0.5, -0.6]'};
  array[4] int columns = {1, 3, 2, 1}; array[4] int starts = {1, 3, 4, 5};
"""
PARAMETERS = "real a; real b; vector[3] v; vector[3] w; matrix[3, 3] m; matrix[3, 2] t;"
DIM = 23
TRANSFORMED = """
  real p = inv_logit(a); real q = exp(b); real neg = -q; real big = 1 + q; real far = a + q;
  vector[3] pv = inv_logit(v); vector[3] qv = exp(w); vector[3] negv = -qv; vector[3] bigv = 10 + qv;
  vector[3] sx = softmax(v); vector[4] four = append_row(v, a);
  row_vector[3] r = w'; row_vector[3] h = 2 * v';
  array[3] real A = to_array_1d(v); array[3] real B = to_array_1d(qv); array[2, 3] real AA = {A, B};
  array[2] vector[3] V = {v, w}; array[3] vector[3] X = {v, w, v .* w}; array[2] row_vector[3] R = {v', w'};
  matrix[3, 3] G; for (i in 1:3) G[i] = softmax(m[i]')';
  matrix[3, 3] S = m * m' + 0.5 * identity_matrix(3); matrix[3, 3] L = cholesky_decompose(S);
"""


def variables(x: Any) -> dict[str, tuple[Type, Any]]:
    np_or_jnp: Any = np if isinstance(x, np.ndarray) else jnp
    exp, stack, concatenate = np_or_jnp.exp, np_or_jnp.stack, np_or_jnp.concatenate
    a, b, v, w = x[0], x[1], x[2:5], x[5:8]
    m, t = x[8:17].reshape(3, 3).T, x[17:23].reshape(2, 3).T
    p, q, pv, qv = 1 / (1 + exp(-a)), exp(b), 1 / (1 + exp(-v)), exp(w)
    spd = m @ m.T + 0.5 * np.eye(3)
    return {
        **{"a": (REAL, a), "b": (REAL, b), "v": (VECTOR, v), "w": (VECTOR, w), "m": (MATRIX, m)},
        **{"t": (MATRIX, t), "p": (REAL, p), "q": (REAL, q), "neg": (REAL, -q), "big": (REAL, 1 + q)},
        **{"far": (REAL, a + q), "pv": (VECTOR, pv), "qv": (VECTOR, qv), "negv": (VECTOR, -qv)},
        **{"bigv": (VECTOR, 10 + qv), "sx": (VECTOR, exp(v) / exp(v).sum()), "r": (ROW_VECTOR, w)},
        **{"h": (ROW_VECTOR, 2 * v), "A": (REALS, v), "B": (REALS, qv)},
        **{"AA": (Type("real", 2), stack([v, qv])), "V": (VECTORS, stack([v, w]))},
        **{"X": (VECTORS, stack([v, w, v * w])), "R": (ROW_VECTORS, stack([v, w])), "S": (MATRIX, spd)},
        **{"G": (MATRIX, exp(m) / exp(m).sum(1)[:, None])},
        **{"L": (MATRIX, np_or_jnp.linalg.cholesky(spd)), "four": (VECTOR, concatenate([v, a[None]]))},
        **{"N": (INTS, np.array([3, 1, 2])), "K": (INTS, np.array([5, 6, 4]))},
        **{"E": (REALS, np.array([0.1, 0.7, 1.5]))},
        **{"F": (VECTORS, np.array([[0.1, -0.2, 1.3], [0.4, 0.5, -0.6]]))},
        **{"columns": (INTS, np.array([1, 3, 2, 1])), "starts": (INTS, np.array([1, 3, 4, 5]))},
    }


def literal(text: str) -> Value:
    return integer(int(text)) if re.fullmatch(r"-?\d+", text) else real(float(text))


def parts(expression: str) -> list[str]:
    """The function's name and its arguments."""
    return re.findall(r"[\w.-]+", expression)


def apply(expression: str, environment: dict[str, Value]) -> Value:
    name, *names = parts(expression)
    return call(name, [environment[n] if n in environment else literal(n) for n in names])


def apart(expression: str, environment: dict[str, Value]) -> dict[str, Value]:
    """The arguments in a form that keeps XLA from merging this call with the others."""
    used = {n: environment[n] for n in parts(expression)[1:] if n in environment}
    return {
        n: v if v.concrete else Value(v.type, jax.lax.optimization_barrier(v.data), v.level)
        for n, v in used.items()
    }


def values(x: Any) -> dict[str, Value]:
    return {name: Value(kind, data) for name, (kind, data) in variables(x).items()}


# -- the calls --------------------------------------------------------------------------------------------

ANYWHERE = """
abs floor ceil round trunc sin cos tan atan sinh cosh tanh asinh exp exp2 expm1 log1p_exp log_inv_logit
log1m_inv_logit inv_logit inv_cloglog cbrt square inv inv_square erf erfc Phi Phi_approx tgamma digamma
trigamma lgamma
"""
PROBABILITY = "asin acos atanh log1m logit inv_erfc inv_Phi std_normal_qf"
POSITIVE = "log log2 log10 log1p sqrt inv_sqrt"


def each(names: str, arguments: str) -> list[str]:
    return [f"{name}({argument})" for name in names.split() for argument in arguments.split()]


def listed(text: str) -> list[str]:
    return re.findall(r"\w+\([^()]*\)", text)


GROUPS = {
    "unary": [
        *each(ANYWHERE, "v"),
        *each("square exp", "a r m A V"),
        *each(PROBABILITY, "pv"),
        *each(POSITIVE, "qv"),
        *listed("acosh(bigv) log1m_exp(negv) sqrt(N) exp(K) abs(N) abs(-3) inv(4)"),
    ],
    "several": listed("""
pow(q, a)  pow(a, 2)  pow(a, 3)  pow(a, -1)  pow(q, 0.5)  pow(q, -0.5)  pow(q, 1.3)  pow(qv, v)  pow(qv, a)
pow(2, v)  pow(A, 2)  pow(v, 0)  pow(N, 2)  pow(3, 2)  pow(a, N)  pow(q, E)
fmax(a, b)  fmin(a, b)  fmax(v, w)  fmin(v, 0)  fmax(0.1, v)  fdim(v, w)  fmod(v, qv)  fmax(3, 2)
hypot(v, w)  hypot(a, 2)  atan2(v, w)  fma(a, b, q)  fma(v, w, v)  ldexp(a, 3)
lmultiply(v, qv)  lmultiply(a, q)
log_sum_exp(a, b)  log_sum_exp(v, w)  log_sum_exp(a, v)  log_diff_exp(far, a)  log_diff_exp(10, v)
log_inv_logit_diff(far, a)  log_mix(p, a, b)  log_mix(0.3, a, b)  log_mix(p, 1, 2)
beta(q, 2)  lbeta(q, 2)  lbeta(qv, pv)  lchoose(8, p)  lchoose(bigv, qv)  choose(5, 2)
choose(K, N)  lmgamma(3, big)  lmgamma(2, bigv)  rising_factorial(a, 3)  falling_factorial(a, 3)
rising_factorial(v, N)  falling_factorial(v, N)  rising_factorial(5, 2)  falling_factorial(5, 2)
log_rising_factorial(q, 3)  log_falling_factorial(5, p)  gamma_p(2, q)  gamma_q(2, qv)
inc_beta(2, 3, p)  owens_t(v, w)  owens_t(bigv, w)  owens_t(v, bigv)
modified_bessel_first_kind(0, v)  modified_bessel_first_kind(1, a)  log_modified_bessel_first_kind(0, q)
log_modified_bessel_first_kind(1, qv)  int_step(a)  int_step(-2)  step(a)  is_nan(a)  is_inf(a)
to_int(2.7)  binary_log_loss(1, p)  binary_log_loss(0, p)
add(v, 1)  subtract(a, b)  multiply(m, v)  divide(v, 2)  elt_multiply(v, w)  elt_divide(v, qv)
minus(v)  plus(v)  modulus(7, 3)  logical_eq(a, a)  logical_lt(a, b)
"""),
    "reductions": listed("""
sum(v)  sum(A)  sum(m)  sum(N)  prod(v)  prod(m)  prod(N)  max(v)  min(A)  max(m)  min(N)  max(2, 3)
min(2, 3)  mean(v)  mean(m)  mean(N)  mean(A)  variance(v)  variance(m)  sd(r)  sd(A)
norm1(v)  norm2(r)  norm1(A)  distance(v, w)  distance(v, r)  squared_distance(v, w)  squared_distance(a, b)
log_sum_exp(v)  log_sum_exp(m)  log_sum_exp(A)  softmax(v)  log_softmax(v)
log_mix(sx, w)  log_mix(sx, X)  log_mix(sx, B)  cumulative_sum(v)  cumulative_sum(A)  cumulative_sum(N)
"""),
    "products": listed("""
dot_product(v, w)  dot_product(v, r)  dot_product(A, B)  dot_self(v)  dot_self(r)
rows_dot_product(m, S)  columns_dot_product(m, S)  rows_dot_product(v, w)  columns_dot_product(v, w)
columns_dot_product(r, r)  rows_dot_product(r, h)  rows_dot_self(t)  columns_dot_self(t)  rows_dot_self(v)
diag_matrix(v)  diagonal(m)  diagonal(t)  add_diag(m, a)  add_diag(m, v)  add_diag(m, r)
diag_pre_multiply(v, t)  diag_pre_multiply(r, m)  diag_post_multiply(m, v)  quad_form_diag(m, v)
quad_form_diag(m, r)  quad_form(m, t)  quad_form(m, v)  quad_form_sym(S, t)  quad_form_sym(S, v)
trace(m)  trace_quad_form(m, t)  trace_quad_form(m, v)  trace_gen_quad_form(m, S, S)
crossprod(t)  tcrossprod(t)  multiply_lower_tri_self_transpose(m)  transpose(t)  transpose(v)
csr_matrix_times_vector(3, 3, four, columns, starts, w)
"""),
    "factorizations": listed("""
cholesky_decompose(S)  inverse(m)  inverse_spd(S)  chol2inv(L)  determinant(S)  log_determinant(m)
log_determinant_spd(S)  mdivide_left(m, v)  mdivide_left(m, t)  mdivide_left_tri_low(L, v)
mdivide_left_tri_low(L, t)  mdivide_left_spd(S, v)  mdivide_left_spd(S, t)  mdivide_right(r, m)
mdivide_right(m, S)  mdivide_right_tri_low(r, L)  mdivide_right_tri_low(m, L)  mdivide_right_spd(r, S)
mdivide_right_spd(m, S)  eigenvalues_sym(S)  qr_thin_Q(t)  qr_thin_R(t)  qr_Q(m)  qr_R(m)
singular_values(m)  matrix_power(m, 3)  matrix_power(m, 0)  scale_matrix_exp_multiply(a, m, t)
symmetrize_from_lower_tri(m)  generalized_inverse(t)  hmm_marginal(m, G, sx)
"""),
    "covariances": [
        *(
            f"gp_exp_quad_cov({arguments})"
            for arguments in ("A, a, q", "A, B, a, q", "V, a, q", "E, a, q", "F, a, q")
        ),
        *(
            f"{name}({arguments})"
            for name in ("gp_exp_quad_cov", "gp_matern32_cov")
            for arguments in ("A, a, q", "X, V, a, B", "F, a, B")
        ),
        *("gp_matern52_cov(X, V, a, B)", "gp_exponential_cov(X, V, a, B)"),
        *listed("gp_periodic_cov(A, a, q, big)  gp_periodic_cov(A, B, a, q, 2)  gp_periodic_cov(X, a, q, p)"),
        *listed("gp_dot_prod_cov(A, a)  gp_dot_prod_cov(X, a)  gp_dot_prod_cov(X, V, a)"),
        "gp_dot_prod_cov(A, B, a)",
    ],
    "containers": listed("""
pi()  e()  sqrt2()  log2()  log10()  machine_precision()
rep_vector(a, 3)  rep_vector(2, 3)  rep_row_vector(a, 2)  rep_matrix(a, 2, 3)  rep_matrix(v, 2)
rep_matrix(r, 2)  rep_array(a, 3)  rep_array(2, 3)  rep_array(v, 2)  rep_array(a, 2, 3)
linspaced_vector(4, 1, 2)  linspaced_vector(1, 1, 2)  linspaced_row_vector(3, 1, 2)
linspaced_array(3, 1, 2)  linspaced_int_array(3, 1, 7)  linspaced_int_array(4, 1, 12)
linspaced_int_array(6, 1, 3)  linspaced_int_array(1, 1, 3)  linspaced_int_array(3, 2, 2)
linspaced_int_array(7, 1, 3)  linspaced_int_array(5, 1, 3)
one_hot_vector(3, 2)  one_hot_row_vector(3, 1)  one_hot_array(3, 3)  one_hot_int_array(3, 3)
ones_vector(2)  ones_row_vector(2)  ones_array(2)  ones_int_array(2)  zeros_vector(2)
zeros_int_array(2)  zeros_array(2)  uniform_simplex(4)  identity_matrix(3)
to_vector(t)  to_vector(r)  to_vector(A)  to_vector(N)  to_row_vector(t)  to_row_vector(A)
to_matrix(v)  to_matrix(r)  to_matrix(t)  to_matrix(AA)  to_matrix(R)  to_matrix(V)  to_matrix(t, 2, 3)
to_matrix(t, 2, 3, 0)  to_matrix(t, 2, 3, 1)  to_matrix(v, 3, 1)  to_matrix(A, 1, 3, 0)  to_matrix(N, 3, 1)
to_array_1d(t)  to_array_1d(v)  to_array_1d(AA)  to_array_1d(N)  to_array_2d(t)
append_row(v, w)  append_row(a, v)  append_row(v, 2)  append_row(r, h)  append_row(m, r)  append_row(r, m)
append_row(m, S)  append_col(r, h)  append_col(a, r)  append_col(r, 2)  append_col(v, w)  append_col(m, v)
append_col(v, m)  append_col(m, t)  append_array(A, B)  append_array(N, K)  append_array(V, X)
head(v, 2)  head(V, 1)  tail(r, 2)  tail(A, 1)  segment(v, 2, 2)  segment(V, 2, 1)  segment(N, 1, 2)
sub_col(t, 2, 1, 2)  sub_row(m, 1, 2, 2)  block(m, 2, 1, 2, 3)  col(t, 2)  row(t, 3)
sort_asc(v)  sort_desc(r)  sort_asc(A)  sort_desc(N)  sort_indices_asc(v)  sort_indices_desc(w)
sort_indices_asc(N)  rank(v, 2)  rank(N, 1)  reverse(v)  reverse(V)  reverse(N)
size(v)  size(V)  size(t)  size(a)  rows(t)  cols(t)  rows(r)  cols(r)  num_elements(t)  num_elements(V)
dims(V)  dims(t)  quantile(E, 0.3)
"""),
}

# what the Stan that tests use does not have (there is another one that does), in terms of what it has
KERNELS = """
functions {
  array[] vector points(array[] real x) {
    array[size(x)] vector[1] z; for (i in 1:size(x)) z[i, 1] = x[i]; return z; }
  array[] vector points(array[] vector x) { return x; }
  vector scales(real l) { return [l, l, l]'; }
  vector scales(array[] real l) { return to_vector(l); }
  matrix kernel(int k, array[] vector x, array[] vector y, real s, vector l, real p) {
    matrix[size(x), size(y)] z;
    for (i in 1:size(x)) for (j in 1:size(y)) {
      real r = 0;
      for (n in 1:size(x[i])) r += square((x[i, n] - y[j, n]) / l[n]);
      r = r == 0 ? 0 : sqrt(r);
      if (k == 1) z[i, j] = square(s) * exp(-0.5 * square(r));
      if (k == 2) z[i, j] = square(s) * (1 + sqrt(3) * r) * exp(-sqrt(3) * r);
      if (k == 3) z[i, j] = square(s) * (1 + sqrt(5) * r + 5 * square(r) / 3) * exp(-sqrt(5) * r);
      if (k == 4) z[i, j] = square(s) * exp(-r);
      if (k == 5) z[i, j] = square(s) * exp(-2 * square(sin(pi() * r * l[1] / p)) / square(l[1]));
      if (k == 6) z[i, j] = square(s) + dot_product(x[i], y[j]);
    }
    return z;
  }
  real forward(matrix omegas, matrix gamma, vector rho) {
    vector[rows(omegas)] alpha = log(rho) + omegas[, 1];
    for (t in 2:cols(omegas)) {
      vector[rows(omegas)] next;
      for (k in 1:rows(omegas)) next[k] = log_sum_exp(alpha + log(gamma[, k])) + omegas[k, t];
      alpha = next;
    }
    return log_sum_exp(alpha);
  }
}
"""
EQUIVALENT = {
    "inc_beta(2, 3, p)": "beta_cdf(p | 2, 3)",
    "int_step(a)": "(a > 0)",
    "int_step(-2)": "0",
    "to_int(2.7)": "2",
    "modulus(7, 3)": "1",
    "prod(m)": "prod(to_vector(m))",
    "norm1(v)": "sum(abs(v))",
    "norm1(A)": "sum(abs(A))",
    "norm2(r)": "sqrt(dot_self(r))",
    "distance(v, w)": "sqrt(squared_distance(v, w))",
    "distance(v, r)": "sqrt(squared_distance(v, r))",
    "log_mix(sx, w)": "log_sum_exp(log(sx) + w)",
    "log_mix(sx, B)": "log_sum_exp(log(sx) + qv)",
    "log_mix(sx, X)": "log_sum_exp(log(sx) + v) + log_sum_exp(log(sx) + w) + log_sum_exp(log(sx) + v .* w)",
    "trace(m)": "sum(diagonal(m))",
    "trace_quad_form(m, t)": "sum(diagonal(t' * m * t))",
    "trace_quad_form(m, v)": "v' * m * v",
    "trace_gen_quad_form(m, S, S)": "sum(diagonal(m * S' * S * S))",
    "chol2inv(L)": "inverse(S)",
    "determinant(S)": "exp(log_determinant(S))",
    "log_determinant_spd(S)": "log_determinant(S)",
    "qr_thin_R(t)": "cholesky_decompose(crossprod(t))'",
    "qr_thin_Q(t)": "t / cholesky_decompose(crossprod(t))'",
    "qr_R(m)": "cholesky_decompose(crossprod(m))'",
    "qr_Q(m)": "m / cholesky_decompose(crossprod(m))'",
    "singular_values(m)": "reverse(sqrt(eigenvalues_sym(crossprod(m))))",
    "matrix_power(m, 3)": "m * m * m",
    "matrix_power(m, 0)": "identity_matrix(3)",
    "matrix_exp_multiply(m, t)": "matrix_exp(m) * t",
    "symmetrize_from_lower_tri(m)": (
        "m .* [[1, 0, 0], [1, 1, 0], [1, 1, 1]] + (m .* [[0, 0, 0], [1, 0, 0], [1, 1, 0]])'"
    ),
    "hmm_marginal(m, G, sx)": "forward(m, G, sx)",
    "generalized_inverse(t)": "crossprod(t) \\ t'",
    "scale_matrix_exp_multiply(a, m, t)": "matrix_exp(a * m) * t",
    "to_array_2d(t)": "{{t[1, 1], t[1, 2]}, {t[2, 1], t[2, 2]}, {t[3, 1], t[3, 2]}}",
    "sub_row(m, 1, 2, 2)": "m[1, 2:3]",
    "dims(V)": "{2, 3}",
    "quantile(E, 0.3)": "0.46",
}


def in_stan(expression: str) -> str:
    covariance = re.fullmatch(r"gp_(\w+)_cov\(([A-Z], )([A-Z], )?(\w)(, .*)?\)", expression)
    if covariance is None or (
        covariance[5] != ", B" and covariance[1] not in ("periodic", "dot_prod") and covariance[3] is None
    ):
        return EQUIVALENT.get(expression, expression)
    kind = 1 + ["exp_quad", "matern32", "matern52", "exponential", "periodic", "dot_prod"].index(
        covariance[1]
    )
    x, y = (f"points({(group or covariance[2])[0]})" for group in covariance.group(2, 3))
    length, *period = (covariance[5] or ", 1").removeprefix(", ").split(", ")
    return f"kernel({kind}, {x}, {y}, {covariance[4]}, scales({length}), {period[0] if period else 1})"


# -- the comparison ---------------------------------------------------------------------------------------


def score(result: Value) -> Any:
    """A weighted sum of the elements."""
    flat = result.data.reshape(-1) if result.rank else result.data
    weights = np.cos(np.arange(1, 1 + math.prod(result.shape)))
    return (flat * (weights if result.rank else weights[0])).sum()


def declaration(result: Value, k: int) -> str:
    """Stan's declaration of a variable of the result's type, and its score."""
    arrays, element = result.shape[: result.arrays], result.shape[result.arrays :]
    dims = f"[{', '.join(map(str, element))}]" if element else ""
    array = f"array[{', '.join(map(str, arrays))}] " if arrays else ""
    names = [f"i{n}" for n in range(len(result.shape))]
    loops = "".join(f"for ({i} in 1:{n}) " for i, n in zip(names, result.shape, strict=True))
    index = f"[{', '.join(names)}]" if names else ""
    return (
        f"{array}{result.kind}{dims} z{k} = EXPRESSION; real s{k} = 0; int j{k} = 0; "
        f"{loops}{{ j{k} += 1; s{k} += cos(j{k}) * z{k}{index}; }}"
    )


def stan_program(calls: Sequence[str], results: list[Value]) -> str:
    lines = [
        f"{{ {declaration(r, k).replace('EXPRESSION', in_stan(c))} target += u[{k + 1}] * s{k}; }}"
        for k, (c, r) in enumerate(zip(calls, results, strict=True))
    ]
    return (
        f"{KERNELS} transformed data {{ {DATA} }} parameters {{ {PARAMETERS} vector[{len(calls)}] u; }}\n"
        f"model {{ {TRANSFORMED}\n" + "\n".join(lines) + "\n}"
    )


POINTS = np.random.default_rng(1).normal(size=(3, DIM)) * 0.8


BATCHES = [  # the time that Stan takes to compile a program grows faster than the program
    tuple(calls[start : start + 30]) for calls in GROUPS.values() for start in range(0, len(calls), 30)
]


@functools.cache
def stan_scores(calls: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``f[point, call]`` and their gradients ``f[point, call, DIM]``."""
    results = [apply(c, values(POINTS[0])) for c in calls]
    model = from_stan(stan_program(calls, results), {}).model
    gradients = np.array(
        [
            [
                model.log_density_gradient(np.concatenate([x, u]), propto=True, jacobian=True)[1]
                for u in np.eye(len(calls))
            ]
            for x in POINTS
        ]
    )
    return gradients[:, 0, DIM:], gradients[:, :, :DIM]


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> np.ndarray:
    scale = np.maximum(1.0, np.abs(expected))
    return (np.abs(found - expected) <= tolerance * scale) | (np.isnan(found) & np.isnan(expected))


@pytest.mark.parametrize("calls", BATCHES, ids=lambda calls: calls[0])
def test_values_and_gradients_are_stans(calls):
    scores, gradients = stan_scores(calls)

    def weighted(x, u):
        environment, found = values(x), []
        for c in calls:
            found.append(score(apply(c, apart(c, environment))))
        found = jnp.stack([jnp.asarray(f, float) for f in found])
        return found @ u, found

    evaluate = jax.jit(jax.grad(weighted, has_aux=True))
    for x, expected, expected_gradient in zip(POINTS, scores, gradients, strict=True):
        found = evaluate(jnp.asarray(x), jnp.eye(len(calls))[0])[1]
        wrong = [
            f"{c}: {f} for {e}"
            for c, f, e, ok in zip(calls, found, expected, close(found, expected), strict=True)
            if not ok
        ]
        assert not wrong
        for c, u, e in zip(calls, jnp.eye(len(calls)), expected_gradient, strict=True):
            gradient = evaluate(jnp.asarray(x), u)[0]
            scale = np.maximum(1.0, np.abs(e).max())
            if not np.all(np.abs(gradient - e) <= 1e-9 * scale):
                wrong.append(f"d {c}: {gradient - e}")
        assert not wrong


@pytest.mark.parametrize("calls", BATCHES, ids=lambda calls: calls[0])
def test_concrete_arguments_give_concrete_results(calls):
    scores, _ = stan_scores(calls)
    for x, expected in zip(POINTS, scores, strict=True):
        results = [apply(c, values(x)) for c in calls]
        assert all(result.concrete for result in results)
        found = np.array([score(result) for result in results])
        assert [c for c, ok in zip(calls, close(found, expected, 2e-9), strict=True) if not ok] == []


# -- rows -------------------------------------------------------------------------------------------------

WITHOUT_ROWS = ("csr_matrix_times_vector", "quantile")
CALLS = [c for calls in GROUPS.values() for c in calls if not c.startswith(WITHOUT_ROWS)]


def with_rows(names: set[str], level: Level) -> dict[str, Value]:
    """The variables at all points as rows, those that are not named at the first point only."""
    points = [values(x) for x in POINTS]
    return {
        name: Value(value.type, np.stack([p[name].data for p in points]), level)
        if name in names and name not in ("N", "K", "E", "F")
        else value
        for name, value in points[0].items()
    }


def with_rows_of(expression: str, which: str, level: Level) -> dict[str, Value]:
    """The arguments with rows in all of them, the first or the last."""
    names = [n for n in parts(expression)[1:] if n in variables(POINTS[0])]
    return with_rows(set({"all": names, "first": names[:1], "last": names[-1:]}[which]), level)


def same_as_row_by_row(expression: str, rows: dict[str, Value], level: Level, found: Value) -> None:
    expected = [
        apply(expression, {n: v if v.level is None else Value(v.type, v.data[i]) for n, v in rows.items()})
        for i in range(level.size)
    ]
    assert found.type == expected[0].type
    data = found.data if found.level is not None else np.broadcast_to(found.data, (level.size, *found.shape))
    np.testing.assert_allclose(data, np.stack([e.data for e in expected]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("which", ["all", "first", "last"])
def test_rows_are_what_a_loop_gives(which):
    level = Level(None, len(POINTS), np.zeros(len(POINTS), int))
    for expression in CALLS:
        rows = with_rows_of(expression, which, level)
        found = apply(expression, rows)
        assert found.concrete
        same_as_row_by_row(expression, rows, level, found)


TRACED_ROWS = """
multiply(m, v)  multiply(r, m)  multiply(m, t)  multiply(r, v)  dot_product(v, w)  mdivide_left(m, v)
mdivide_left(S, t)  mdivide_left_tri_low(L, v)  mdivide_left_tri_low(L, t)  mdivide_right_tri_low(r, L)
cholesky_decompose(S)  eigenvalues_sym(S)  quad_form(m, t)  add_diag(m, v)  append_row(a, v)  append_col(m, v)
gp_exp_quad_cov(X, a, q)  gp_exp_quad_cov(F, a, B)  gp_matern32_cov(A, a, q)  log_mix(sx, X)  log_sum_exp(m)
rep_matrix(v, 2)  to_matrix(t, 2, 3)  sort_asc(v)  max(v)  segment(v, 2, 2)  lmgamma(3, big)  pow(a, N)
hmm_marginal(m, G, sx)  matrix_power(m, 3)
"""


@pytest.mark.parametrize("which", ["all", "first", "last"])
def test_traced_rows_are_what_a_loop_gives(which):
    level = Level(None, len(POINTS), np.zeros(len(POINTS), int))
    calls = {expression: with_rows_of(expression, which, level) for expression in listed(TRACED_ROWS)}
    typed: dict[str, Value] = {}

    def evaluate(arrays: dict[str, dict[str, Any]]) -> dict[str, Any]:
        for expression, rows in calls.items():
            given = jax.lax.optimization_barrier(arrays[expression])
            typed[expression] = apply(
                expression, {n: Value(v.type, given.get(n, v.data), v.level) for n, v in rows.items()}
            )
        return {expression: found.data for expression, found in typed.items()}

    arrays = {
        expression: {n: v.data for n, v in rows.items() if n in parts(expression) and v.kind != "int"}
        for expression, rows in calls.items()
    }
    results = jax.jit(evaluate)(arrays)
    for expression, rows in calls.items():
        kind, own = typed[expression].type, typed[expression].level
        same_as_row_by_row(expression, rows, level, Value(kind, np.asarray(results[expression]), own))


def test_rows_of_a_parent_are_repeated_for_a_child():
    outer = Level(None, 2, np.zeros(2, int))
    inner = Level(outer, 5, np.array([0, 0, 1, 1, 1]))
    v = Value(VECTOR, np.array([[1.0, 2.0], [3.0, 4.0]]), outer)
    w = Value(VECTOR, np.arange(10.0).reshape(5, 2), inner)
    found = call("dot_product", [v, w])
    assert found.level is inner
    np.testing.assert_array_equal(found.data, (v.data[inner.parent_row] * w.data).sum(-1))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_positions_that_differ_between_rows(rows, traced):
    level = Level(None, 3, np.zeros(3, int))
    start = Value(INT, np.array([2, 1, 3]), level)
    data = np.arange(36.0).reshape(3, 4, 3) if rows else np.arange(12.0).reshape(4, 3)
    own = level if rows else None

    def evaluate(data):
        m = Value(MATRIX, data, own)
        v = Value(VECTOR, data[..., 0], own)
        segment = call("segment", [v, start, integer(2)])
        assert segment.level is level
        return segment.data, call("row", [m, start]).data, call("sub_col", [m, start, start, integer(2)]).data

    segments, row, column = jax.jit(evaluate)(data) if traced else evaluate(data)
    for i, at in enumerate(start.data - 1):
        matrix = data[i] if rows else data
        np.testing.assert_array_equal(segments[i], matrix[at : at + 2, 0])
        np.testing.assert_array_equal(row[i], matrix[at])
        np.testing.assert_array_equal(column[i], matrix[at : at + 2, at])


def test_positions_that_are_traced():
    m = np.arange(12.0).reshape(4, 3)

    def evaluate(at):
        return call("col", [Value(MATRIX, m), Value(INT, at)]).data

    np.testing.assert_array_equal(jax.jit(evaluate)(2), m[:, 1])


def test_sizes_that_differ_between_rows_are_ragged():
    level = Level(None, 2, np.zeros(2, int))
    with pytest.raises(Ragged) as raised:
        call("rep_vector", [real(1.0), Value(INT, np.array([1, 2]), level)])
    np.testing.assert_array_equal(raised.value.sizes, [1, 2])


# -- edges ------------------------------------------------------------------------------------------------

INF = math.inf
EDGES = {
    "fmax(x[1], x[2])": [1, 1],
    "fmin(x[1], x[2])": [1, 1],
    "fmax(x[1], 1)": [1],
    "fmin(1, x[1])": [1],
    "max(x)": [1, 3, 3, 2],
    "min(x)": [2, 1, -INF, -INF],
    "fdim(x[1], x[2])": [1, 1],
    "abs(x[1])": [0],
    "sqrt(x[1])": [0],
    "pow(x[1], 0.3)": [0],
    "pow(x[1], 2.3)": [0],
    "pow(x[1], 0.5)": [0],
    "pow(x[1], 3)": [-2],
    "pow(x[1], 0)": [0],
    "pow(x[1], x[2])": [0, 2],
    "pow(0, x[1])": [0.5],
    "log_sum_exp(x[1], x[2])": [-INF, 1],
    "log_sum_exp(x[2], x[1])": [-INF, 1],
    "log_sum_exp(x)": [-INF, 1],
    "softmax(x)": [-INF, 1],
    "log_softmax(x)": [1000, 1],
    "log_diff_exp(x[1], x[2])": [1, -INF],
    "log1m_exp(x[1])": [-1e-20],
    "log1m_exp(-x[1])": [800],
    "log1p_exp(x[1])": [800],
    "log1p_exp(x[2])": [1, 0],
    "log_inv_logit(x[2])": [1, 0],
    "log_inv_logit(x[1])": [-800],
    "log1m_inv_logit(x[1])": [-800],
    "inv_logit(x[1])": [-800],
    "variance(x)": [1, 1],
    "log_mix(x[1], x[2], x[3])": [0, 1, 2],
    "log_mix(x[2], x[1], x[3])": [1, 1, 2],
    "log_mix(0.3, x[1], x[2])": [-INF, 2],
    "prod(x)": [0, 2, 3],
    "fmod(x[1], x[2])": [-5.5, 2],
    "round(x[1])": [2.5],
    "round(-x[1])": [2.5],
    "step(x[1])": [0],
    "trigamma(x[1])": [-1.5],
    "digamma(x[1])": [-1.5],
    "lgamma(x[1])": [-1.5],
    "tgamma(x[1])": [-1.5],
    "inv_Phi(x[1])": [1e-300],
    "Phi(x[1])": [-30],
    "lbeta(x[1], x[2])": [1e8, 1],
    "lbeta(x[2], x[1])": [1e8, 3e7],
    "lchoose(x[1], x[2])": [1e8, 1],
    "squared_distance(x, x)": [1, 1],
}


@pytest.mark.parametrize(("expression", "point"), EDGES.items(), ids=list(EDGES))
def test_edges_are_stans(expression, point):
    x = np.array(point, float)
    name, arguments = expression.removesuffix(")").split("(")
    pieces = arguments.split(", ")

    def evaluate(x):
        def argument(text: str) -> Value:
            sign, text = (-1.0, text[1:]) if text.startswith("-x") else (1.0, text)
            if text == "x":
                return Value(VECTOR, sign * x)
            found = re.fullmatch(r"x\[(\d)\]", text)
            return Value(REAL, sign * x[int(found[1]) - 1]) if found else literal(text)

        result = call(name, [argument(text) for text in pieces])
        return result.data[..., -1] if result.rank else result.data

    element = f"{expression}[{len(x)}]" if "softmax" in name else expression
    model = from_stan(f"parameters {{ vector[{len(x)}] x; }} model {{ target += {element}; }}", {}).model
    expected, expected_gradient = model.log_density_gradient(x, propto=True, jacobian=True)
    found, gradient = jax.value_and_grad(evaluate)(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-9)  # Stan's trigamma has errors of 1e-10
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(evaluate(x), expected, rtol=1e-9)


def test_nothing_but_minus_infinity_has_a_finite_derivative():
    """Stan's is NaN: it would make a mixture of impossible mixtures fail."""
    x = jnp.array([-INF, -INF])
    of_two = jax.value_and_grad(lambda x: call("log_sum_exp", [Value(REAL, x[0]), Value(REAL, x[1])]).data)(x)
    of_vector = jax.value_and_grad(lambda x: call("log_sum_exp", [Value(VECTOR, x)]).data)(x)
    weights = Value(VECTOR, np.array([0.4, 0.6]))
    mixture = jax.value_and_grad(lambda x: call("log_mix", [weights, Value(VECTOR, x)]).data)(x)
    for value, gradient in (of_two, of_vector, mixture):
        assert value == -INF
        assert np.all(np.isfinite(gradient))


def test_distances_of_equal_points_have_derivative_zero():
    for name in ("distance", "squared_distance"):
        gradient = jax.grad(
            lambda x, name=name: call(name, [Value(VECTOR, x), Value(VECTOR, np.ones(2))]).data
        )
        np.testing.assert_array_equal(gradient(jnp.ones(2)), 0.0)


def test_the_incomplete_gamma_function_has_both_derivatives():
    """Stan's own derivative by the first argument has errors of 1e-6."""
    for a, x in ((0.5, 2.0), (3.1, 3.1), (10.0, 3.0)):
        gradient = jax.grad(lambda a, x=x: call("gamma_q", [Value(REAL, a), real(x)]).data)(a)
        h = 1e-3
        points = [call("gamma_q", [real(a + k * h), real(x)]).data for k in (-2, -1, 1, 2)]
        difference = np.dot(points, [1.0, -8.0, 8.0, -1.0]) / (12 * h)
        np.testing.assert_allclose(gradient, difference, rtol=1e-9)


def covariance_trace(eigenvectors: Any, scale: Any) -> Any:
    """y′ (K + 10⁻⁵ I)⁻¹ y by the eigenvectors of a covariance that is nearly singular."""
    points = np.linspace(0.0, 1.0, 20)
    k = jnp.exp(-scale * (points[:, None] - points) ** 2) + 1e-5 * np.eye(20)
    values = call("eigenvalues_sym", [Value(MATRIX, k)]).data
    rotated = eigenvectors(k).T @ np.cos(7 * points)
    return jnp.sum(rotated**2 / (values + 0.1))


def test_eigenvectors_of_a_nearly_singular_covariance_have_the_derivative_of_their_spaces():
    lowered = functools.partial(covariance_trace, lambda k: call("eigenvectors_sym", [Value(MATRIX, k)]).data)
    h = 1e-3
    points = [lowered(2.0 + k * h) for k in (-2, -1, 1, 2)]
    difference = np.dot(points, [1.0, -8.0, 8.0, -1.0]) / (12 * h)
    np.testing.assert_allclose(jax.grad(lowered)(2.0), difference, rtol=1e-6)


def test_eigenvectors_up_to_sign():
    x = POINTS[0][:9].reshape(3, 3)
    s = x @ x.T
    w = jnp.arange(9.0).reshape(3, 3)

    def projections(s, vectors):
        return jnp.sum(jnp.cos(w) * (vectors * jnp.array([1.0, 2.0, 3.0])) @ vectors.T)

    def lowered(s):
        return projections(s, call("eigenvectors_sym", [Value(MATRIX, s)]).data)

    gradient = jax.grad(lowered)(jnp.asarray(s))
    expected = jax.grad(lambda s: projections(s, jnp.linalg.eigh(s)[1]))(jnp.asarray(s))
    np.testing.assert_allclose(gradient + gradient.T, expected + expected.T, rtol=1e-9, atol=1e-12)


def test_full_qr_of_a_tall_matrix():
    t = values(POINTS[0])["t"]
    q, r = call("qr_Q", [t]).data, call("qr_R", [t]).data
    np.testing.assert_allclose(q @ r, t.data, atol=1e-12)
    np.testing.assert_allclose(q.T @ q, np.eye(3), atol=1e-12)
    assert np.all(np.diagonal(r) >= 0)


def test_a_matrix_that_has_no_factor_gives_nan():
    indefinite = Value(MATRIX, np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert np.all(np.isnan(call("cholesky_decompose", [indefinite]).data))
    singular = Value(MATRIX, np.ones((2, 2)))
    assert np.all(np.isnan(call("inverse", [singular]).data))


def test_empty_containers():
    empty = Value(VECTOR, np.zeros(0))
    assert call("sum", [empty]).data == 0
    assert call("prod", [empty]).data == 1
    assert call("max", [empty]).data == -INF
    assert call("min", [empty]).data == INF
    assert call("log_sum_exp", [empty]).data == -INF
    assert call("append_row", [empty, real(1.0)]).shape == (1,)
    assert call("to_matrix", [empty, integer(0), integer(3)]).shape == (0, 3)
    with pytest.raises(UnsupportedStanError, match="'mean' of nothing"):
        call("mean", [empty])


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no_such_function", [real(1.0)], r"the function 'no_such_function\(real\)'"),
        ("dot_product", [real(1.0)], r"the function 'dot_product\(real\)'"),
        ("dot_product", [real(1.0), real(1.0)], r"the function 'dot_product\(real, real\)'"),
        ("rows", [Value(REALS, np.ones(2))], r"the function 'rows\(array\[\] real\)'"),
        (
            "fmax",
            [Value(VECTOR, np.ones(2)), Value(VECTOR, np.ones(1))],
            "sizes 2 and 1 do not match in 'fmax'",
        ),
        ("multiply", [Value(MATRIX, np.ones((2, 3))), Value(VECTOR, np.ones(2))], "do not match in '\\*'"),
        ("mdivide_left", [Value(MATRIX, np.ones((2, 2))), Value(VECTOR, np.ones(3))], "division by a matrix"),
        (
            "segment",
            [Value(VECTOR, np.ones(3)), integer(2), integer(3)],
            "'segment' of 3 from position 2 of 3",
        ),
        ("col", [Value(MATRIX, np.ones((3, 2))), integer(0)], "'col' of 1 from position 0 of 2"),
        ("to_matrix", [Value(VECTOR, np.ones(3)), integer(2), integer(2)], "3 elements to 2×2"),
        ("rep_vector", [real(1.0), integer(-1)], "the size in 'rep_vector' is -1"),
    ],
)
def test_what_is_not_lowered_says_so(name, arguments, message):
    with pytest.raises(UnsupportedStanError, match=message):
        call(name, arguments)


def test_a_size_that_depends_on_parameters_says_so():
    def evaluate(n):
        return call("rep_vector", [real(1.0), Value(INT, n)]).data

    with pytest.raises(UnsupportedStanError, match=r"the size in 'rep_vector'.* depends on parameters"):
        jax.jit(evaluate)(3)


def test_known():
    assert known("log_sum_exp")
    assert not known("normal_lpdf")
