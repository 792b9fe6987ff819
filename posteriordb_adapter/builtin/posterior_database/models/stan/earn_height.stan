// Earnings on height: simple regression, flat priors. Height is not centered, so that intercept
// and slope are strongly correlated.
data {
  int<lower=0> N;
  vector[N] earn;
  vector[N] height;
}
transformed data {
  matrix[N, 2] X = append_col(ones_vector(N), height);
}
parameters {
  vector[2] beta; // intercept, slope
  real<lower=0> sigma;
}
model {
  earn ~ normal(X * beta, sigma);
}
