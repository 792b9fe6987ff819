// simplex, orderings, unit and zero-sum vectors, alone and in arrays, each element weighted differently
parameters {
  simplex[4] a;
  array[2, 2] simplex[3] b;
  ordered[3] c;
  array[2] ordered[2] d;
  positive_ordered[3] e;
  array[2] positive_ordered[2] f;
  unit_vector[3] g;
  array[2] unit_vector[2] h;
  sum_to_zero_vector[4] k;
  array[2] sum_to_zero_vector[3] l;
}
model {
  vector[4] w = [1, 2, 3, 5]';
  target += dot_product(w, log(a)) + 0.1 * dot_product(w, a);
  for (i in 1:2)
    for (j in 1:2)
      target += i * log(b[i, j, 1]) + j * log(b[i, j, 2]) + (i + 2 * j) * log(b[i, j, 3]);
  target += -dot_self(c - w[1:3]) - dot_self(d[1] - w[2:3]) - 2 * dot_self(d[2] + w[:2]);
  target += -dot_self(e - w[1:3]) - dot_self(f[1] - w[2:3]) - 2 * dot_self(f[2] + w[:2]);
  target += dot_product(g, w[1:3]) + dot_product(h[1], w[1:2]) - dot_product(h[2], w[3:4]);
  k ~ normal(w, 2);
  l[1] ~ normal(w[1:3], 2);
  l[2] ~ normal(-w[2:], 1);
}
