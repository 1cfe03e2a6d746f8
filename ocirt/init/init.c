/* ocirt-init: walks a plan (wire.h), a table of system calls that Python made, verified and
 * sealed. It decides nothing. On the first failure that the plan does not name it reports step,
 * errno and the kernel's log to the host, and ends.
 *
 * Freestanding: no libc, no allocation, no global constructor; it runs inside the container, where
 * every page counts and every library would be attack surface.
 *
 * usage: ocirt-init PLAN-DESCRIPTOR [CONTROL-DESCRIPTOR CLONE-FLAGS]
 *
 * With the latter the plan is still being made: init goes ahead into the namespaces, and waits for it there.
 */
#include "decode.h"
#include "freestanding.h"

enum { /* the kernel's constants that the executor itself needs (include/uapi) */
    EINVAL_ = 22,
    EBADF_ = 9,
    EAGAIN_ = 11,
    EPROTO_ = 71,
    SEEK_END_ = 2,
    SIGKILL_ = 9,
    PROT_READ_WRITE = 3,
    MAP_PRIVATE_ = 2,
    SOL_SOCKET_ = 1,
    SCM_RIGHTS_ = 1,
    MSG_NOSIGNAL_ = 0x4000,
};

enum {
    NR_OPENAT2 = 437, /* of every architecture */
    OPENAT2_TRIES = 1000,
};

#define CLONE_INTO_CGROUP_ 0x200000000ULL

struct clone_args { /* clone3(2), CLONE_ARGS_SIZE_VER2 */
    u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    u64 set_tid, set_tid_size, cgroup;
};

static struct plan plan;
static i64 registers[REGISTERS];
static u8 register_set[REGISTERS];
static i64 channel; /* where failures go */
static u64 ahead; /* the flags of the clone that was made before there was a plan */

static long call(long nr, long a, long b, long c)
{
    return syscall6(nr, a, b, c, 0, 0, 0);
}

_Noreturn static void end(int status)
{
    call(NR_exit_group, status, 0, 0);
    __builtin_trap(); /* a filter forbids even that */
}

/* Send one packet; with fd >= 0 the descriptor rides along (unix(7), SCM_RIGHTS). */
static long send(i64 to, const void *bytes, u64 size, i64 fd)
{
    struct {
        const void *base;
        u64 size;
    } iov = { bytes, size };
    struct { /* struct cmsghdr and its one descriptor, padded as CMSG_SPACE does */
        u64 size;
        i32 level, type, fd, pad;
    } control = { 20, SOL_SOCKET_, SCM_RIGHTS_, (i32)fd, 0 };
    struct {
        void *name;
        u32 name_size, pad;
        void *iov;
        u64 iovs;
        void *control;
        u64 control_size;
        i32 flags, pad2;
    } message = { 0, 0, 0, &iov, 1, fd < 0 ? 0 : (void *)&control, fd < 0 ? 0 : sizeof control, 0, 0 };

    return call(NR_sendmsg, to, (long)&message, MSG_NOSIGNAL_);
}

/* An error, such as the host's being gone, or its memory: then the reason to go on is, too. */
static i64 tell(u32 kind, u32 step, i32 value, i64 fd)
{
    struct message m = { kind, step, value, 0 };
    long sent = send(plan.header->control, &m, sizeof m, fd);

    return sent < 0 ? sent : 0;
}

/* Report the failure of a step and end. The channel is the socket, or the start FIFO: write(2) does for both. */
_Noreturn static void fail(u32 index, i64 error)
{
    struct {
        struct message head;
        u8 log[MAX_LOG];
    } m = { { MSG_ERROR, index, (i32)error, 0 }, { 0 } };
    const struct step *s = &plan.steps[index];

    if (s->flags & FLAG_FSLOG) {
        int in_register = (s->kinds & 3) == KIND_REG;
        /* -1 for a register that is not set: 0 would be the program's stdin */
        i64 fd = !in_register ? (i64)s->args[0] : register_set[s->args[0]] ? registers[s->args[0]] : -1;
        /* fsopen(2): each read gives one message; ENODATA when there are no more. */
        while (m.head.length < MAX_LOG) {
            long got = call(NR_read, fd, (long)(m.log + m.head.length), MAX_LOG - m.head.length);
            if (got <= 0)
                break;
            m.head.length += (u32)got;
        }
    }
    call(NR_write, channel, (long)&m, (long)(sizeof m.head + m.head.length));
    end(1);
}

static i64 argument(u32 index, int i)
{
    const struct step *s = &plan.steps[index];
    u64 value = s->args[i];

    switch (s->kinds >> (2 * i) & 3) {
    case KIND_DATA:
        return (i64)(unsigned long)(plan.data + value);
    case KIND_REG:
        if (!register_set[value])
            fail(index, EBADF_);
        return registers[value];
    default:
        return (i64)value;
    }
}

static i64 do_clone(u32 index)
{
    struct clone_args args = { .flags = (u64)argument(index, 0) };
    long pid;

    if (ahead)
        return args.flags == ahead ? 0 : -EPROTO_;
    if (args.flags & CLONE_INTO_CGROUP_)
        args.cgroup = (u64)argument(index, 1);
    pid = call(NR_clone3, (long)&args, sizeof args, 0);
    if (pid > 0) {
        i64 error = tell(MSG_PID, index, (i32)pid, -1);
        if (!error)
            end(0);
        call(NR_kill, pid, SIGKILL_, 0); /* whose pid the host does not know, it could not end */
        fail(index, -error);
    }
    return pid;
}

static i64 do_sync(u32 index)
{
    /* static: it is only touched where a reply comes, and the stack stays one page */
    static u8 answer[MAX_MESSAGE] __attribute__((aligned(8)));
    long got;

    got = tell(MSG_SYNC, index, (i32)argument(index, 0), -1);
    if (got < 0)
        return got;
    got = call(NR_read, plan.header->control, (long)answer, MAX_MESSAGE);
    if (got < 0)
        return got;
    if (got == 0)
        end(1); /* the host is gone */
    return apply_reply(&plan, answer, (u64)got) ? 0 : -EPROTO_;
}

static i64 do_expect(u32 index)
{
    const struct step *s = &plan.steps[index];
    u64 value = 0;

    if (s->kinds == KIND_DATA)
        for (u64 i = 0; i < s->args[3]; i++)
            value |= (u64)plan.data[s->args[0] + i] << (8 * i);
    else
        value = (u64)argument(index, 0);
    return (value & s->args[1]) == s->args[2] ? 0 : -(i64)s->args[4];
}

static i64 do_wait(u32 index)
{
    u32 *words = (u32 *)(unsigned long)argument(index, 0);

    __atomic_store_n(&words[0], (u32)argument(index, 1) + 1, __ATOMIC_RELEASE);
    for (u64 left = plan.steps[index].args[2]; left; left--) {
        if (__atomic_load_n(&words[1], __ATOMIC_ACQUIRE))
            return 0;
        RELAX();
    }
    end(1); /* the host is gone: so is the reason to go on */
}

static i64 carry_out(u32 index)
{
    const struct step *s = &plan.steps[index];
    long a[ARGS], result;
    int tries = OPENAT2_TRIES;

    switch (s->op) {
    case OP_CALL:
        for (int i = 0; i < ARGS; i++)
            a[i] = argument(index, i);
        do
            result = syscall6(s->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        /* openat2(2): below a root, ".." is refused while anything on the host is renamed or mounted */
        while (result == -EAGAIN_ && s->nr == NR_OPENAT2 && --tries);
        return result;
    case OP_CLONE:
        return do_clone(index);
    case OP_SYNC:
        return do_sync(index);
    case OP_SENDFD:
        return tell(MSG_FD, index, (i32)argument(index, 1), argument(index, 0));
    case OP_LOAD:
        return argument(index, 0);
    case OP_EXPECT:
        return do_expect(index);
    case OP_CHANNEL:
        channel = argument(index, 0);
        return 0;
    case OP_WAIT:
        return do_wait(index);
    }
    return -EINVAL_;
}

/* May the run go on after this failure? */
static int tolerated(const struct step *s, i64 error)
{
    int listed = 0;

    for (int i = 0; i < ERRNOS; i++) {
        if (s->errnos[i] && s->errnos[i] == error)
            return 1;
        listed |= s->errnos[i];
    }
    return s->on_fail && !listed;
}

static void walk(void)
{
    u32 index = 0;

    while (index < plan.header->steps) {
        const struct step *s = &plan.steps[index];
        i64 result = carry_out(index);
        int failed = s->op != OP_LOAD && result < 0 && result >= -4095;

        if (failed && !tolerated(s, -result))
            fail(index, -result);
        if (s->result != NO_REGISTER && !failed) {
            registers[s->result] = result;
            register_set[s->result] = 1;
        }
        u32 jump = failed ? s->on_fail : s->on_ok;
        index = jump ? jump : index + 1;
    }
    fail(plan.header->steps - 1, EINVAL_); /* a plan ends in execve */
}

static i64 number(const char *text)
{
    i64 value = 0;

    if (!text || !*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value >> 40)
            return -1;
        value = value * 10 + (*text - '0');
    }
    return value;
}

/* Go on in a new process, in new namespaces, and wait there until the plan is written. Where that fails, it is tried
 * again where the plan has it, and reported with its place. */
static void go_ahead(i64 plan_fd, i64 control, u64 flags)
{
    struct clone_args args = { .flags = flags };
    struct reply go;

    /* The plan's is the highest descriptor that the host has given. */
    call(NR_close_range, plan_fd + 1, 0xffffffff, 0);
    long pid = call(NR_clone3, (long)&args, sizeof args, 0);
    struct message m = { MSG_PID, 0, pid > 0 ? (i32)pid : 0, 0 };
    if (pid && send(control, &m, sizeof m, -1) < 0) {
        if (pid > 0)
            call(NR_kill, pid, SIGKILL_, 0); /* as in do_clone */
        end(1);
    }
    if (pid > 0)
        end(0);
    if (!pid)
        ahead = flags;
    if (call(NR_read, control, (long)&go, sizeof go) != sizeof go || go.kind != MSG_GO)
        end(1); /* the host is gone, or has no use for this */
}

/* `stack` is what the kernel leaves there: argc, then argv (the ABI's process start-up). */
_Noreturn void run(long *stack)
{
    i64 fd = stack[0] == 2 || stack[0] == 4 ? number((const char *)stack[2]) : -1;

    if (fd >= 0 && stack[0] == 4)
        go_ahead(fd, number((const char *)stack[3]), (u64)number((const char *)stack[4]));
    long size = fd < 0 ? -1 : call(NR_lseek, fd, 0, SEEK_END_);
    long base = size <= 0 ? -1 : syscall6(NR_mmap, 0, size, PROT_READ_WRITE, MAP_PRIVATE_, fd, 0);

    if (base < 0 && base >= -4095)
        end(125);
    call(NR_close, fd, 0, 0);
    if (!decode(&plan, (u8 *)base, (u64)size, MACHINE) || !relocate(&plan))
        end(125);
    channel = plan.header->control;
    walk();
    end(1);
}
