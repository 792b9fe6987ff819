// Eight schools (Rubin 1981), noncentered: standardized school effects are sampled and the
// effects themselves derived, which takes the funnel between theta and tau out of the posterior.
data {
  int<lower=0> J;
  array[J] real y; // estimated effect of coaching in each school
  array[J] real<lower=0> sigma; // its standard error, taken as known
}
parameters {
  vector[J] theta_trans; // (theta - mu) / tau
  real mu;
  real<lower=0> tau;
}
transformed parameters {
  vector[J] theta = mu + tau * theta_trans;
}
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5); // half-Cauchy, by the bound of tau
  theta_trans ~ std_normal();
  y ~ normal(theta, sigma);
}
