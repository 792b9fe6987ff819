// library functions on the values of iterations: vectors, rows and matrices of each
data {
  int N;
  array[N] vector[3] x;
  array[N] matrix[3, 3] S;
  array[N] int n;
}
parameters {
  array[N] vector[3] a;
  matrix[3, 3] B;
  real c;
}
model {
  for (i in 1:N) {
    matrix[3, 3] P = S[i] * S[i]' + 0.1 * i * a[i] * a[i]' + identity_matrix(3);
    matrix[3, 3] L = cholesky_decompose(P);
    vector[3] p = softmax(a[i]);
    array[3] real q = to_array_1d(a[i] * c);
    target += -dot_self(a[i]) + log_determinant(P) * 0.1 + sum(L \ x[i]) * 0.1 + dot_product(p, x[i]) - log_sum_exp(a[i]);
    target += sum(cumulative_sum(a[i])) * 0.1 + max(a[i] .* x[i]) - min(q) + mean(q) + variance(a[i]) * 0.1 - sd(x[i]) * c;
    target += 0.1 * prod(1 + 0.1 * a[i]) + sum(sort_asc(a[i])[1:2]) + sum(reverse(a[i]) .* x[i]) + sqrt(squared_distance(a[i], x[i]));
    target += 0.1 * quad_form(P, a[i]) + 0.05 * sum(B * P) + sum(diagonal(P)) * 0.01 + sum(mdivide_left_tri_low(L, a[i])) * 0.1;
    target += 0.1 * sum(append_row(a[i], x[i])[2:5]) + 0.1 * sum(append_col(a[i], B)[1]) + 0.1 * sum(rep_vector(c, n[i])) * i;
    target += 0.1 * sum(head(a[i], 2)) - 0.1 * sum(tail(a[i], 1)) + 0.1 * sum(segment(a[i], 2, 2)) + 0.1 * sum(col(P, 2));
    target += 0.1 * sum(row(P, 1 + i % 3)) + 0.1 * sum(block(P, 1, 2, 2, 2)) + 0.1 * log_softmax(a[i])[2] + 0.1 * sum(to_matrix(a[i], 3, 1) * c);
    target += 0.1 * sum(inverse(P)) + 0.1 * dot_self(crossprod(B)[, 1]) * 0.01 + sum(fmax(a[i], x[i])) * 0.1 + 0.1 * sqrt(dot_self(a[i]));
    target += 0.1 * inv_logit(sum(a[i])) + 0.1 * lmultiply(2.0, square(c) + 1) + 0.01 * rank(x[i], 2) * c + size(q) * 0.01 * c;
    target += 0.1 * sum(linspaced_vector(3, 0, 1) .* a[i]) + 0.1 * one_hot_vector(3, 1 + i % 3)' * a[i] + 0.1 * squared_distance(a[i], B[1]');
    target += 0.1 * log1p_exp(c * i) + 0.1 * sum(tanh(a[i])) + 0.1 * hypot(a[i, 1], 1 + square(c)) - 0.1 * sum(expm1(-square(a[i])));
    target += lchoose(n[i] + 3, 2) * 0.1 * c + 0.1 * lgamma(1 + square(a[i, 2])) + 0.1 * Phi_approx(a[i, 3]) + 0.1 * sum(logit(p));
  }
  target += -sum(square(B)) - square(c);
}
