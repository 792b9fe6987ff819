// running maxima by fmax, by if, by conditional expression, and by functions of slices
data {
  int N;
  vector[N] x;
}
parameters {
  vector[N] a;
}
transformed parameters {
  vector[N] cummax;
  vector[N] cummin;
  real m = a[1];
  real which = 1;
  real t = negative_infinity();
  vector[N] heads;
  cummax[1] = a[1];
  cummin[1] = a[1];
  for (i in 2:N) {  // scan
    cummax[i] = fmax(cummax[i - 1], a[i]);
    cummin[i] = a[i] < cummin[i - 1] ? a[i] : cummin[i - 1];
  }
  for (i in 1:N) {  // unroll
    if (a[i] > m) {
      m = a[i];
      which = i;
    }
    t = log_sum_exp(t, a[i]);
    heads[i] = max(a[1:i]) + min(a[i:]) + sum(x[:i]);
  }
}
model {
  real range = negative_infinity();
  for (i in 1:N) range = max({range, x[i] * a[i], 0.1 * a[i]});  // scan
  target += -dot_self(a - 0.1) - 0.1 * dot_self(cummax - x) - 0.2 * dot_self(cummin) - square(m - 1);
  target += -0.1 * square(which) + 0.1 * t - square(range) * 0.1 - 0.01 * dot_self(heads);
}
