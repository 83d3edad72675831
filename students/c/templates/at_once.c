/* From natural logarithms to steps of the codes. */
#define CODE_GAIN @CODE_GAIN@
#define CODE_SHIFT @CODE_SHIFT@

static void store(front_end *state, uint8_t *codes, int band, float log_power) {
  codes[band * FRONT_END_FRAMES + state->frame] = round_code(log_power * CODE_GAIN + CODE_SHIFT);
}

/* Every frame has its codes already. */
static void finish_clip(front_end *state, uint8_t *codes) {
  (void)state;
  (void)codes;
}
