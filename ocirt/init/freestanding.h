/* What a program without a C library needs: the architecture's entry and system call, and what gcc may
 * call even so, for structure copies. Included once by each program. */
#ifndef OCIRT_FREESTANDING_H
#define OCIRT_FREESTANDING_H

#include "wire.h"

#if defined __x86_64__
#include "arch/x86_64.h"
#elif defined __aarch64__
#include "arch/aarch64.h"
#elif defined __riscv && __riscv_xlen == 64
#include "arch/riscv64.h"
#else
#error "no file in arch/ for this architecture yet"
#endif

void *memset(void *to, int byte, unsigned long size)
{
    u8 *p = to;
    while (size--)
        *p++ = (u8)byte;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, unsigned long size)
{
    u8 *p = to;
    const u8 *q = from;
    while (size--)
        *p++ = *q++;
    return to;
}

#endif
