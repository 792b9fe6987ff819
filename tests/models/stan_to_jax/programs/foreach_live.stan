// foreach over a variable that the loop changes: each element is read when its turn comes
parameters {
  vector[4] a;
}
model {
  vector[4] u = a;
  array[3] real q = {a[1], a[2], a[3]};
  for (v in u) {  // unroll
    u *= 2;
    u[4] = a[1] * v;
    target += 0.1 * v;
  }
  for (v in q) {  // unroll
    q[3] = v + 0.1;
    target += sin(v);
  }
  target += -dot_self(a) - 0.001 * dot_self(u);
}
