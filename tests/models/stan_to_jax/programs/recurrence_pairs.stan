// two variables that depend on each other, and loops over series inside and outside of the loop over time
data {
  int S;
  int T;
  matrix[S, T] y;
  array[S] int len;
}
parameters {
  vector<lower=0, upper=1>[S] phi;
  vector[S] mu;
  real<lower=0> s;
}
transformed parameters {
  matrix[S, T] level;
  matrix[S, T] trend;
  matrix[T, S] other;
  matrix[S, T] ragged = rep_matrix(0.1, S, T);
  for (i in 1:S) {
    level[i, 1] = mu[i];
    trend[i, 1] = 0;
    for (t in 2:T) {  // scan
      level[i, t] = phi[i] * y[i, t] + (1 - phi[i]) * (level[i, t - 1] + trend[i, t - 1]);
      trend[i, t] = 0.3 * (level[i, t] - level[i, t - 1]) + 0.7 * trend[i, t - 1];
    }
  }
  other[1] = mu';
  for (t in 2:T)  // scan
    for (i in 1:S)
      other[t, i] = phi[i] * other[t - 1, i] + 0.1 * other[t - 1, S - i + 1] + y[i, t];
  for (i in 1:S)
    for (t in 2:len[i])  // scan
      ragged[i, t] = sin(ragged[i, t - 1]) + phi[i] * y[i, t];
}
model {
  real u = 0;
  real v = 1;
  for (t in 1:T) {  // scan
    real old = u;
    u = v * 0.5 + y[1, t] * mu[1];
    v = old * 0.5 - 0.1 * mu[2];
  }
  target += -square(u) - square(v);
  for (i in 1:S) y[i] ~ normal(level[i] + trend[i] + ragged[i], s);
  to_vector(other) ~ normal(0, 2);
  s ~ exponential(1);
  mu ~ normal(0, 1);
}
