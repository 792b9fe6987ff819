// Eight schools (Rubin 1981), centered: the school effects are sampled directly. With so few
// schools this leaves a funnel between theta and tau, which is what makes it a test.
data {
  int<lower=0> J;
  array[J] real y; // estimated effect of coaching in each school
  array[J] real<lower=0> sigma; // its standard error, taken as known
}
parameters {
  vector[J] theta;
  real mu;
  real<lower=0> tau;
}
model {
  mu ~ normal(0, 5);
  tau ~ cauchy(0, 5); // half-Cauchy, by the bound of tau
  theta ~ normal(mu, tau);
  y ~ normal(theta, sigma);
}
