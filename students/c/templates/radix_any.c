static inline point find_root(int k) {
  const point near = find_near_root(k % QUARTER);
  switch (k / QUARTER % 4) {
  case 0:
    return near;
  case 1:
    return turn(near);
  case 2:
    return (point){-near.re, -near.im};
  default:
    return (point){-near.im, near.re};
  }
}

/* Any radix up to 5, from its definition. */
static void pass_any(point *spectrum, int radix, int length) {
  for (int j = 0; j < length; j++) {
    for (point *x = spectrum + j; x < spectrum + POINTS; x += radix * length) {
      point taken[5];
      for (int q = 0; q < radix; q++) {
        const int signed_q = q > radix / 2 ? q - radix : q;
        const int angle = CIRCLE / (radix * length) * j * signed_q;
        taken[q] = multiply(x[q * length], find_root((angle + CIRCLE) % CIRCLE));
      }
      for (int s = 0; s < radix; s++) {
        point sum = taken[0];
        for (int q = 1; q < radix; q++) {
          sum = add(sum, multiply(taken[q], find_root(CIRCLE / radix * (q * s % radix))));
        }
        x[s * length] = sum;
      }
    }
  }
}
