// integers that count on in loops with continue and break, in branches, in inner loops, through functions
functions {
  int next(int n, int i) {
    return n % 3 == 0 ? n + i : n + 1;
  }
}
data {
  int N;
  array[N] int f;
  array[N] int k;
  vector[N] x;
}
parameters {
  vector[N] a;
  real c;
}
model {
  int n = 0;
  int m = 1;
  int kept = 0;
  array[2] int parity = {0, 0};
  for (i in 1:N) {
    if (f[i]) continue;
    n += 1 + n % 4;
    target += 0.1 * n * a[i];
  }
  for (i in 1:N) {
    m = next(m, i);
    if (k[i] > 2) {
      m -= 1;
      if (x[i] > 0) continue;
      m += 2;
    }
    target += 0.1 * m * a[1 + m % N];
  }
  for (i in 1:N) {
    int here = kept;
    for (j in 1:k[i]) {  // unroll
      if (f[j]) continue;
      kept += 1;
      if (kept > 9) break;
      target += 0.01 * kept * a[j] * c;
    }
    target += 0.1 * (kept - here) * a[i];
    parity[1 + kept % 2] += 1;
  }
  for (i in 1:N) {
    if (parity[1 + i % 2] > i) n = i;
    else if (a[i] > 0) target += 0.1 * n * a[i];
    if (n > 5) n = 0;
  }
  for (v in k) {
    if (v == 1) continue;
    n += v;
    target += 0.01 * n * c * a[v];
  }
  target += -dot_self(a) - c ^ 2 + 0.1 * n * c + 0.1 * m * c + 0.1 * kept * c + 0.1 * parity[1] * c;
}
