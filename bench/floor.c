/* The floor: what a container costs if nothing is decided. The system calls of one bundle's plan, as ocirt makes them, and the
 * cgroups, from one C program with nothing else: no configuration is read, nothing is checked, remembered or reported.
 *
 * bench/floor.py makes `calls.h` of the plan and compiles this. usage: floor (the container's name is in the plan) */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h" /* plan_bytes, folders, cpuset, devices, rules */

#include "../ocirt/init/decode.h"

enum { CONTROL = 3, LARGEST_ERRNO = 4095 };

static struct plan plan;
static long registers[REGISTERS];

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long argument(const struct step *s, int i)
{
    switch (s->kinds >> (2 * i) & 3) {
    case KIND_DATA:
        return (long)(plan.data + s->args[i]);
    case KIND_REG:
        return registers[s->args[i]];
    default:
        return (long)s->args[i];
    }
}

/* The container's side meets the host's. */
static void meet(int fd)
{
    char byte = 0;

    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        fail("the other side");
}

static long expect(const struct step *s)
{
    u64 value = 0;

    if (s->kinds == KIND_DATA)
        memcpy(&value, plan.data + s->args[0], s->args[3]);
    else
        value = (u64)argument(s, 0);
    return (value & s->args[1]) == s->args[2] ? 0 : -(long)s->args[4];
}

static long carry_out(const struct step *s)
{
    long result;

    switch (s->op) {
    case OP_CALL:
        result = syscall(s->nr, argument(s, 0), argument(s, 1), argument(s, 2), argument(s, 3), argument(s, 4), argument(s, 5));
        return result < 0 ? -errno : result;
    case OP_SYNC:
        meet(CONTROL);
        return 0;
    case OP_LOAD:
        return argument(s, 0);
    case OP_EXPECT:
        return expect(s);
    default: /* OP_CLONE is done; what only tells the host something is not needed */
        return 0;
    }
}

static int tolerated(const struct step *s, long error)
{
    int listed = 0;

    for (int i = 0; i < ERRNOS; i++) {
        if (s->errnos[i] && s->errnos[i] == error)
            return 1;
        listed |= s->errnos[i];
    }
    return s->on_fail && !listed;
}

_Noreturn static void walk(void)
{
    for (u32 index = 0; index < plan.header->steps;) {
        const struct step *s = &plan.steps[index];
        long result = carry_out(s);
        int failed = s->op != OP_LOAD && result < 0 && result >= -LARGEST_ERRNO;

        if (failed && !tolerated(s, -result)) {
            fprintf(stderr, "floor: step %u: %s\n", index, strerror((int)-result));
            exit(1);
        }
        if (s->result != NO_REGISTER && !failed)
            registers[s->result] = result;
        u32 jump = failed ? s->on_fail : s->on_ok;
        index = jump ? jump : index + 1;
    }
    fail("the plan's end");
}

static void put(const char *folder, const char *name, const char *value, size_t size)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, size) != (ssize_t)size || close(fd))
        fail(path);
}

/* A cpuset takes a process only when it has what its parent has. */
static void inherit(const char *folder, const char *name)
{
    char path[4096], value[4096];

    snprintf(path, sizeof path, "%s/../%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, value, sizeof value);
    if (size < 0 || close(fd))
        fail(path);
    put(folder, name, value, (size_t)size);
}

static void make_cgroups(void)
{
    for (const char *const *folder = folders; *folder; folder++)
        if (mkdir(*folder, 0755))
            fail(*folder);
    if (*cpuset) {
        inherit(cpuset, "cpuset.cpus");
        inherit(cpuset, "cpuset.mems");
    }
}

static void set_devices(void)
{
    if (!*devices)
        return;
    put(devices, "devices.deny", "a", 1);
    for (const char *const *rule = rules; *rule; rule++)
        put(devices, "devices.allow", *rule, strlen(*rule));
}

static pid_t clone_into(u64 flags)
{
    struct {
        u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = { .flags = flags & ~(u64)CLONE_PARENT, .exit_signal = SIGCHLD };

    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

int main(void)
{
    char number[16], byte;
    int pair[2], status;
    u32 clone = 0;

    if (!decode(&plan, plan_bytes, sizeof plan_bytes, MACHINE_X86_64) || !relocate(&plan))
        fail("the plan");
    while (plan.steps[clone].op != OP_CLONE)
        clone++;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        fail("socketpair");
    pid_t pid = clone_into(plan.steps[clone].args[0]);
    if (pid == 0) {
        if (pair[1] == CONTROL ? fcntl(CONTROL, F_SETFD, FD_CLOEXEC) : dup3(pair[1], CONTROL, O_CLOEXEC) < 0)
            fail("dup3");
        walk();
    }
    if (pid < 0 || close(pair[1]))
        fail("clone3");
    make_cgroups();
    int size = snprintf(number, sizeof number, "%d", pid);
    for (const char *const *folder = folders; *folder; folder++)
        put(*folder, "cgroup.procs", number, (size_t)size);
    meet(pair[0]); /* it is in its cgroups */
    if (read(pair[0], &byte, 1) != 1)
        fail("the container");
    set_devices();
    if (write(pair[0], &byte, 1) != 1 || waitpid(pid, &status, 0) != pid)
        fail("the container");
    for (const char *const *folder = folders; *folder; folder++)
        if (rmdir(*folder))
            fail(*folder);
    return WEXITSTATUS(status);
}
