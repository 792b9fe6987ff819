// continue, break, while and foreach
data {
  int N;
  vector[N] x;
  array[N] int k;
  array[2, 3] real q;
  matrix[2, 2] m;
}
parameters {
  vector[N] a;
}
model {
  real s = 0;
  int n = 0;
  int c = 27;
  int lo = 1;
  int hi = N;
  for (i in 1:N) {
    if (x[i] < -0.5) continue;
    if (k[i] == 4) {
      s += 0.1;
      continue;
    }
    s += a[i] * x[i];
  }
  for (i in 1:N) {  // unroll
    if (k[i] == 3) break;
    n += 1;
    s += a[i];
    for (j in 1:N) {  // unroll
      if (j > k[i]) break;
      if (j == 2) continue;
      s += 0.1 * a[j] * i;
    }
  }
  while (c != 1) {
    c = c % 2 == 0 ? c %/% 2 : 3 * c + 1;
    s += 0.001 * a[1 + c % N];
  }
  while (lo < hi) {
    int mid = (lo + hi) %/% 2;
    if (x[mid] * 0 + mid * 3 < N + 4) lo = mid + 1;
    else hi = mid;
  }
  s += a[lo] * n;
  while (1) {
    n -= 1;
    if (n < -2) break;
    if (n == 0) continue;
    s += 0.05 * n * a[1];
  }
  for (v in x) s += 0.1 * v * a[1];
  for (v in a) {
    if (n > 0) continue;
    s += square(v) * 0.1;
  }
  for (row in q) for (v in row) s += v * a[2];
  for (v in m) s = 0.5 * s + v * a[3];  // unroll
  for (v in {1, 3, 2}) s += a[v] * v;
  for (v in a[2:3]) s += v;
  for (v in a') s *= 1 + 0.1 * tanh(v);  // unroll
  for (i in 5:4) s += 1e6;
  target += -square(s) * 0.1 - dot_self(a);
}
