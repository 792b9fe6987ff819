// recurrences with conditions on data and on parameters, with lags from data, over trees, with resets
data {
  int N;
  vector[N] x;
  array[N] int new_series;
  array[N] int parent;
  array[N] int lag;
}
parameters {
  vector[N] e;
  real<lower=0, upper=1> phi;
  real c;
}
transformed parameters {
  vector[N] y;
  vector[N] threshold;
  vector[N] tree;
  vector[N] lagged;
  vector[N] counter;
  matrix[2, N] regime;
  real level = c;
  for (i in 1:N) {  // scan
    if (new_series[i]) y[i] = e[i] / sqrt(1 - square(phi) + 0.1);
    else y[i] = phi * y[i - 1] + e[i];
  }
  threshold[1] = e[1];
  for (i in 2:N) {  // scan
    if (threshold[i - 1] > c) threshold[i] = phi * threshold[i - 1] + e[i];
    else if (threshold[i - 1] < -1) threshold[i] = sqrt(-threshold[i - 1]) + e[i];
    else threshold[i] = 0.5 * x[i];
  }
  for (i in 1:N) {  // scan
    if (parent[i] == 0) tree[i] = c + e[i];
    else tree[i] = phi * tree[parent[i]] + e[i];
    lagged[i] = i > lag[i] ? 0.5 * lagged[i - lag[i]] + e[i] : c;
    counter[i] = (i == 1 ? 0 : counter[i - 1]) * (x[i] > 0) + 1;
    if (x[i] > 0.5) level = 0.5 * level + e[i];
    regime[1, i] = level;
    if (i == 1) regime[2, 1] = 1;
    else if (regime[2, i - 1] > 1) regime[2, i] = regime[2, i - 1] * 0.5;
    else regime[2, i] = regime[2, i - 1] + square(e[i]);
  }
}
model {
  e ~ normal(0, 1);
  c ~ normal(0, 1);
  x ~ normal(y + threshold, 1);
  target += -0.1 * dot_self(tree - x) - 0.2 * dot_self(lagged + x) + 0.1 * dot_product(counter, e);
  target += -0.1 * sum(square(regime - 0.4)) + phi;
}
