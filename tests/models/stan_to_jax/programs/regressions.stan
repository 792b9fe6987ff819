// Normal likelihoods of linear predictors: sums of squares come from a triangular factor where they may.
data {
  int N;
  vector[N] x;
  vector[N] z;
  array[N] real y;
  vector[N] w;
  array[N] int count;
  array[N] int<lower=1> group;
}
transformed data {
  vector[N] shifted = w - 3;
  int M = 3;
}
parameters {
  real a;
  vector[3] b;
  real<lower=0> sigma;
  vector<lower=0>[M] scale;
  vector[M] effect;
}
model {
  vector[N] mu;
  vector[N] kept;
  vector[N] overwritten;
  vector[N] spread;
  real last;
  y ~ normal(a + b[1] * x - b[2] * z, sigma);               // data in an array
  shifted ~ normal(2.5 + a * x, sigma);                     // a constant on either side
  target += normal_lpdf(w | a - z * b[1] + shifted, 2);     // a scale that is data
  target += normal_lupdf(w | a + b[3] * x, sigma);
  0.5 ~ normal(a + b[1] * x, sigma);                        // one number for all
  w ~ normal(a + b[1] * x, scale[group]);                   // scales of their own
  w[1:2] ~ normal(a + b[1] * x[1:2], sigma);                // few rows
  y ~ normal(x * a + z * a, sigma);                         // one coefficient twice
  count ~ poisson_log(a + 0.1 * b[1] * x);
  for (n in 1:N) {
    mu[n] = a + b[1] * x[n];
    kept[n] = mu[n] + b[2] * z[n] + effect[group[n]];
    y[n] ~ normal(kept[n], sigma);
    target += normal_lpdf(w[n] | mu[n], sigma);
  }
  overwritten = mu;
  overwritten[2] = b[3];
  w ~ normal(overwritten, sigma);
  for (n in 1:N)
    if (x[n] > 0)
      w[n] ~ normal(mu[n], sigma);                          // some rows
  if (a > 0)
    y ~ normal(mu, sigma);                                  // perhaps
  for (n in 1:N)
    if (b[1] > b[2])
      target += normal_lpdf(y[n] | a + b[1] * x[n], sigma);
  spread = a + b[2] * x;
  last = 0;
  for (n in 1:N) {  // scan
    last = 0.5 * last + 0.1 * spread[n] * last + mu[n];
    w[n] ~ normal(last, 10 + sigma);
  }
  y ~ normal(spread + mu, sigma);
  b ~ normal(0, 1);
}
