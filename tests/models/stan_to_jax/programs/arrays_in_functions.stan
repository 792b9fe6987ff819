// arrays of arrays and of matrices passed, changed inside, returned; the caller's stay as they were
functions {
  array[,] real transposed(array[,] real x, int n, int m) {
    array[m, n] real y;
    for (i in 1:n)
      for (j in 1:m) y[j, i] = x[i, j];
    return y;
  }
  array[] vector changed(array[] vector x, int n, int k) {
    array[n] vector[2] y = x;
    for (i in 1:n) {  // unroll
      y[i][k] = -x[i, k];
      if (i > 1) y[i] += y[i - 1];
    }
    return y;
  }
  matrix stacked(array[] matrix m, array[] int which, int n, int r) {
    matrix[n * r, 3] out;
    for (i in 1:n) out[((i - 1) * r + 1):(i * r)] = m[which[i]];
    return out;
  }
  array[] int evens(int n) {
    array[n] int out;
    for (i in 1:n) out[i] = 2 * i;
    return out;
  }
  real deep(array[,,] real x, array[] int i) {
    return x[i[1], i[2], i[3]];
  }
}
data {
  int N;
  array[2, 3] real q;
}
parameters {
  array[N, 3] real a;
  array[N] vector[2] b;
  array[2] matrix[2, 3] m;
}
model {
  array[3, N] real t = transposed(a, N, 3);
  array[N] vector[2] c = changed(b, N, 2);
  array[N] vector[2] d = b;
  array[2, 3] real r = q;
  array[2, N, 3] real s = {a, a};
  matrix[6, 3] st = stacked(m, {2, 1, 2}, 3, 2);
  d[1, 1] = 10;
  d[2] = d[1];
  d[1, 1] = 20;
  r[1] = a[1];
  r[, 2] = a[2, 1:2];
  s[1, 2, 3] = 0.5;
  s[2, :, 1] = t[1];
  target += -dot_self(to_vector(to_array_1d(a))) - dot_self(b[1]) - sum(square(st)) - dot_self(to_vector(transposed(t, 3, N)[2]));
  for (i in 2:N) target += -dot_self(c[i] - b[i - 1]) - dot_self(transposed(a, N, 3)[2, i]*[1, i]') - square(b[i, 1]) - square(b[i, 2]);
  target += dot_self(d[1]) * 0.01 + sum(d[2]) * 0.1 + sum(r[1]) * r[2, 2] + deep(s, {1, 2, 3}) + deep(s, {2, 1, 1}) * s[1][2][1];
  for (i in evens(2)) target += 0.1 * b[1 + i % N, 1] * st[i, 1] + sum(to_vector({a[1, 1], 2, i}));
  target += sum(to_vector(to_matrix(a)) .* to_vector(to_matrix(t)')) * 0.1 + to_array_1d(a)[5] - to_array_1d(m[2])[3];
  for (v in changed(b, N, 1)) target += 0.1 * v[1] * v[2];
  for (x in a) for (y in x) target += 0.01 * y ^ 3;
}
