// Deaths among the patients of each of several hospitals: log odds of death that vary around a common
// mean (the surgical example of BUGS). Both priors are nearly flat: normal with standard deviation 1000
// on the mean log odds, inverse gamma on the variance between hospitals.
data {
  int<lower=0> N; // hospitals
  array[N] int<lower=0> n; // patients
  array[N] int<lower=0> r; // of these, deaths
}
parameters {
  real mu;
  real<lower=0> sigmasq;
  vector[N] b; // log odds of death in each hospital
}
transformed parameters {
  real<lower=0> sigma = sqrt(sigmasq);
  vector<lower=0, upper=1>[N] p = inv_logit(b);
}
model {
  mu ~ normal(0, 1000);
  sigmasq ~ inv_gamma(0.001, 0.001);
  b ~ normal(mu, sigma);
  r ~ binomial_logit(n, b);
}
