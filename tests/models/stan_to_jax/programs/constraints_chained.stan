// bounds that are parameters, expressions of them, and calls of a user's function
functions {
  real shift(real x, int k) {
    return x + k * exp(-square(x));
  }
}
data {
  int N;
}
parameters {
  real a;
  real<lower=a> b;
  real<lower=a, upper=b + 1> c;
  vector<lower=min({a, c}), upper=b + 2>[N] d;
  vector<lower=d>[N] e;
  array[2] real<lower=shift(a, 2)> f;
  vector<offset=d, multiplier=exp(a)>[N] g;
  real<offset=shift(a, 1), multiplier=sqrt(square(b) + 1)> h;
  array[2, 2] real<upper=mean(d)> k;
}
model {
  a ~ normal(0, 1);
  b ~ normal(a, 2);
  c ~ normal(0, 1);
  d ~ normal(1, 3);
  e ~ gamma(3 + square(d), 1 + exp(e - 3));
  f ~ normal(0, 2);
  g ~ normal(d, 1);
  h ~ student_t(4, a, 2);
  for (i in 1:2) k[i] ~ normal(i, 2);
}
