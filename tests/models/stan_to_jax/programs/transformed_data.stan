// transformed data by loops, branches, functions and in-place changes; constraints on data; local blocks
functions {
  vector standardized(vector x) {
    return (x - mean(x)) / sd(x);
  }
  array[] int ordering(vector x) {
    array[rows(x)] int o;
    vector[rows(x)] y = x;
    for (i in 1:rows(x)) o[i] = i;
    for (i in 1:rows(x))
      for (j in 1:(rows(x) - i))
        if (y[j] > y[j + 1]) {
          real t = y[j];
          int k = o[j];
          y[j] = y[j + 1];
          y[j + 1] = t;
          o[j] = o[j + 1];
          o[j + 1] = k;
        }
    return o;
  }
}
data {
  int<lower=1> N;
  vector<lower=-10>[N] x;
  array[N] int<lower=0, upper=3> k;
}
transformed data {
  vector[N] z = standardized(x);
  array[N] int o = ordering(x);
  int positive = 0;
  vector[N] cum;
  matrix[N, N] K;
  for (i in 1:N) positive += x[i] > 0;
  array[positive] int which;
  {
    int j = 0;
    for (i in 1:N) if (x[i] > 0) {
      j += 1;
      which[j] = i;
    }
  }
  cum[1] = x[1];
  for (i in 2:N) cum[i] = cum[i - 1] + x[i];
  for (i in 1:N) {
    K[i, i] = 1.1;
    for (j in (i + 1):N) {
      K[i, j] = exp(-square(x[i] - x[j]));
      K[j, i] = K[i, j];
    }
  }
  matrix[N, N] L = cholesky_decompose(K);
  array[4] int tally = rep_array(0, 4);
  for (i in 1:N) tally[k[i] + 1] += 1;
  tally = sort_desc(tally);
}
parameters {
  vector[N] a;
  vector[positive] b;
}
model {
  vector[N] f = L * a;
  b ~ normal(x[which], 1);
  a ~ normal(z, 1);
  f[o] ~ normal(cum, 2);
  for (j in 1:4) target += 0.1 * tally[j] * a[1 + j % N];
}
