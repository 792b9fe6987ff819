// survival with individuals seen again: first and last sightings by functions, a backward recursion
functions {
  int first_capture(array[] int y) {
    for (k in 1:size(y)) if (y[k]) return k;
    return 0;
  }
  int last_capture(array[] int y) {
    for (k_ in 0:(size(y) - 1)) {
      int k = size(y) - k_;
      if (y[k]) return k;
    }
    return 0;
  }
  matrix never_seen(int I, int T, matrix phi, matrix p) {
    matrix[I, T] chi;
    for (i in 1:I) {
      chi[i, T] = 1.0;
      for (t in 1:(T - 1)) {  // unroll
        int now = T - t;
        int next = now + 1;
        chi[i, now] = (1 - phi[i, now]) + phi[i, now] * (1 - p[i, next - 1]) * chi[i, next];
      }
    }
    return chi;
  }
}
data {
  int I;
  int T;
  array[I, T] int<lower=0, upper=1> y;
}
transformed data {
  array[I] int first;
  array[I] int last;
  for (i in 1:I) first[i] = first_capture(y[i]);
  for (i in 1:I) last[i] = last_capture(y[i]);
}
parameters {
  real<lower=0, upper=1> mean_phi;
  vector<lower=0, upper=1>[T - 1] mean_p;
  vector[I] eps;
}
transformed parameters {
  matrix<lower=0, upper=1>[I, T - 1] phi = rep_matrix(0, I, T - 1);
  matrix<lower=0, upper=1>[I, T - 1] p = rep_matrix(0, I, T - 1);
  matrix<lower=0, upper=1>[I, T] chi;
  for (i in 1:I)
    for (t in first[i]:(T - 1)) {
      if (t < 1) continue;
      phi[i, t] = inv_logit(logit(mean_phi) + eps[i]);
      p[i, t] = mean_p[t];
    }
  chi = never_seen(I, T, phi, p);
}
model {
  for (i in 1:I) {
    if (first[i] > 0) {
      for (t in (first[i] + 1):last[i]) {
        1 ~ bernoulli(phi[i, t - 1]);
        y[i, t] ~ bernoulli(p[i, t - 1]);
      }
      1 ~ bernoulli(chi[i, last[i]]);
    }
  }
  eps ~ normal(0, 1);
}
