// conditional expressions on data and parameters, short circuits, promotion of ints, conditions as numbers
data {
  int N;
  vector[N] x;
  array[N] int idx;
}
parameters {
  vector[N] a;
  real b;
}
transformed parameters {
  vector[N] p;
  real q = b > 0 ? sqrt(b) : b < -1 ? -log(-b) : 1;
  vector[2] r = b > a[1] ? [b, a[1]]' : [log(a[1] - b + 1), 1]';
  row_vector[N] z = N > 3 ? a' : x';
  for (i in 1:N)
    p[i] = (idx[i] > 0 && x[idx[i]] > 0) ? a[idx[i]] : idx[i] < 0 ? 1 : a[i] > 0 ? log(a[i]) : a[i] ^ 2;
}
model {
  int n = 0;
  int either = N > 2 ? 1 : N;
  real promoted = N > 2 ? 3 : b;
  for (i in 1:N) {
    if (idx[i] < 1 || x[idx[i]] < 0) target += -square(a[i]);
    else target += -2 * square(a[i]);
    if (!(idx[i] >= 1) || a[idx[i]] > 0) target += 0.1 * b;
    if (idx[i] >= 1 && a[idx[i]] > 0 && b > 0) target += -0.1 * b;
    n += x[i] > 0 ? 1 : 0;
    n += x[i] > 0.5;
    n -= idx[i] == 0 || x[i] > 0;
  }
  target += -0.1 * dot_self(p) - square(q) - dot_self(r) + 0.1 * z[2] + n * either * promoted * 0.1 * b;
  target += (b > 0.1) * 0.5 + (a[1] < a[2]) * b - square(b) + !(b > 0) * 0.25 * a[1];
  target += -square(a[N > 3 ? 1 : 2]) + (b > 0 ? 1 : 0) / 2.0;
}
