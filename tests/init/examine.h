/* What the hosted test and the fuzzer do with bytes that claim to be a plan: all that ocirt-init does with one,
 * but for the system calls. Under ASan, so every buffer is exactly as large as its content. */
#ifndef OCIRT_EXAMINE_H
#define OCIRT_EXAMINE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../ocirt/init/decode.h"

enum verdict { REFUSED = 0, NOT_RELOCATABLE = 1, VALID = 2, REPLY_APPLIED = 3 };

static volatile u64 sink; /* so that no read is optimised away */

/* Read what the kernel would: every string to its end, every value that EXPECT looks at. */
static void read_arguments(const struct plan *plan)
{
    for (u32 i = 0; i < plan->header->steps; i++) {
        const struct step *step = &plan->steps[i];
        for (int j = 0; j < ARGS; j++)
            if ((step->kinds >> (2 * j) & 3) == KIND_DATA)
                sink += strlen((const char *)plan->data + step->args[j]);
        if (step->op == OP_EXPECT && step->kinds == KIND_DATA)
            for (u64 at = 0; at < step->args[3]; at++)
                sink += plan->data[step->args[0] + at];
        if (step->result != NO_REGISTER && step->result >= REGISTERS)
            abort();
        if (step->on_ok >= plan->header->steps || step->on_fail >= plan->header->steps)
            abort();
    }
}

/* Every pointer that relocation made has to point at a string inside the data. */
static void read_pointers(const struct plan *plan)
{
    for (u32 i = 0; i < plan->header->relocs; i++) {
        u64 place;
        memcpy(&place, plan->data + plan->relocs[i], sizeof place);
        sink += strlen((const char *)(uintptr_t)place);
    }
}

static enum verdict examine(const u8 *bytes, size_t size, u32 machine, const u8 *reply, size_t reply_size)
{
    struct plan plan;
    u8 *copy = malloc(size ? size : 1);
    u8 *answer = malloc(reply_size ? reply_size : 1);
    enum verdict verdict = REFUSED;

    if (!copy || !answer)
        abort();
    memcpy(copy, bytes, size);
    memcpy(answer, reply, reply_size);
    if (decode(&plan, copy, size, machine)) {
        verdict = NOT_RELOCATABLE;
        read_arguments(&plan);
        if (relocate(&plan)) {
            verdict = VALID;
            read_pointers(&plan);
            if (apply_reply(&plan, answer, reply_size))
                verdict = REPLY_APPLIED;
            /* Whatever the reply said, the plan is as sound as before. */
            read_arguments(&plan);
            if (verdict == REPLY_APPLIED && memcmp(copy, bytes, (size_t)(plan.data - copy)))
                abort();
        }
    }
    free(copy);
    free(answer);
    return verdict;
}

#endif
