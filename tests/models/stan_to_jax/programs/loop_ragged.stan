// inner bounds that depend on data or on the outer variable, empty rows among them
data {
  int G;
  array[G] int first;
  array[G] int size;
  int N;
  vector[N] y;
}
parameters {
  vector[G] a;
  vector[N] e;
  real<lower=0> s;
}
transformed parameters {
  vector[N] mu = rep_vector(0, N);
  vector[G] total;
  for (g in 1:G) {
    total[g] = 0;
    for (n in first[g]:(first[g] + size[g] - 1)) {  // unroll
      mu[n] = a[g] * (n - first[g] + 1);
      total[g] += mu[n] * e[n];
    }
  }
}
model {
  for (i in 1:G)
    for (j in i:G)
      for (k in 1:(j - i))
        target += -0.01 * square(a[i] - 2 * a[j] + k);
  for (i in 1:G) {
    int pos = 1;
    real w = 0;
    for (g in 1:(i - 1)) pos += size[g];
    for (j in 1:size[i]) w += y[pos + j - 1] * a[i];
    if (size[i] > 0)
      segment(y, pos, size[i]) ~ normal(a[i], s);
    target += 0.01 * w;
  }
  y ~ normal(mu, s);
  e ~ normal(0, 1);
  total ~ normal(0, 5);
  s ~ gamma(3, 2);
}
