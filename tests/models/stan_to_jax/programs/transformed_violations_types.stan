// transformed parameters with constraints on vectors and matrices, kept and broken
parameters {
  real a;
  vector[3] b;
  vector[2] c;
}
transformed parameters {
  simplex[3] s = softmax(b);
  ordered[3] o = [a, a + exp(c[1]), a + exp(c[1]) + c[2] + 1]';
  positive_ordered[2] p = exp([c[1], c[1] + abs(c[2])]');
  unit_vector[2] u = [sin(a), cos(a)]';
  cholesky_factor_cov[2] L = [[exp(b[1]), 0], [b[2], exp(b[3])]];
  cov_matrix[2] S = L * L' + diag_matrix([0, 0.5 + 0.4 * tanh(a)]');
  corr_matrix[2] R = [[1, tanh(a)], [tanh(a), 1]];
  array[2] real<lower=-1> q = {b[1] + 2, b[2] + 2};
  sum_to_zero_vector[3] z = b - mean(b);
}
model {
  b ~ multi_normal(o, diag_matrix([1, 2, 3]'));
  c ~ multi_normal_cholesky(p, L);
  s ~ dirichlet([2, 3, 4]');
  target += log_determinant(S) + log_determinant(R) - square(a) + u[1] + sum(q) + z[2];
}
