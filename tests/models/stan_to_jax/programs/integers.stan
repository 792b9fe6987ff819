// division that truncates, remainders of negative numbers, promotion, loops over computed bounds
data {
  int N;
  array[N] int k;
  array[N] int d;
}
transformed data {
  array[N] int quotient;
  array[N] int remainder;
  int acc = 0;
  real r = 7 / 2;
  real s = 7 / 2.0;
  int n = 2 * N - 3 * -2;
  for (i in 1:N) {
    quotient[i] = k[i] %/% d[i];
    remainder[i] = k[i] % d[i];
    acc += (k[i] - 3) %/% 2 * i + abs(k[i]) % 3;
  }
  acc -= 2 ^ 3 > 7 ? 1 : 0;
}
parameters {
  vector[N] a;
  real b;
}
model {
  for (i in 1:N) {
    target += -square(a[i]) + 0.1 * quotient[i] * a[i] - 0.2 * remainder[i] * b;
    target += (k[i] / d[i]) * 0.01 * b + (k[i] * 1.0 / d[i]) * 0.02 * b + k[i] / 2.0 * 0.1 * a[i];
    target += 0.1 * a[1 + (i + 2 * N - 3) % N] * a[i %/% 2 + 1];
    target += 0.01 * (min(k) + max({k[i], 2}) - abs(-k[i]) + sum(k[1:i])) * b;
  }
  for (i in (N %/% 2):(n - N - 5)) target += 0.01 * i * b;
  target += -square(b) + 0.001 * acc * b + r * b - s * a[1] + 1 / 2 * b + 3 %/% 2 * 0.1 * b;
  target += 0.1 * b * (1 < 2) + (2 == 2.0) * a[1] + (-7 %/% 2 + -7 % 2 + 7 %/% -2) * 0.1 * a[2] + 2 ^ -1 * b;
  target += size(k) * 0.01 * b + (k[1] > 0) * a[1] + (+k[2] - - k[1]) * 0.1 * b + !k[3] * 0.1 * b;
}
