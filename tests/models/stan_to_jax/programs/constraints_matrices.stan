// correlation and covariance matrices and their Cholesky factors, square and tall, alone and in arrays
parameters {
  corr_matrix[3] a;
  array[2] corr_matrix[2] b;
  cov_matrix[3] c;
  array[2] cov_matrix[2] d;
  cholesky_factor_corr[4] e;
  array[2] cholesky_factor_corr[3] f;
  cholesky_factor_cov[3] g;
  cholesky_factor_cov[4, 2] h;
  array[2] cholesky_factor_cov[2] k;
}
model {
  matrix[3, 3] w = [[1, 2, 3], [4, 5, 6], [7, 8, 10]];
  target += sum(w .* a) + 2 * log_determinant(a);
  for (i in 1:2)
    target += i * b[i, 2, 1] - 0.5 * sum(d[i] .* w[1:2, i:i + 1]) - sum(diagonal(d[i])) + log_determinant(b[i]);
  target += -sum(w .* c) * 0.01 - sum(diagonal(c));
  a ~ lkj_corr(2);
  e ~ lkj_corr_cholesky(1.5);
  f[1] ~ lkj_corr_cholesky(1);
  f[2] ~ lkj_corr_cholesky(3);
  target += e[4, 1] - 2 * e[4, 2] + e[3, 2] * f[1, 3, 1] - f[2, 2, 1];
  target += -sum(square(g - w)) * 0.05 - sum(square(h - 1)) - sum(square(k[1] + 0.5)) - sum(square(k[2] - 2));
}
