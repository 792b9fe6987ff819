// loops whose iterations do not touch each other, nested over the elements of matrices and arrays
data {
  int N;
  int M;
  vector[N] x;
  matrix[N, M] X;
  array[N, M] int k;
}
parameters {
  real a;
  vector[M] b;
  array[N] vector[M] z;
  real<lower=0> s;
}
transformed parameters {
  vector[N] mu;
  matrix[M, N] eta;
  array[M, N] real rev;
  for (i in 1:N)
    mu[i] = a + x[i] * b[1 + i % M];
  for (i in 1:N)
    for (j in 1:M)
      eta[j, i] = mu[i] * X[i, j] + z[i][j] + i * j;
  for (j in 1:M) {
    for (i in 1:N) {
      rev[j, N - i + 1] = eta[j, i] ^ 2 / (1 + j);
    }
  }
}
model {
  for (i in 1:N) {
    x[i] ~ normal(mu[i], s);
    z[i] ~ normal(0, 1);
    for (j in 1:M)
      k[i, j] ~ poisson_log(0.1 * eta[j, i] - 0.01 * rev[j, i]);
  }
  b ~ normal(0, 1);
  s ~ lognormal(0, 1);
  a ~ normal(0, 10);
}
