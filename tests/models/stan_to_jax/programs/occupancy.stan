// latent states summed out by if and else on data, nested sums, cumulated detection probabilities
data {
  int R;
  int J;
  array[R, J] int y;
  array[R] int visits;
  vector[R] elevation;
}
transformed data {
  array[R] int total;
  int ever = 0;
  for (i in 1:R) {
    total[i] = sum(y[i, 1:visits[i]]);
    if (total[i]) ever += 1;
  }
}
parameters {
  vector[2] a;
  vector[J] b;
  real<lower=0, upper=1> q;
}
transformed parameters {
  vector[R] logit_psi = a[1] + a[2] * elevation;
  matrix[R, J] logit_p;
  for (i in 1:R) for (j in 1:J) logit_p[i, j] = b[j] + 0.3 * elevation[i] * (j == 1);
}
model {
  for (i in 1:R) {
    if (total[i] > 0) {
      target += log_inv_logit(logit_psi[i]) + bernoulli_logit_lpmf(y[i, 1:visits[i]] | logit_p[i, 1:visits[i]]);
    } else {
      real lp = log_inv_logit(logit_psi[i]);
      for (j in 1:visits[i]) lp += log1m_inv_logit(logit_p[i, j]);
      target += log_sum_exp(lp, log1m_inv_logit(logit_psi[i]));
    }
    {
      real none = 1;
      for (j in 1:visits[i]) {  // unroll
        if (y[i, j]) {
          target += 0.1 * log1m(q * none);
          none = 1;
        } else none *= 1 - 0.5 * q;
      }
      target += 0.1 * log(none);
    }
  }
  ever ~ binomial_logit(R, a[1]);
  a ~ normal(0, 2);
  b ~ normal(0, 2);
}
