// mixtures by log_sum_exp and log_mix, in loops, over components, zero inflation
data {
  int N;
  int K;
  vector[N] y;
  array[N] int k;
}
parameters {
  simplex[K] theta;
  ordered[K] mu;
  vector<lower=0>[K] s;
  real<lower=0, upper=1> p;
}
model {
  vector[K] log_theta = log(theta);
  vector[K] contribution;
  s ~ lognormal(0, 0.5);
  mu ~ normal(0, 3);
  for (n in 1:N) {
    vector[K] lps = log_theta;
    for (j in 1:K) {
      lps[j] += normal_lpdf(y[n] | mu[j], s[j]);
      contribution[j] = log(theta[j]) + student_t_lpdf(y[n] | 4, mu[j], s[j]);
    }
    target += log_sum_exp(lps) + 0.5 * log_sum_exp(contribution);
    target += log_mix(p, normal_lpdf(y[n] | mu[1], s[1]), normal_lpdf(y[n] | mu[2], s[2]));
    target += log_mix(theta[1], lps[1], lps[3]);
    if (k[n] == 0)
      target += log_sum_exp(bernoulli_lpmf(1 | p), bernoulli_lpmf(0 | p) + poisson_lpmf(k[n] | s[1]));
    else
      target += bernoulli_lpmf(0 | p) + poisson_lpmf(k[n] | s[1]);
  }
}
