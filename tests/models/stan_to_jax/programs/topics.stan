// documents of different lengths, words given topics, marginalized with gradients through every simplex
data {
  int V;
  int D;
  int N;
  array[N] int w;
  array[N] int doc;
  int K;
}
parameters {
  array[D] simplex[K] theta;
  array[K] simplex[V] phi;
}
model {
  for (d in 1:D) theta[d] ~ dirichlet(rep_vector(1.5, K));
  for (k in 1:K) phi[k] ~ dirichlet(linspaced_vector(V, 1, 2));
  for (n in 1:N) {
    array[K] real gamma;
    for (k in 1:K) gamma[k] = log(theta[doc[n], k]) + log(phi[k, w[n]]);
    target += log_sum_exp(gamma);
  }
}
