/* From a clip's samples to the codes of its log-mel spectrogram [channels][bands][frames].

   All state is in the scratch that the caller places, aligned to 4 bytes. Nothing else may write into the
   scratch or into the codes from front_end_start until front_end_ready; then the scratch is free. */
#ifndef FRONT_END_H
#define FRONT_END_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@SIZES@

/* Begins a clip. */
void front_end_start(void *scratch);

/* Takes samples, as many at a time as there are, and writes the codes of each frame that they complete.
   Returns how many it took: no more than the clip still lacks. */
size_t front_end_push(void *scratch, uint8_t *codes, const int16_t *samples, size_t count);

/* Returns whether the clip is complete, and so all of its codes. */
int front_end_ready(const void *scratch);

/* Lets nothing be pushed, and no clip be complete, until the next start. */
void front_end_stop(void *scratch);

#ifdef __cplusplus
}
#endif

#endif
