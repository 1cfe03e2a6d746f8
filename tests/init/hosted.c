/* decode.h in a hosted build, under ASan and UBSan: judges plans that come on stdin.
 *
 * A record: u32 machine, u32 size, the plan, u32 size, a reply. For each one character comes out:
 * 0 refused, 1 its relocations are refused, 2 valid, 3 valid and the reply was applied. */
#include <stdio.h>

#include "examine.h"

static int take(void *to, size_t size)
{
    return fread(to, 1, size, stdin) == size;
}

int main(void)
{
    u32 machine, size, reply_size;

    while (take(&machine, sizeof machine)) {
        if (!take(&size, sizeof size))
            return 2;
        u8 *plan = malloc(size ? size : 1);
        if (!plan || !take(plan, size) || !take(&reply_size, sizeof reply_size))
            return 2;
        u8 *reply = malloc(reply_size ? reply_size : 1);
        if (!reply || !take(reply, reply_size))
            return 2;
        putchar('0' + (int)examine(plan, size, machine, reply, reply_size));
        free(plan);
        free(reply);
    }
    return 0;
}
