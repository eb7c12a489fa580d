/* Start-up and semihosting for QEMU's mps2-an386 (Cortex-M4F), in place of the vendor's. */
#include "port.h"

#include <stddef.h>

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);

void reset(void);
void reset(void)
{
    volatile uint32_t *const cpacr = (uint32_t *)0xE000ED88;
    *cpacr |= 0xFu << 20; /* The floating-point unit is off after reset. */
    __asm volatile("dsb\n\tisb" ::: "memory");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    main();
    leave(0);
}

static void fault(void)
{
    put_text("fault\n");
    leave(102);
}

static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors __attribute__((section(".vectors"), used)) = {
    &stack_top,
    {reset, fault, fault, fault, fault, fault},
};

static int semihost(int operation, const void *argument)
{
    register int r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void put_text(const char *text)
{
    semihost(0x04, text); /* SYS_WRITE0 */
}

void put_number(uint32_t number)
{
    char digits[12];
    char *at = digits + sizeof digits;
    *--at = '\0';
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    *--at = ' ';
    put_text(at);
}

const char *command_line(void)
{
    static char line[8192];
    struct {
        char *buffer;
        size_t length;
    } block = {line, sizeof line};
    if (semihost(0x15, &block) != 0 || line[0] == '\0') /* SYS_GET_CMDLINE */
        return "microcontroller";
    return line;
}

_Noreturn void leave(int code)
{
    const uint32_t block[2] = {0x20026 /* ADP_Stopped_ApplicationExit */, (uint32_t)code};
    semihost(0x20, block); /* SYS_EXIT_EXTENDED */
    for (;;)
        ;
}
