/* libFuzzer target: all of ocirt-init, with a kernel that answers as the input says.
 *
 * init.c itself is compiled, with the architecture's entry and system call replaced. What init passes to the kernel is
 * read to its end, what the kernel would write is written as far as init allows it: a step too far is a finding.
 *
 * The input is fuzz_decode.c's: a plan, a reply, and the reply's length in the last two bytes. What the system calls
 * answer comes from a number that all of the input decides; whether init goes ahead of its plan, from the size. */
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../ocirt/init/wire.h"

/* In place of freestanding.h. */
#define OCIRT_FREESTANDING_H
#define MACHINE (machine)
#define RELAX() relax()
enum {
    NR_read = 0,
    NR_write = 1,
    NR_close = 3,
    NR_lseek = 8,
    NR_mmap = 9,
    NR_sendmsg = 46,
    NR_kill = 62,
    NR_exit_group = 231,
    NR_clone3 = 435,
    NR_close_range = 436,
};

static u32 machine;
static void relax(void);
static long answer(int of_plan, long nr, long a, long b, long c, long e);

/* A step's own call is the one whose number comes from the step: its arguments are the kernel's to check. */
#define syscall6(nr, a, b, c, d, e, f) answer(#nr[0] == 's', nr, a, b, c, e)

#include "../../ocirt/init/init.c"

enum { PLAN_FD = 1000, LOOKS = 64, PAGE = 4096 };

static const u8 *input;
static size_t plan_size, reply_size;
static u64 chance;
static u8 *mapped_plan, *shared;
static int looks;
static jmp_buf ended;
static volatile u64 sink;

static u64 next(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

static void relax(void)
{
    if (++looks > LOOKS)
        longjmp(ended, 1);
    if (looks == LOOKS / 2 && shared)
        shared[4] = 1;
}

static void touch(const void *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sink += ((const u8 *)at)[i];
}

/* A step: success with a small number, or one of the errors that plans know. */
static long answer_step(void)
{
    static const int errors[] = { 1, 2, 9, 11, 13, 17, 20, 22, 38, 40 };
    u64 drawn = next();

    return drawn % 32 ? (long)(drawn >> 8) % 16 : -errors[(drawn >> 8) % (sizeof errors / sizeof *errors)];
}

static long answer_read(void *to, size_t size)
{
    size_t got = reply_size < size ? reply_size : size;

    if (!plan.header) { /* it waits for the plan: a word without patches, mostly */
        static const struct reply go = { MSG_GO, 0 };
        memset(to, 0x41, size);
        memcpy(to, &go, size < sizeof go ? size : sizeof go);
        return next() % 16 ? (long)(size < sizeof go ? size : sizeof go) : 0;
    }
    memset(to, 0x41, size); /* it may be written to all of it */
    if (next() % 8 == 0)
        return -5;
    memcpy(to, input + plan_size, got);
    return (long)got;
}

static void read_message(const u8 *header)
{
    void *iov, *control;
    u64 count, length;

    memcpy(&iov, header + 16, sizeof iov);
    memcpy(&count, header + 24, sizeof count);
    memcpy(&control, header + 32, sizeof control);
    memcpy(&length, header + 40, sizeof length);
    for (u64 i = 0; i < count; i++) {
        void *base;
        u64 size;
        memcpy(&base, (u8 *)iov + 16 * i, sizeof base);
        memcpy(&size, (u8 *)iov + 16 * i + 8, sizeof size);
        touch(base, size);
    }
    touch(control, length);
}

static long answer(int of_plan, long nr, long a, long b, long c, long e)
{
    if (of_plan) {
        if (nr != NR_mmap || shared)
            return answer_step();
        shared = calloc(1, PAGE);
        return (long)shared;
    }
    switch (nr) {
    case NR_exit_group:
        longjmp(ended, 1);
    case NR_lseek:
        return (long)plan_size;
    case NR_mmap:
        if (e != PLAN_FD)
            abort();
        mapped_plan = malloc(plan_size ? plan_size : 1);
        if (!mapped_plan)
            abort();
        memcpy(mapped_plan, input, plan_size);
        return (long)mapped_plan;
    case NR_read:
        return answer_read((void *)b, (size_t)c);
    case NR_write:
        touch((void *)b, (size_t)c);
        return c;
    case NR_sendmsg:
        read_message((const u8 *)b);
        return next() % 16 ? 0 : -32;
    case NR_clone3:
        touch((void *)a, (size_t)b);
        return next() % 4 ? 0 : 4711;
    }
    return 0;
}

/* The areas that a reply must not touch are what they were: all but data. */
static void check_unchanged(void)
{
    if (plan.data && memcmp(mapped_plan, input, (size_t)(plan.data - mapped_plan)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char name[] = "ocirt-init", fd[] = "1000", control[] = "3", flags[] = "1811972096";
    /* Every second one goes ahead of its plan. */
    long stack[] = { size % 2 ? 2 : 4, (long)name, (long)fd, (long)control, (long)flags, 0 };

    input = bytes;
    reply_size = 0;
    if (size >= 2) {
        size -= 2;
        reply_size = (size_t)bytes[size] | (size_t)bytes[size + 1] << 8;
        if (reply_size > size)
            reply_size = size;
    }
    plan_size = size - reply_size;
    machine = MACHINE_X86_64;
    if (plan_size >= 16)
        memcpy(&machine, bytes + 12, sizeof machine);
    chance = 0x9e3779b97f4a7c15ULL;
    for (size_t i = 0; i < size; i++)
        chance = (chance ^ bytes[i]) * 0x100000001b3ULL;
    chance |= 1;
    memset(&plan, 0, sizeof plan);
    memset(registers, 0, sizeof registers);
    memset(register_set, 0, sizeof register_set);
    words_at = 0;
    channel = 0;
    ahead = 0;
    looks = 0;
    mapped_plan = shared = NULL;
    if (!setjmp(ended))
        run(stack);
    if (mapped_plan)
        check_unchanged();
    free(mapped_plan);
    free(shared);
    return 0;
}
