// elements read that other iterations write, before and after; in place; swapped; scattered
data {
  int N;
  vector[N] x;
  array[N] int perm;
  array[N] int rep;
}
parameters {
  vector[N] a;
}
transformed parameters {
  vector[N] shifted = a;
  vector[N] summed = a;
  vector[N] reversed = a;
  vector[N] mirrored = rep_vector(0.3, N);
  vector[N] permuted;
  vector[N] lastwins = rep_vector(0.1, N);
  vector[N] histogram = rep_vector(0, N);
  vector[N] cycled = a;
  vector[N] half = a;
  vector[N] through = a;
  for (i in 1:(N - 1)) shifted[i] = shifted[i + 1] * x[i];
  for (i in 1:(N - 1)) summed[i + 1] = summed[i] + summed[i + 1] * 0.5;  // scan
  for (i in 1:(N %/% 2)) {
    real tmp = reversed[i];
    reversed[i] = reversed[N - i + 1];
    reversed[N - i + 1] = tmp * 2;
  }
  for (i in 1:N) {  // scan
    mirrored[i] = mirrored[i] + a[i];
    mirrored[N - i + 1] = mirrored[i] * 0.5 + mirrored[N - i + 1];
  }
  for (i in 1:N) permuted[perm[i]] = a[i] * i;
  for (i in 1:N) lastwins[rep[i]] = a[i] + i;
  for (i in 1:N) histogram[rep[i]] += a[i];
  for (i in 1:N) cycled[i] = cycled[perm[i]] + 0.1 * i;  // scan
  for (i in 1:(N %/% 2)) half[2 * i] = half[2 * i - 1] * x[i];
  for (i in 1:N) through[rep[i]] = through[i] * 0.9 + 0.1;  // scan
}
model {
  vector[N] w;
  for (i in 1:N) w[i] = i * 0.3;
  target += -0.1 * dot_self(shifted - w) - 0.1 * dot_self(summed - w) - 0.1 * dot_self(reversed - w);
  target += -0.1 * dot_self(mirrored - w) - 0.01 * dot_self(permuted - w) - 0.1 * dot_self(lastwins - w);
  target += -0.1 * dot_self(histogram - w) - 0.1 * dot_self(cycled - w) - 0.1 * dot_self(half - w);
  target += -0.1 * dot_self(through - w) - dot_self(a);
}
