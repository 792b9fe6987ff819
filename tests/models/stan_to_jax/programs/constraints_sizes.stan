// sizes one and zero of everything
data {
  int Z;
  int U;
  array[Z] real nothing;
}
parameters {
  simplex[U] a;
  ordered[U] b;
  positive_ordered[U] c;
  sum_to_zero_vector[U] d;
  corr_matrix[U] e;
  cov_matrix[U] f;
  cholesky_factor_corr[U] g;
  cholesky_factor_cov[U] h;
  vector<lower=0>[Z] k;
  array[Z, 3] real l;
  array[3, Z] vector[2] m;
  matrix[Z, 3] n;
  array[U] vector[U] o;
  ordered[Z] p;
  real x;
}
transformed parameters {
  vector[Z] q = 2 * k;
  real s = sum(k) + sum(nothing) + sum(to_array_1d(n)) + sum(q);
}
model {
  for (i in 1:Z) {
    k[i] ~ normal(0, 1);
    target += nothing[i];
  }
  k ~ normal(0, 1);
  l[, 2] ~ normal(0, 1);
  b ~ normal(1, 2);
  c ~ normal(1, 2);
  f[1, 1] ~ gamma(3, 1);
  h[U, U] ~ gamma(2, 1);
  target += a[1] + d[1] + e[1, 1] + g[1, 1] + log_sum_exp(o[1]);
  to_vector(n) ~ normal(0, 1);
  o[1] ~ normal(0.5, 1);
  p ~ normal(0, 1);
  x ~ normal(s, 1);
}
