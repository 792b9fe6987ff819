// Children's test scores on their mothers' IQ: simple regression, flat coefficients.
data {
  int<lower=0> N;
  vector<lower=0, upper=200>[N] kid_score;
  vector<lower=0, upper=200>[N] mom_iq;
}
transformed data {
  matrix[N, 2] X = append_col(ones_vector(N), mom_iq);
}
parameters {
  vector[2] beta; // intercept, slope
  real<lower=0> sigma;
}
model {
  sigma ~ cauchy(0, 2.5);
  kid_score ~ normal(X * beta, sigma);
}
