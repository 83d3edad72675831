/* What the loop over clips asks of a board. */
#include <stddef.h>
#include <stdint.h>

int board_open(const char *name, int is_written); /* a handle, or below 0 */
size_t board_read(int handle, void *to, size_t bytes); /* how many it has read */
void board_write(int handle, const void *from, size_t bytes);
uint64_t board_count(void);  /* instructions; on a computer, nanoseconds */
void board_paint_stack(void); /* below the caller's frame */
uint64_t board_measure_stack(void); /* bytes that were written since; 0 if it cannot be told */
