static inline void combine_8(point *x, int length, int turned, point w1, point w2, point w3, point w4) {
  const point p0 = x[0];
  const point p1 = turned ? multiply(x[length], w1) : x[length];
  const point p2 = turned ? multiply(x[2 * length], w2) : x[2 * length];
  const point p3 = turned ? multiply(x[3 * length], w3) : x[3 * length];
  const point p4 = turned ? multiply(x[4 * length], w4) : x[4 * length];
  const point p5 = turned ? multiply_conjugate(x[5 * length], w3) : x[5 * length];
  const point p6 = turned ? multiply_conjugate(x[6 * length], w2) : x[6 * length];
  const point p7 = turned ? multiply_conjugate(x[7 * length], w1) : x[7 * length];
  const point e0 = add(p0, p4), e1 = subtract(p0, p4);
  const point e2 = add(p2, p6), e3 = turn(subtract(p2, p6));
  const point o0 = add(p1, p5), o1 = subtract(p1, p5);
  const point o2 = add(p3, p7), o3 = turn(subtract(p3, p7));
  const point even0 = add(e0, e2), even1 = add(e1, e3);
  const point even2 = subtract(e0, e2), even3 = subtract(e1, e3);
  const point odd0 = add(o0, o2), odd2 = turn(subtract(o0, o2));
  const point sum = add(o1, o3), difference = turn(subtract(o1, o3));
  const float half = 0.707106781f;
  const point odd1 = {half * (sum.re + sum.im), half * (sum.im - sum.re)};
  const point odd3 = {half * (difference.re + difference.im), half * (difference.im - difference.re)};
  x[0] = add(even0, odd0);
  x[length] = add(even1, odd1);
  x[2 * length] = add(even2, odd2);
  x[3 * length] = add(even3, odd3);
  x[4 * length] = subtract(even0, odd0);
  x[5 * length] = subtract(even1, odd1);
  x[6 * length] = subtract(even2, odd2);
  x[7 * length] = subtract(even3, odd3);
}

static void pass_8(point *spectrum, int length) {
  const point none = {1.0f, 0.0f};
  for (point *x = spectrum; x < spectrum + POINTS; x += 8 * length) {
    combine_8(x, length, 0, none, none, none, none);
  }
  for (int j = 1; j < length; j++) {
    const int angle = CIRCLE / (8 * length) * j;
    const point w1 = find_near_root(angle), w2 = find_near_root(2 * angle);
    const point w3 = multiply(w1, w2), w4 = multiply(w2, w2);
    for (point *x = spectrum + j; x < spectrum + POINTS; x += 8 * length) {
      combine_8(x, length, 1, w1, w2, w3, w4);
    }
  }
}
