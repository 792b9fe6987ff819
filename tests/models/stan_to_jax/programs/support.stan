// values outside the support or parameters that are invalid at some of the points: the density is 0 there
data {
  int N;
  array[N] int k;
}
parameters {
  real a;
  real b;
  vector[N] c;
}
model {
  a ~ uniform(-1.5, 2);
  target += exponential_lpdf(b + 1.8 | 2);
  target += gamma_lpdf(b + 1.9 | 2, 1);
  c[1] ~ normal(0, b + 2.2);
  for (i in 1:N) {
    k[i] ~ poisson(c[i] + 2.5);
    if (k[i] > 1) c[i] ~ uniform(-3, 2 + a);
    else target += pareto_lpdf(c[i] + 4 | 1.2, 2);
  }
}
