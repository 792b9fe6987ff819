// assignment to parts: elements, rows, columns, slices, arrays of indices, and with operators
data {
  array[3] int i3;
  array[2] int i2;
}
parameters {
  vector[5] a;
  matrix[3, 4] X;
}
transformed parameters {
  vector[5] v = rep_vector(1, 5);
  row_vector[4] r = X[2];
  matrix[3, 4] Y = X;
  matrix[3, 4] Z = rep_matrix(0.5, 3, 4);
  array[3] vector[2] A = rep_array([1, 2]', 3);
  array[2, 3] real B = rep_array(0.1, 2, 3);
  array[2] matrix[2, 2] C = rep_array(identity_matrix(2), 2);
  v[i3] = a[1:3];
  v[2:4] += a[2:4] * 2;
  v[:2] = v[4:5];
  v[4:] *= 2;
  v[i2] -= [a[5], a[4]]';
  v[1] = v[1] ^ 2;
  v[{2, 2, 2}] = [a[1], a[2], a[3]]';
  r[3] /= 2;
  r[i2] = r[{i2[2], i2[1]}] * 0.5;
  r .*= [1, 2, 3, 4];
  Y[1] = a[1:4]';
  Y[, 2] = a[3:5];
  Y[2, 3:4] = [a[1], a[5]];
  Y[2:3, 1] = a[1:2] .* a[4:5];
  Y[i2, {4, 3}] = X[1:2, 1:2];
  Y[3] += Y[2];
  Y[:, 4] -= Y[:, 1];
  Z[2:3] = X[1:2];
  Z[, 1:2] = X[, {4, 1}];
  Z[3, 4] += a[2];
  Z *= 0.5;
  Z .*= X;
  Z ./= 1 + square(X);
  for (i in 1:3) {  // unroll
    Z[i, i:4] += a[i];
    Z[i] += X[4 - i, :];
    Z[:, i] *= 1.1;
    A[i, 2] = a[i] * i;
    A[i] += [a[i], 1]';
    A[i][1] *= 2;
    B[1 + i % 2, i] = a[i];
    B[2, :] = to_array_1d(a[i:(i + 2)]);
  }
  A[{3, 1}] = A[1:2];
  B[, 1] = {a[1], a[2]};
  B[1, 2:3] = B[2, {1, 1}];
  C[1, 2] = a[1:2]';
  C[2][:, 1] += a[2:3];
  C[:, 1, 2] = {a[4], a[5]};
  C[{2, 1}] = C;
  Y[1:2, 1:2] = Y[2:3, 2:3] + C[1];
  Y[1:2, :] = Y[{2, 1}, :];
}
model {
  vector[5] w = [0.1, 0.2, 0.3, 0.4, 0.5]';
  target += -dot_self(a) - sum(square(X)) - 0.1 * dot_self(v - w) - 0.1 * dot_self(r') + sum(Y * w[1:4] .* w[:3]);
  target += -0.1 * sum(square(Z - 0.3)) - 0.01 * sum(square(Y));
  for (i in 1:3) target += dot_product(A[i], w[1:2]) * i + B[1, i] * w[i] - B[2, i] * i;
  target += sum(C[1] .* [[1, 2], [3, 4]]) - sum(C[2] .* [[5, 7], [6, 8]]) + square(sum(C[1, 2]));
}
