// Multivariate normals of factors that the program computes, keeps, changes and chooses.
data {
  int N;
  array[N] real x;
  vector[N] y;
  array[2] vector[N] several;
}
parameters {
  real<lower=0> rho;
  real<lower=0> alpha;
  real<lower=0> sigma;
  vector[N] m;
}
model {
  matrix[N, N] K = gp_exp_quad_cov(x, alpha, rho) + diag_matrix(rep_vector(sigma, N));
  matrix[N, N] L = cholesky_decompose(K);
  matrix[N, N] changed = L;
  matrix[N, N] other;
  array[2] matrix[N, N] both;
  changed[2, 1] += 0.3 * alpha;
  y ~ multi_normal_cholesky(m, L);
  several ~ multi_normal_cholesky(m, L);
  m ~ multi_normal_cholesky(y, cholesky_decompose(K));
  target += multi_normal_cholesky_lpdf(several | rep_vector(alpha, N), L);
  y ~ multi_normal_cholesky(m, changed);
  K[1, 1] += 1;                                             // after the factor was taken
  y ~ multi_normal_cholesky(m, L);
  y ~ multi_normal(m, K);
  for (i in 1:2)
    both[i] = cholesky_decompose(K + diag_matrix(rep_vector(i * sigma, N)));
  for (i in 1:2)
    several[i] ~ multi_normal_cholesky(m, both[i]);
  if (alpha > 1)
    other = cholesky_decompose(K);
  else
    other = L;
  y ~ multi_normal_cholesky(m, other);
  target += log_mix(0.3, multi_normal_cholesky_lpdf(y | m, L), multi_normal_lpdf(y | m, K));
}
