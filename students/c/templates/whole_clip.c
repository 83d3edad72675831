/* Codes depend on the whole clip, so its logarithms are kept. A logarithm has 20 bits: 12...19 are in the
   codes, 4...11 in the codes of the second channel or else in `kept`, 0...3 at the beginning of `kept`,
   those of two bands in a byte. In 16 bits, one code in 1,200 would be another. */
enum {
  STANDARDISES = @STANDARDISES@,
  CELLS = FRONT_END_BANDS * FRONT_END_FRAMES,
  LOWEST_BYTES = (FRONT_END_BANDS + 1) / 2 * FRONT_END_FRAMES,
  LARGEST_KEPT = (1 << 20) - 1
};

#define INPUT_SCALE @INPUT_SCALE@
/* From natural logarithms to what is kept, and from there to steps of the codes. */
#define LOWEST_LOG @LOWEST_LOG@
#define KEPT_GAIN @KEPT_GAIN@
#define VALUE_GAIN @VALUE_GAIN@
#define VALUE_SHIFT @VALUE_SHIFT@
/* Of a channel's values: a clip of digital silence is not blown up. */
#define SMALLEST_SPREAD @SMALLEST_SPREAD@

static inline uint8_t *find_middle(front_end *state, uint8_t *codes) {
  return FRONT_END_CHANNELS == 2 ? codes + CELLS : state->kept + LOWEST_BYTES;
}

static void keep(front_end *state, uint8_t *codes, int band, int32_t value) {
  const int cell = band * FRONT_END_FRAMES + state->frame;
  uint8_t *lowest = state->kept + band / 2 * FRONT_END_FRAMES + state->frame;
  codes[cell] = (uint8_t)(value >> 12);
  find_middle(state, codes)[cell] = (uint8_t)(value >> 4 & 255);
  *lowest = (uint8_t)(band % 2 ? (*lowest & 15) | (value & 15) << 4 : value & 15);
}

static void store(front_end *state, uint8_t *codes, int band, float log_power) {
  const float steps = (log_power - LOWEST_LOG) * KEPT_GAIN + 0.5f;
  keep(state, codes, band, steps < 0.0f ? 0 : steps > LARGEST_KEPT ? LARGEST_KEPT : (int32_t)steps);
}

/* Puts a band's logarithms into the row. */
static void recall(front_end *state, uint8_t *codes, int band) {
  const uint8_t *highest = codes + band * FRONT_END_FRAMES;
  const uint8_t *middle = find_middle(state, codes) + band * FRONT_END_FRAMES;
  const uint8_t *lowest = state->kept + band / 2 * FRONT_END_FRAMES;
  int32_t *row = state->work.row + 2;
  for (int t = 0; t < FRONT_END_FRAMES; t++) {
    row[t] = highest[t] << 12 | middle[t] << 4 | (lowest[t] >> (band % 2 ? 4 : 0) & 15);
  }
  row[-2] = row[-1] = row[0];
  row[FRONT_END_FRAMES] = row[FRONT_END_FRAMES + 1] = row[FRONT_END_FRAMES - 1];
}

/* Square root of a positive normal number, by Newton's method from half the exponent. */
static float take_root(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits >> 1) + 0x1fbb4f2eu;
  float root;
  memcpy(&root, &bits, sizeof root);
  for (int i = 0; i < 4; i++) {
    root = 0.5f * (root + x / root);
  }
  return root;
}

/* The logarithm at frame t, or ten times its slope over five frames. */
static inline int32_t read_value(const int32_t *row, int channel, int t) {
  row += t + 2;
  return channel == 0 ? row[0] : 2 * (row[2] - row[-2]) + row[1] - row[-1];
}

/* How the values of a channel become steps of the codes: (value - centre) * gain + shift. */
typedef struct {
  int32_t centre;
  float gain, shift;
} scaling;

/* Sums of the distances to the centres and of their squares, exact. */
static void add_up(front_end *state, uint8_t *codes, const scaling *scalings, int64_t *sums,
                   uint64_t *squares) {
  for (int c = 0; c < FRONT_END_CHANNELS; c++) {
    sums[c] = 0;
    squares[c] = 0;
  }
  for (int band = 0; band < FRONT_END_BANDS; band++) {
    recall(state, codes, band);
    for (int c = 0; c < FRONT_END_CHANNELS; c++) {
      for (int t = 0; t < FRONT_END_FRAMES; t++) {
        const int64_t distance = read_value(state->work.row, c, t) - scalings[c].centre;
        sums[c] += distance;
        squares[c] += (uint64_t)(distance * distance);
      }
    }
  }
}

/* Centres each channel at its mean, first rounded, and divides by its standard deviation. */
static void standardise(front_end *state, uint8_t *codes, scaling *scalings) {
  int64_t sums[2];
  uint64_t squares[2];
  add_up(state, codes, scalings, sums, squares);
  for (int c = 0; c < FRONT_END_CHANNELS; c++) {
    scalings[c].centre = (int32_t)(sums[c] / CELLS);
  }
  add_up(state, codes, scalings, sums, squares);
  for (int c = 0; c < FRONT_END_CHANNELS; c++) {
    const float smallest = c == 0 ? SMALLEST_SPREAD : 10.0f * SMALLEST_SPREAD;
    const float sum = (float)sums[c], rest = sum / (float)CELLS;
    const float variance = ((float)squares[c] - rest * sum) / (float)(CELLS - 1);
    const float spread = variance > smallest * smallest ? take_root(variance) : smallest;
    scalings[c].gain = 1.0f / (spread * INPUT_SCALE);
    scalings[c].shift = -rest * scalings[c].gain;
  }
}

/* Band by band, codes take the place of the logarithms. */
static void finish_clip(front_end *state, uint8_t *codes) {
  scaling scalings[2] = {{0, VALUE_GAIN, VALUE_SHIFT}, {0, VALUE_GAIN / 10.0f, 0.0f}};
  if (STANDARDISES) {
    standardise(state, codes, scalings);
  }
  for (int band = 0; band < FRONT_END_BANDS; band++) {
    recall(state, codes, band);
    for (int c = 0; c < FRONT_END_CHANNELS; c++) {
      for (int t = 0; t < FRONT_END_FRAMES; t++) {
        const int32_t distance = read_value(state->work.row, c, t) - scalings[c].centre;
        codes[c * CELLS + band * FRONT_END_FRAMES + t] =
            round_code((float)distance * scalings[c].gain + scalings[c].shift);
      }
    }
  }
}
