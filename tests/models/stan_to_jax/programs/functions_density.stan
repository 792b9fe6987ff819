// user densities with and without constants, functions with target, void functions, shadowed names
functions {
  real scaled_lpdf(real y, real m, real s) {
    return normal_lupdf(y | m, s) + log(2);
  }
  real scaled_all_lpdf(vector y, real m, real s) {
    real lp = 0;
    for (i in 1:rows(y)) lp += scaled_lupdf(y[i] | m, s);
    return lp;
  }
  real count_lpmf(int k, real l) {
    return poisson_log_lupmf(k | l);
  }
  real count_lpmf(array[] int k, vector l) {
    return poisson_log_lpmf(k | l) * 0.5;
  }
  real tail_lccdf(real y, real m) {
    return normal_lccdf(y | m, 1);
  }
  void prior_lp(vector x, real s) {
    x ~ normal(0, s);
    s ~ gamma(2, 1);
    target += -0.1 * sum(x);
  }
  real shifted_lp(real x) {
    target += normal_lpdf(x | 1, 2);
    x ~ normal(3, 2);
    return 2 * x;
  }
  void check(vector x) {
    real s = sum(x);
    if (s > 1e10) reject("large: ", s);
    if (s > 1e9) print("never shown", s);
  }
  real sigma(real mu) {
    real sigma = mu * 2;
    {
      real mu2 = sigma;
      sigma = mu2 + 1;
    }
    return sigma;
  }
}
data {
  int N;
  vector[N] y;
  array[N] int k;
}
parameters {
  real mu;
  real<lower=0> s;
  vector[N] x;
}
model {
  real lp1;
  vector[N] l = x * 0.3;
  y ~ scaled_all(mu, s);
  y[1] ~ scaled(mu, 2);
  mu ~ scaled(0, 1);
  target += scaled_lpdf(y[2] | mu, 3);
  target += scaled_lupdf(y[2] | mu, 3);
  target += scaled_all_lpdf(y | mu, s);
  target += scaled_all_lupdf(y | mu, s);
  k[1] ~ count(mu);
  k ~ count(l);
  for (i in 1:N) {
    k[i] ~ count(l[i]);
    target += count_lpmf(k[i] | mu);
  }
  target += tail_lccdf(mu | y[1]);
  prior_lp(x, s);
  lp1 = shifted_lp(mu);
  target += lp1;
  for (i in 1:N) target += 0.1 * shifted_lp(x[i]);
  target += scaled_lpdf(shifted_lp(mu) | mu, 3);            // arguments that add to the target, once
  target += normal_lpdf(shifted_lp(mu) | mu, s);
  check(x);
  target += 0.01 * sigma(mu);
}
