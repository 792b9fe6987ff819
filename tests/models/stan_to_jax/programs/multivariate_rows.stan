// densities of vectors in loops: rows of data, of parameters, of both
data {
  int N;
  array[N] vector[3] y;
  array[N, 3] int k;
  array[N] int c;
  matrix[N, 2] X;
}
parameters {
  array[N] vector[3] mu;
  array[N] simplex[3] theta;
  vector<lower=0>[3] alpha;
  cholesky_factor_corr[3] L;
  vector<lower=0>[3] s;
  ordered[2] cut;
  vector[2] beta;
  matrix[2, 3] B;
}
model {
  matrix[3, 3] S = diag_pre_multiply(s, L);
  for (i in 1:N) {
    y[i] ~ multi_normal_cholesky(mu[i], S);
    mu[i] ~ multi_normal(y[i], add_diag(tcrossprod(S), 0.1 * i));
    theta[i] ~ dirichlet(alpha);
    theta[i] ~ dirichlet(alpha * i);
    k[i] ~ multinomial(theta[i]);
    c[i] ~ categorical(theta[i]);
    c[i] ~ categorical_logit(mu[i] + (X[i] * B)');
    c[i] ~ ordered_logistic(X[i] * beta, cut);
    y[i] ~ multi_student_t(5, mu[i], tcrossprod(S) + diag_matrix(rep_vector(1, 3)));
    y[i, 2] ~ normal(X[i] * beta, s[1 + i % 3]);
  }
  y ~ multi_normal(mu, tcrossprod(S) + identity_matrix(3));
  y ~ multi_normal_cholesky(mu[1], S);
  mu ~ multi_normal(rep_vector(0, 3), identity_matrix(3));
  alpha ~ gamma(3, 2);
  s ~ gamma(4, 4);
  L ~ lkj_corr_cholesky(2);
  cut ~ normal(0, 2);
  beta ~ normal(0, 1);
  to_vector(B) ~ normal(0, 1);
}
