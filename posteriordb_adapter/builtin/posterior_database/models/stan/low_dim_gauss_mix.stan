// Mixture of two Gaussians; the order of the means tells the components apart.
data {
  int<lower=0> N;
  vector[N] y;
}
parameters {
  ordered[2] mu;
  vector<lower=0>[2] sigma;
  real<lower=0, upper=1> theta; // weight of the lower component
}
model {
  mu ~ normal(0, 2);
  sigma ~ normal(0, 2); // half-normal, by the bound of sigma
  theta ~ beta(5, 5);

  // log weight times density of every observation under each component, without the 1 / sqrt(2 pi)
  vector[N] lower_part = log(theta) - log(sigma[1]) - 0.5 * square((y - mu[1]) / sigma[1]);
  vector[N] upper_part = log1m(theta) - log(sigma[2]) - 0.5 * square((y - mu[2]) / sigma[2]);
  target += log_sum_exp(lower_part, upper_part);
}
