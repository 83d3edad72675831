/* ---- Fourier transform: decimation in time, in place, with radices[0] first ----

   A transform of r * length points is made of r of length points, of which number q has every r-th
   point from point q on, with q from -(r - 1) / 2 to r / 2 and points before the first taken from the
   end. So factors of q and -q are conjugate, and the table is read half as often. */

static inline point add(point a, point b) { return (point){a.re + b.re, a.im + b.im}; }

static inline point subtract(point a, point b) { return (point){a.re - b.re, a.im - b.im}; }

static inline point multiply(point a, point w) {
  return (point){a.re * w.re - a.im * w.im, a.re * w.im + a.im * w.re};
}

static inline point multiply_conjugate(point a, point w) {
  return (point){a.re * w.re + a.im * w.im, a.im * w.re - a.re * w.im};
}

/* -i a */
static inline point turn(point a) { return (point){a.im, -a.re}; }

/* e^(-2 pi i k / CIRCLE) of the first quarter. */
static inline point find_near_root(int k) { return (point){sine[QUARTER - k], -sine[k]}; }

@PASSES@

static void transform(point *spectrum) {
@CALLS@
}

/* Where the parts of the last pass begin that hold point n of theirs. */
static inline int find_place(int n) {
  int place = 0, length = POINTS / LAST_RADIX;
  n = n == length ? 0 : n;
  for (int pass = (int)sizeof radices - 2; pass >= 0; pass--) {
    const int radix = radices[pass], q = n % radix;
    length /= radix;
    n = n / radix + (q > radix / 2);
    n = n == length ? 0 : n;
    place += q * length;
  }
  return place;
}
