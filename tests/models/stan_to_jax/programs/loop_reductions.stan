// sums in every spelling, products, sums of vectors, and sums by group
data {
  int N;
  int G;
  vector[N] x;
  array[N] int g;
}
parameters {
  vector[N] a;
  vector[3] b;
}
model {
  real s = 1;
  real t = 0;
  real p = 1;
  real q = 2;
  real u = 0;
  vector[3] v = rep_vector(0, 3);
  row_vector[2] r = [1, 2];
  vector[G] h = rep_vector(0.5, G);
  vector[G] count = rep_vector(0, G);
  matrix[2, G] m = rep_matrix(0.1, 2, G);
  for (i in 1:N) {  // unroll
    p *= 1 + 0.1 * tanh(a[i]);
    q /= 1.5 + tanh(a[i]) * 0.2;
  }
  for (i in 1:N) {
    s += a[i] * x[i];
    t -= square(a[i]);
    u = u + a[i] * i;
    u = x[i] * a[i] + u;
    u = u - 0.5 * a[i] - 1;
    v += a[i] * b;
    r -= [a[i], x[i]] * 0.1;
    h[g[i]] += a[i] * x[i];
    count[g[i]] += 1;
    m[1 + i % 2, g[i]] += 0.2 * a[i];
    m[1] -= 0.01 * a[i];
  }
  target += -square(s) * 0.1 + t + p * q - 0.01 * square(u) - 0.001 * dot_self(v) + r * b[1:2];
  target += -0.1 * dot_self(h ./ count) + sum(m) * b[3] + m[2, 1] * b[1];
  for (i in 1:N) {
    real w = 0;
    for (j in 1:3) {
      w += a[i] * b[j];
      if (j > 1) {
        w += 0.1 * x[i] * j;
      }
    }
    target += -0.1 * square(w);
  }
}
