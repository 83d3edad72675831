/* QEMU's boards mps2-an500, an386 and an385: files by semihosting, instructions by a timer. */
#include "board.h"

#include <string.h>

/* Operations of semihosting (Arm, "Semihosting for AArch32 and AArch64"), and modes of fopen. */
enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, MODE_RB = 1, MODE_WB = 5 };

/* The first timer of Arm's CMSDK counts down at 25 MHz. With -icount shift=0 an instruction takes a
 * nanosecond of QEMU's time, so the timer counts each 40 of them. */
#define TIMER ((volatile uint32_t *)0x40000000u)
enum { CONTROL = 0, VALUE = 1, RELOAD = 2, ENABLE = 1, INSTRUCTIONS_A_TICK = 40 };

#define PAINT 0xA5A5A5A5u
#define PAINTED_WORDS 0x10000u
#define SPARED_BYTES 128u /* of the painting function itself */

static uint32_t *painted, *painted_end;
static uintptr_t stack_before;

static uint32_t call_host(int operation, const void *argument) {
  register uint32_t r0 __asm__("r0") = (uint32_t)operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

int board_open(const char *name, int is_written) {
  const uint32_t block[3] = {(uint32_t)(uintptr_t)name, is_written ? MODE_WB : MODE_RB, strlen(name)};
  return (int)call_host(SYS_OPEN, block);
}

size_t board_read(int handle, void *to, size_t bytes) {
  const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)to, bytes};
  return bytes - call_host(SYS_READ, block);
}

void board_write(int handle, const void *from, size_t bytes) {
  const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)from, bytes};
  call_host(SYS_WRITE, block);
}

uint64_t board_count(void) {
  static uint64_t ticks;
  static uint32_t last = UINT32_MAX;
  if (!(TIMER[CONTROL] & ENABLE)) {
    TIMER[RELOAD] = UINT32_MAX;
    TIMER[VALUE] = UINT32_MAX;
    TIMER[CONTROL] = ENABLE;
  }
  const uint32_t now = TIMER[VALUE];
  ticks += (uint32_t)(last - now); /* also where it has begun again */
  last = now;
  return ticks * INSTRUCTIONS_A_TICK;
}

__attribute__((noinline)) void board_paint_stack(void) {
  stack_before = (uintptr_t)__builtin_frame_address(0);
  painted_end = (uint32_t *)((stack_before - SPARED_BYTES) & ~(uintptr_t)3);
  painted = painted_end - PAINTED_WORDS;
  for (volatile uint32_t *word = painted; word < painted_end; word++) *word = PAINT;
}

uint64_t board_measure_stack(void) {
  const uint32_t *word = painted;
  while (word < painted_end && *word == PAINT) word++;
  return stack_before - (uintptr_t)word;
}
