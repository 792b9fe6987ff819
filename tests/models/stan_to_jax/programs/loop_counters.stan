// integers that count on from iteration to iteration and serve as indices and bounds
data {
  int N;
  vector[N] x;
  array[N] int len;
}
parameters {
  vector[N] a;
  vector[60] z;
}
transformed parameters {
  vector[N] p;
  vector[60] packed = rep_vector(0.1, 60);
  {
    int n = 0;
    int pos = 1;
    int fibonacci = 1;
    int before = 1;
    array[N] int seen = rep_array(0, N);
    for (i in 1:N) {  // unroll
      if (x[i] > 0) n += 1;
      p[i] = a[n + 1] * z[i];
      seen[len[i] + 1] += 1;
      p[i] += 0.1 * seen[len[i] + 1] * z[pos];
      for (j in 1:len[i]) {  // unroll
        packed[pos] = z[pos] * a[i] + j;
        pos += 1;
      }
    }
    for (i in 1:6) {  // unroll
      int t = fibonacci;
      fibonacci += before;
      before = t;
      packed[fibonacci] += a[1 + before % N];
    }
  }
}
model {
  int last = 0;
  int longest = len[1];
  for (i in 1:N) {  // scan
    if (len[i] > longest) longest = len[i];
    if (last > 0 && x[i] > 0) target += -0.1 * square(a[i] - a[last]);
    if (x[i] > 0) last = i;
    target += 0.1 * longest * z[i];
  }
  a ~ normal(0, 1);
  z ~ normal(0, 1);
  target += -0.05 * dot_self(p) - 0.01 * dot_self(packed);
}
