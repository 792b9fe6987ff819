// if, else if and else on data and on the loop variable, writing, summing, declaring and sampling
data {
  int N;
  vector[N] x;
  array[N] int k;
  array[N, 2] int flag;
}
parameters {
  vector[N] a;
  real b;
  real<lower=0> s;
}
transformed parameters {
  vector[N] mu;
  vector[N] nu = a;
  for (i in 1:N) {
    if (k[i] == 1) mu[i] = a[i];
    else if (k[i] == 2 || x[i] > 1) {
      real t = a[i] * x[i];
      mu[i] = t * t;
    } else if (k[i] == 3) {
      mu[i] = -b;
    } else {
      mu[i] = b * x[i];
      nu[i] = 2 * a[i] + mu[i];
    }
    if (i > 1) if (flag[i, 1]) nu[i] += mu[i - 1]; else nu[i] -= 0.5 * mu[i];
  }
}
model {
  for (i in 1:N) {
    if (x[i] < 0) {
      x[i] ~ normal(mu[i], s);
    } else if (flag[i, 1] && !flag[i, 2]) {
      k[i] ~ poisson_log(0.3 * nu[i]);
      target += -0.1 * square(b);
    } else {
      for (j in 1:2) {
        if (flag[i, j]) flag[i, j] ~ bernoulli_logit(a[i]);
        else target += bernoulli_logit_lpmf(flag[i, j] | b + a[i]);
      }
    }
    if (1 < i < N) target += -0.2 * square(a[i]);
    if (k[i]) target += 0.1 * a[i];
  }
  if (N > 100) target += sqrt(-N);
  else if (N == 0) target += 1;
  nu ~ normal(0, 2);
  a ~ normal(0, 1);
  {b, s} ~ normal(0, 1);
}
