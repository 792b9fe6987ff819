// an outer iteration reads what an earlier one wrote: dynamic programming over grids and triangles
data {
  int N;
  int M;
  matrix[N, M] c;
}
parameters {
  vector[M] a;
  vector[N] b;
  matrix[N, M] z;
}
transformed parameters {
  matrix[N, M] grid;
  vector[M] row = a;
  matrix[N, N] pascal = rep_matrix(0, N, N);
  matrix[N, M] paths = z;
  for (i in 1:N) {  // scan
    for (j in 1:M) {  // unroll
      if (i == 1 && j == 1) grid[i, j] = a[1];
      else if (i == 1) grid[i, j] = grid[i, j - 1] * 0.5 + a[j];
      else if (j == 1) grid[i, j] = grid[i - 1, j] + b[i];
      else grid[i, j] = log_sum_exp({grid[i - 1, j], grid[i, j - 1], grid[i - 1, j - 1]}) + c[i, j];
    }
  }
  for (i in 1:N)  // scan
    for (j in 1:M)  // unroll
      row[j] = 0.5 * row[j] + b[i] * c[i, j] + (j > 1 ? 0.1 * row[j - 1] : 0);
  for (i in 1:N) {  // unroll
    pascal[i, 1] = 1;
    for (j in 2:i)
      pascal[i, j] = pascal[i - 1, j - 1] + (1 + 0.1 * b[j]) * pascal[i - 1, j];
  }
  for (k in 1:M)  // unroll
    for (i in 1:N)  // scan
      for (j in 1:M)  // unroll
        paths[i, j] = log_sum_exp(paths[i, j], 0.5 * paths[i, k] + 0.3 * paths[1 + k % N, j]);
}
model {
  target += -0.01 * sum(square(grid)) - dot_self(row) - 0.001 * sum(square(pascal)) - 0.1 * sum(square(paths));
  a ~ normal(0, 1);
  b ~ normal(0, 1);
  to_vector(z) ~ normal(0, 1);
}
