/* What the example needs of its machine: a console and an end. Yours has a UART and a loop. */
#ifndef PORT_H
#define PORT_H

#include <stdint.h>

void put_text(const char *text);
void put_number(uint32_t number);
/* Words to work on. */
const char *command_line(void);
_Noreturn void leave(int code);

#endif
