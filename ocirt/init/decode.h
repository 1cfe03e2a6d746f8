/* Checks a plan before anything of it is believed. No system calls here, so that the same
 * code is fuzzed in a hosted build (tests/init/). */
#ifndef OCIRT_DECODE_H
#define OCIRT_DECODE_H

#include "wire.h"

struct plan {
    struct header *header;
    struct step *steps;
    u32 *relocs;
    struct slot *slots;
    u8 *data;
};

static inline int inside(u64 at, u64 count, u64 item, u64 size)
{
    return at <= size && count <= (size - at) / item;
}

static inline int step_is_sound(const struct plan *p, u32 index)
{
    const struct step *s = &p->steps[index];

    if (s->op < OP_CALL || s->op > OP_WAIT || s->reserved || s->flags & ~FLAG_FSLOG)
        return 0;
    if (s->result >= REGISTERS && s->result != NO_REGISTER)
        return 0;
    if ((s->on_ok && s->on_ok <= index) || s->on_ok >= p->header->steps)
        return 0;
    if ((s->on_fail && s->on_fail <= index) || s->on_fail >= p->header->steps)
        return 0;
    if (s->kinds >> (2 * ARGS))
        return 0;
    for (int i = 0; i < ARGS; i++) {
        u32 kind = s->kinds >> (2 * i) & 3;
        if (kind > KIND_REG)
            return 0;
        if (kind == KIND_DATA && s->args[i] >= p->header->data_size)
            return 0;
        if (kind == KIND_REG && s->args[i] >= REGISTERS)
            return 0;
    }
    if (s->op == OP_WAIT && (s->kinds & 3) != KIND_REG)
        return 0;
    if (s->op == OP_EXPECT) {
        /* The width is read from memory only when the value is in data. */
        u64 width = s->args[3];
        if (width != 1 && width != 2 && width != 4 && width != 8)
            return 0;
        if (s->kinds >> 2)
            return 0;
        if (s->kinds == KIND_DATA && !inside(s->args[0], width, 1, p->header->data_size))
            return 0;
        if (s->args[4] < 1 || s->args[4] > 255)
            return 0;
    }
    return 1;
}

/* Fill *p from the `size` bytes at `base`; 0 if anything in them is out of bounds. */
static inline int decode(struct plan *p, u8 *base, u64 size, u32 machine)
{
    struct header *h = (struct header *)base;

    if (size < sizeof *h || size > MAX_PLAN || h->magic != WIRE_MAGIC ||
        h->version != WIRE_VERSION || h->machine != machine || h->size != size)
        return 0;
    if (h->steps < 1 || h->steps > MAX_STEPS ||
        !inside(sizeof *h, h->steps, sizeof(struct step), size))
        return 0;
    if (h->relocs_at % 4 || !inside(h->relocs_at, h->relocs, sizeof(u32), size) ||
        h->slots_at % 4 || !inside(h->slots_at, h->slots, sizeof(struct slot), size) ||
        h->data_at % 8 || !inside(h->data_at, h->data_size, 1, size))
        return 0;
    p->header = h;
    p->steps = (struct step *)(base + sizeof *h);
    p->relocs = (u32 *)(base + h->relocs_at);
    p->slots = (struct slot *)(base + h->slots_at);
    p->data = base + h->data_at;
    /* The areas follow each other as they are drawn. Writes go into data only, so nothing that was
     * checked here can change afterwards. */
    if (h->relocs_at < sizeof *h + h->steps * sizeof(struct step) ||
        h->slots_at < h->relocs_at + h->relocs * sizeof(u32) ||
        h->data_at < h->slots_at + h->slots * sizeof(struct slot))
        return 0;
    /* Then every string in data ends inside the plan; no slot reaches that last NUL. */
    if (h->data_size < 1 || p->data[h->data_size - 1])
        return 0;
    for (u32 i = 0; i < h->slots; i++)
        if (!inside(p->slots[i].at, p->slots[i].size, 1, h->data_size - 1))
            return 0;
    for (u32 i = 0; i < h->steps; i++)
        if (!step_is_sound(p, i))
            return 0;
    return 1;
}

/* Turn the offsets that relocs name into pointers; 0 if one is out of bounds. */
static inline int relocate(const struct plan *p)
{
    const struct header *h = p->header;

    for (u32 i = 0; i < h->relocs; i++) {
        u32 at = p->relocs[i];
        if (at % 8 || !inside(at, 8, 1, h->data_size))
            return 0;
        u64 *place = (u64 *)(p->data + at);
        if (*place >= h->data_size)
            return 0;
        *place += (u64)(unsigned long)p->data;
    }
    return 1;
}

/* Does [at, at + length) lie in one slot? */
static inline int in_a_slot(const struct plan *p, u32 at, u32 length)
{
    for (u32 i = 0; i < p->header->slots; i++) {
        const struct slot *s = &p->slots[i];
        if (at >= s->at && at - s->at <= s->size && length <= s->size - (at - s->at))
            return 1;
    }
    return 0;
}

/* Carry out the host's answer to a SYNC; 0 if it touches anything but slots. */
static inline int apply_reply(const struct plan *p, const u8 *bytes, u64 size)
{
    const struct reply *r = (const struct reply *)bytes;
    u64 at = sizeof *r;

    if (size < sizeof *r || r->kind != MSG_GO)
        return 0;
    for (u32 i = 0; i < r->patches; i++) {
        const struct patch *patch = (const struct patch *)(bytes + at);
        if (!inside(at, sizeof *patch, 1, size))
            return 0;
        at += sizeof *patch;
        if (!inside(at, patch->length, 1, size) || !in_a_slot(p, patch->at, patch->length))
            return 0;
        for (u32 j = 0; j < patch->length; j++)
            p->data[patch->at + j] = bytes[at + j];
        at += ((u64)patch->length + 3) & ~3ULL;
        if (at > size)
            return 0;
    }
    return at == size;
}

#endif
