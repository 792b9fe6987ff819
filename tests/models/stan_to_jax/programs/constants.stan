// what is dropped by ~ and lupdf, what is kept by lpdf, in branches on parameters and in loops
functions {
  real half_lpdf(real y, real m) {
    return 0.5 * normal_lupdf(y | m, 2);
  }
}
data {
  int N;
  vector[N] y;
  array[N] int k;
}
parameters {
  real a;
  vector[N] b;
  real<lower=0> s;
}
model {
  y ~ normal(0, 1);
  target += normal_lpdf(y | 0, 1);
  target += normal_lupdf(y | 0, 1);
  y ~ normal(a, 1);
  y ~ normal(a, 2);
  y ~ normal(0, s);
  target += normal_lpdf(y | a, s);
  target += normal_lupdf(y | a, 2);
  k ~ poisson(s);
  k ~ binomial(10, inv_logit(a));
  target += poisson_lpmf(k | s);
  target += poisson_lupmf(k | s);
  k ~ poisson(3);
  a ~ half(1);
  target += half_lpdf(a | 1);
  target += half_lupdf(a | 1);
  y[1] ~ half(2);
  y[1] ~ half(a);
  if (a > 0) {
    y ~ normal(1, 2);
    y ~ normal(a, 3);
    k ~ poisson(4);
    target += normal_lpdf(y | 2, 3);
    target += 3;
  } else {
    k ~ neg_binomial_2(s, 2);
    a ~ student_t(3, 0, 1);
  }
  for (i in 1:N) {
    y[i] ~ normal(b[i], 1);
    y[i] ~ normal(1, 1);
    if (b[i] > 0.3) b[i] ~ cauchy(0, 2);
    else y[i] ~ double_exponential(b[i], 0.5);
    if (k[i] > 1) k[i] ~ poisson(2);
    if (k[i] > 1) k[i] ~ poisson_log(b[i]);
  }
  b ~ normal(0, 1);
  s ~ inv_gamma(2, 3);
  s ~ exponential(a > 0 ? 1 : 2);
  a ~ normal(0, y[1] > 0 ? 1.0 : s);
  y ~ normal(b, [1, 2, 3, 4, 5]');
  y ~ student_t(4, b, s);
}
