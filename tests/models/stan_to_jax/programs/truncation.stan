// truncated distributions: both sides, each side, bounds that are data or parameters, in loops, outside
data {
  int N;
  vector<lower=0>[N] y;
  array[N] int k;
}
parameters {
  real mu;
  real<lower=0> s;
  real<lower=0, upper=2> u;
  real<upper=0.8> l;
  vector<lower=0.1>[N] b;
  real free;
}
model {
  mu ~ normal(0, 1) T[-3, 4];
  s ~ normal(mu, 2) T[0, ];
  u ~ normal(mu, s) T[0, 2];
  l ~ student_t(4, mu, 1 + s) T[, 0.8];
  for (i in 1:N) {
    y[i] ~ normal(mu, s) T[0, ];
    y[i] ~ lognormal(mu, s) T[0.01, 50];
    b[i] ~ gamma(2, s) T[0.1, ];
    y[i] ~ exponential(s) T[, 40 + i];
    k[i] ~ poisson(s) T[0, 30];
    b[i] ~ cauchy(mu, s) T[l - 0.75, ];
  }
  free ~ normal(0, 1) T[-1.5, 1.2];
  free ~ logistic(mu, 1) T[, u + 1];
}
