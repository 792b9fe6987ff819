// Autoregression of order K, conditional on the first K observations.
data {
  int<lower=0> K;
  int<lower=0> T;
  array[T] real y;
}
transformed data {
  vector[T - K] response = to_vector(y[K + 1 : T]);
  matrix[T - K, K] lags; // column k: the series k steps back
  for (k in 1 : K) {
    lags[ : , k] = to_vector(y[K + 1 - k : T - k]);
  }
}
parameters {
  real alpha;
  vector[K] beta;
  real<lower=0> sigma;
}
model {
  alpha ~ normal(0, 10);
  beta ~ normal(0, 10);
  sigma ~ cauchy(0, 2.5);
  response ~ normal(alpha + lags * beta, sigma);
}
