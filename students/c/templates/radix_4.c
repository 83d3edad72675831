static inline void combine_4(point *x, int length, int turned, point w1, point w2) {
  const point p0 = x[0];
  const point p1 = turned ? multiply(x[length], w1) : x[length];
  const point p2 = turned ? multiply(x[2 * length], w2) : x[2 * length];
  const point p3 = turned ? multiply_conjugate(x[3 * length], w1) : x[3 * length];
  const point e0 = add(p0, p2), e1 = subtract(p0, p2);
  const point o0 = add(p1, p3), o1 = turn(subtract(p1, p3));
  x[0] = add(e0, o0);
  x[length] = add(e1, o1);
  x[2 * length] = subtract(e0, o0);
  x[3 * length] = subtract(e1, o1);
}

static void pass_4(point *spectrum, int length) {
  const point none = {1.0f, 0.0f};
  for (point *x = spectrum; x < spectrum + POINTS; x += 4 * length) {
    combine_4(x, length, 0, none, none);
  }
  for (int j = 1; j < length; j++) {
    const point w1 = find_near_root(CIRCLE / (4 * length) * j), w2 = multiply(w1, w1);
    for (point *x = spectrum + j; x < spectrum + POINTS; x += 4 * length) {
      combine_4(x, length, 1, w1, w2);
    }
  }
}
