// ragged data by segment, pos and size, by slices with bounds that differ, and by arrays of indices
data {
  int G;
  array[G] int n;
  int N;
  vector[N] y;
  array[N] int k;
  array[G, 3] int neighbour;
  array[G] int degree;
}
parameters {
  vector[G] mu;
  vector<lower=0>[G] s;
  vector[N] z;
}
transformed parameters {
  vector[G] best;
  vector[G] lse;
  vector[N] out;
  {
    int pos = 1;
    for (g in 1:G) {  // unroll
      vector[n[g]] e = segment(z, pos, n[g]) * s[g] + mu[g];
      best[g] = max(e);
      lse[g] = log_sum_exp(z[pos:(pos + n[g] - 1)]);
      out[pos:(pos + n[g] - 1)] = e - mean(e);
      pos += n[g];
    }
  }
}
model {
  int pos = 1;
  for (g in 1:G) {  // unroll
    segment(y, pos, n[g]) ~ normal(mu[g], s[g]);
    target += poisson_log_lpmf(segment(k, pos, n[g]) | mu[g] * 0.3);
    target += -square(sum(mu[neighbour[g, 1:degree[g]]]) - mu[g]) * 0.1;
    target += normal_lpdf(mu[g] | mean(mu[neighbour[g][:degree[g]]]), 1);
    pos = pos + n[g];
  }
  for (g in 1:G) target += 0.1 * sum(cumulative_sum(head(z, g))) + 0.01 * dot_self(tail(z, 2 * g));
  s ~ gamma(4, 4);
  z ~ normal(0, 1);
  out ~ normal(0, 3);
  best ~ normal(1, 3);
  lse ~ normal(1, 3);
}
