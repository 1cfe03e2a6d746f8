/* The wire between Python and ocirt-init: the plan, and the messages about it.
 *
 * A plan is one sealed memfd (little endian, offsets from its first byte):
 *
 *      0 ┌──────────────────────────┐
 *        │ struct header            │ 64 bytes
 *     64 ├──────────────────────────┤
 *        │ struct step × steps      │ 64 bytes each; jumps count in steps, forward only
 *        ├──────────────────────────┤ relocs_at
 *        │ u32 × relocs             │ places in data of a u64 that holds a data offset
 *        ├──────────────────────────┤ slots_at         and is to become a pointer
 *        │ struct slot × slots      │ the only bytes that a reply may change
 *        ├──────────────────────────┤ data_at (a multiple of 8)
 *        │ data                     │ strings, structs, vectors, buffers; last byte 0
 *        └──────────────────────────┘ size
 *
 * Python packs it in plan/encode.py; tests/plan/test_wire.py compares this file with
 * plan/wire.py, constant by constant and field by field. docs/wire.md explains it.
 */
#ifndef OCIRT_WIRE_H
#define OCIRT_WIRE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#define WIRE_MAGIC 0x4e414c5054524943ULL /* "CIRTPLAN" */
#define WIRE_VERSION 1

enum { /* header.machine: the ELF e_machine that the system call numbers are for */
    MACHINE_X86_64 = 62,
    MACHINE_AARCH64 = 183,
    MACHINE_RISCV64 = 243,
};

enum { /* step.op */
    OP_CALL = 1, /* one system call */
    OP_CLONE = 2, /* go on in a new process: flags, cgroup descriptor. Not a plain call, because the
                     parent has to report the child's pid and end */
    OP_SYNC = 3, /* tell the host and wait. Not a plain call, because the reply fills slots */
    OP_SENDFD = 4, /* send a descriptor (value) with a tag. Not a plain call, because SCM_RIGHTS
                      needs nested structures that hold pointers and a register */
    OP_LOAD = 5, /* put a value into a register, so that one of several branches can choose it */
    OP_EXPECT = 6, /* fail unless (value & mask) == want: value, mask, want, width, errno. A call's
                      result in memory has to be checked before it is trusted */
    OP_CHANNEL = 7, /* report failures to this descriptor from now on */
    OP_WAIT = 8, /* words shared with the host (a register with their address), a value, how often to look:
                    tell it the value, plus 1, by the first word, and go on once the second is set. No plain
                    call, because a filter is loaded by then that may forbid every call */
};

enum { /* step.kinds: two bits an argument */
    KIND_IMM = 0, /* the value itself */
    KIND_DATA = 1, /* an offset in data: becomes a pointer */
    KIND_REG = 2, /* the number of a register */
};

enum {
    ARGS = 6,
    ERRNOS = 4,
    REGISTERS = 240,
    NO_REGISTER = 255,
    MAX_STEPS = 16384,
    MAX_PLAN = 16 << 20,
    MAX_MESSAGE = 8192,
    MAX_LOG = 512,
};

enum { /* step.flags */
    FLAG_FSLOG = 1, /* on failure read the kernel's own words from the descriptor in args[0] */
};

struct header {
    u64 magic;
    u32 version;
    u32 machine;
    u32 size;
    u32 steps;
    u32 relocs_at;
    u32 relocs;
    u32 slots_at;
    u32 slots;
    u32 data_at;
    u32 data_size;
    u32 control; /* the descriptor of the socket to the host */
    u32 reserved[3];
};

struct step {
    u8 op;
    u8 result; /* register, or NO_REGISTER */
    u16 nr; /* system call number of header.machine */
    u16 on_ok; /* step to go on with; 0: the next */
    u16 on_fail; /* the same after a failure with one of errnos (with none listed: any) */
    u8 errnos[ERRNOS]; /* failures that do not end the run; 0: unused */
    u16 kinds;
    u8 flags;
    u8 reserved;
    u64 args[ARGS];
};

struct slot {
    u32 at; /* in data */
    u32 size;
};

/* Messages, one packet each on a SOCK_SEQPACKET socket. init sends a struct message (and
 * `length` bytes); to a SYNC the host answers with a struct reply and `patches` times a
 * struct patch, each followed by its bytes, padded to 4. */
enum {
    MSG_PID = 1, /* value: the pid of the process that goes on, in its parent's namespace; 0 where init could not
                    go ahead of the plan, and waits for it where it is */
    MSG_SYNC = 2, /* value: tag */
    MSG_FD = 3, /* value: tag; the descriptor rides along */
    MSG_ERROR = 4, /* value: errno; the bytes: the kernel's log, if any */
    MSG_GO = 5, /* the host's answer */
};

struct message {
    u32 kind;
    u32 step;
    i32 value;
    u32 length;
};

struct reply {
    u32 kind;
    u32 patches;
};

struct patch {
    u32 at; /* in data */
    u32 length;
};

#endif
