// standardized and orthogonal predictors, coefficients on two scales, shrinkage
data {
  int N;
  int K;
  matrix[N, K] X;
  vector[N] y;
}
transformed data {
  matrix[N, K] Xc;
  vector[K] means;
  matrix[N, K] Q;
  matrix[K, K] R;
  for (k in 1:K) {
    means[k] = mean(X[:, k]);
    Xc[:, k] = (X[:, k] - means[k]) / sd(X[:, k]);
  }
  R = cholesky_decompose(crossprod(Xc))' / sqrt(N - 1.0);
  Q = Xc / R;
}
parameters {
  real alpha;
  vector[K] z;
  real<lower=0> tau;
  vector<lower=0>[K] lambda;
  real<lower=0> s;
}
transformed parameters {
  vector[K] theta = z .* lambda * tau;
  vector[K] beta = R \ theta;
}
model {
  vector[N] mu = rep_vector(alpha, N);
  for (k in 1:K) mu += Q[, k] * theta[k];
  for (n in 1:N) target += normal_lpdf(y[n] | alpha + dot_product(row(Xc, n), beta), s);
  y ~ normal_id_glm(Q, alpha, theta, s);
  y ~ normal(mu, s);
  z ~ std_normal();
  lambda ~ cauchy(0, 1);
  tau ~ student_t(3, 0, 1);
  s ~ exponential(1);
  alpha ~ normal(mean(y), 10);
}
