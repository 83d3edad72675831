/* Starts a program on a Cortex-M3, M4 or M7 that a debugger or QEMU serves by semihosting.
 *
 * On a board of your own, take the files that its vendor gives for this instead.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Operations of semihosting (Arm, "Semihosting for AArch32 and AArch64"). */
enum { SYS_WRITE0 = 0x04, SYS_GET_CMDLINE = 0x15, SYS_EXIT = 0x18, SYS_EXIT_EXTENDED = 0x20 };
#define STOPPED_BY_PROGRAM 0x20026u

/* From cortex_m.ld. */
extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];
extern int main(int argc, char **argv);
/* From librdimon, which opens stdin, stdout and stderr; 0 if it is not linked. */
extern void initialise_monitor_handles(void) __attribute__((weak));
/* Of libc, which writes what is still buffered; 0 in a program that does not call it. */
extern void exit(int code) __attribute__((weak));

static intptr_t call_host(int operation, const void *argument) {
  register intptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void end_program(int code) {
  const uint32_t reason[2] = {STOPPED_BY_PROGRAM, (uint32_t)code};
  call_host(SYS_EXIT_EXTENDED, reason);
  for (;;) {
  }
}

/* A fault, or an interrupt that nobody asked for. */
static void stop_at_fault(void) {
  call_host(SYS_WRITE0, "stopped by a fault of the processor\n");
  end_program(70);
}

/* Splits the command line at spaces; returns the number of words. */
static int read_words(char *line, size_t size, char **words, int most) {
  uint32_t block[2] = {(uint32_t)(uintptr_t)line, (uint32_t)size};
  int count = 0;
  if (call_host(SYS_GET_CMDLINE, block) != 0) return 0;
  for (char *at = line; *at && count < most;) {
    while (*at == ' ') *at++ = 0;
    if (!*at) break;
    words[count++] = at;
    while (*at && *at != ' ') at++;
  }
  return count;
}

static void run(void) {
  /* On the stack: what is static is RAM for good. */
  char line[1024];
  char *words[64];
  memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
  memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
  if (initialise_monitor_handles) initialise_monitor_handles();
  const int code = main(read_words(line, sizeof line, words, 64), words);
  if (exit) exit(code);
  end_program(code);
}

/* The first code that runs: C uses registers of the floating point unit from its first line on. */
void reset(void);
__attribute__((naked, noreturn)) void reset(void) {
#ifdef __ARM_FP
  /* Full access to coprocessors 10 and 11 (CPACR). */
  __asm__ volatile(
      "ldr r0, =0xE000ED88\n"
      "ldr r1, [r0]\n"
      "orr r1, r1, #0xF00000\n"
      "str r1, [r0]\n"
      "dsb\n"
      "isb\n");
#endif
  __asm__ volatile("b %c0" : : "i"(run));
}

typedef union {
  const void *stack;
  void (*handler)(void);
} vector;

/* The processor reads its stack and its first instruction from here. */
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = stack_top},        {.handler = reset},         {.handler = stop_at_fault},
    {.handler = stop_at_fault},   {.handler = stop_at_fault}, {.handler = stop_at_fault},
    {.handler = stop_at_fault},   {0},                        {0},
    {0},                          {0},                        {.handler = stop_at_fault},
    {.handler = stop_at_fault},   {0},                        {.handler = stop_at_fault},
    {.handler = stop_at_fault},
};
