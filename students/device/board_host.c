/* This computer: files by stdio, nanoseconds by its clock. */
#define _POSIX_C_SOURCE 199309L
#include "board.h"

#include <stdio.h>
#include <time.h>

static FILE *opened[2];

int board_open(const char *name, int is_written) {
  opened[is_written] = fopen(name, is_written ? "wb" : "rb");
  return opened[is_written] ? is_written : -1;
}

size_t board_read(int handle, void *to, size_t bytes) { return fread(to, 1, bytes, opened[handle]); }

void board_write(int handle, const void *from, size_t bytes) {
  fwrite(from, 1, bytes, opened[handle]);
  fflush(opened[handle]);
}

uint64_t board_count(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void board_paint_stack(void) {}

uint64_t board_measure_stack(void) { return 0; }
