// the order of the unconstrained elements: arrays row by row, matrices column by column
parameters {
  array[2] matrix[2, 3] a;
  array[2, 3] vector[2] b;
  array[2, 3, 2] real c;
  array[2] row_vector[3] d;
  matrix[3, 2] e;
}
model {
  real w = 1;
  for (i in 1:2) for (j in 1:2) for (k in 1:3) {
    target += -square(a[i, j, k] - (100 * i + 10 * j + k) * 0.01) * (i + 0.1 * j + 0.01 * k);
    target += -square(b[i, k, j] - (100 * i + 10 * k + j) * 0.01) * (i + 0.1 * k + 0.01 * j);
    target += -square(c[i, k, j] + (100 * i + 10 * k + j) * 0.01) * (i + 0.2 * k + 0.03 * j);
    target += -square(e[k, j] - (10 * k + j) * 0.1);
    w += 0.5 * d[i, k] * j * k;
  }
  for (i in 1:2) for (k in 1:3) target += -square(d[i][k]) * (1 + i + 0.1 * k);
  target += w;
}
