// pairwise differences, sums over neighbours, crossed and nested effects by index
data {
  int N;
  int E;
  array[E] int node1;
  array[E] int node2;
  int M;
  array[M] int area;
  array[M] int item;
  int I;
  array[I] int group;
  array[M] int y;
  matrix[M, 2] X;
}
parameters {
  vector[N] phi;
  vector[I] b;
  vector[2] g;
  real<lower=0> tau;
  array[2] vector[I] slope;
}
transformed parameters {
  vector[M] eta;
  vector[N] sums = rep_vector(0, N);
  for (m in 1:M)
    eta[m] = phi[area[m]] + b[item[m]] * g[group[item[m]]] + X[m] * g + slope[group[item[m]], item[m]] * X[m, 2];
  for (e in 1:E) {
    sums[node1[e]] += phi[node2[e]];
    sums[node2[e]] += phi[node1[e]];
  }
}
model {
  target += -0.5 * tau * dot_self(phi[node1] - phi[node2]);
  for (e in 1:E) target += -0.1 * square(phi[node1[e]] - phi[node2[e]]);
  sum(phi) ~ normal(0, 0.001 * N + 1);
  for (m in 1:M) y[m] ~ bernoulli_logit(eta[m]);
  y ~ bernoulli_logit(phi[area] + b[item] .* g[group[item]]);
  target += bernoulli_logit_glm_lpmf(y | X, phi[area], g);
  b ~ normal(g[group], tau);
  for (k in 1:2) slope[k] ~ normal(0.1 * k, 1);
  target += -0.05 * dot_self(sums);
  g ~ normal(0, 1);
  tau ~ gamma(2, 2);
}
