// covariance matrices by loops and by functions, factors, predictions
functions {
  matrix kernel(array[] real x, real a, real l, real jitter) {
    int N = size(x);
    matrix[N, N] K;
    for (i in 1:(N - 1)) {
      K[i, i] = a ^ 2 + jitter;
      for (j in (i + 1):N) {
        K[i, j] = a ^ 2 * exp(-0.5 * square((x[i] - x[j]) / l));
        K[j, i] = K[i, j];
      }
    }
    K[N, N] = square(a) + jitter;
    return K;
  }
}
data {
  int N;
  array[N] real x;
  array[N] vector[2] X;
  vector[N] y;
}
parameters {
  real<lower=0> a;
  real<lower=0> l;
  real<lower=0> s;
  vector[N] eta;
}
model {
  matrix[N, N] K = kernel(x, a, l, 0.1 + square(s));
  matrix[N, N] L = cholesky_decompose(gp_exp_quad_cov(X, a, l) + diag_matrix(rep_vector(0.5, N)));
  matrix[N, N] M = add_diag(gp_exp_quad_cov(x, 1.5, l), square(s) + 0.1);
  vector[N] f = L * eta;
  y ~ multi_normal(rep_vector(0, N), K);
  y ~ multi_normal_cholesky(f, cholesky_decompose(M));
  for (i in 1:N) y[i] ~ normal(f[i], s);
  target += -0.5 * quad_form(inverse_spd(K), y - f) + 0.1 * sum(mdivide_left_tri_low(L, y)) - 0.1 * log_determinant(M);
  {a, l, s} ~ inv_gamma(4, 4);
  eta ~ normal(0, 1);
}
