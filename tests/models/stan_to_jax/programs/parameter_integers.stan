// integers that depend on parameters only through comparisons
data {
  int N;
  vector[N] x;
}
parameters {
  vector[N] a;
}
model {
  real n = 0;
  int k = a[1] > 0;
  for (i in 1:N) n += a[i] > x[i];
  target += -dot_self(a) + 0.1 * n * a[2] + k * a[3] + 0.2 * (a[2] > 0) * a[1] + 0.1 * step(a[3] - 0.1) * a[1];
  if (k == 1) target += -0.3 * square(a[2]);
  if (k > 0 && a[2] > 0 || n > 2) target += 0.4 * a[4];
  if (k) target += 0.1 * a[1];
  target += (k + 1) %/% 2 * a[2] * 0.1;
}
