/* The installed executable `ocirt` where the interpreter cannot be embedded (embedded.c): finds the package from its
 * own place and becomes Python, isolated (-I: no environment variable, no working directory) and without site (-S:
 * nothing of it is needed).
 *
 * A script would do, but pip writes only scripts that start Python with site, which costs 5 ms and
 * more; and a #! line has no place for a path that is relative to the script. Freestanding, like
 * ocirt-init, because a C library's start-up would cost more than all that happens here.
 *
 * With MANAGER defined it is `ocim`: the same way to Python, with the caller's environment as it is, for that is
 * what `-e NAME` passes on. The manager's own program begins the grace period: `ocirt`.
 */
#include "../init/freestanding.h"

static long begin_child(int (*body)(void *), void *argument)
{
    struct {
        u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = { .exit_signal = 0 };
    long pid = syscall6(NR_clone3, (long)&args, sizeof args, 0, 0, 0, 0);
    if (pid == 0)
        body(argument);
    return pid;
}

#ifndef MANAGER
#define MANAGER 0
#endif
#include "starting.h"

_Noreturn void run(long *stack)
{
    char package[PATH_SIZE];
    long argc = stack[0], helper = 0;
    char **argv = (char **)(stack + 1), **envp = argv + argc + 1;

    block_interrupt();
    fill_stdio();
    refuse_lent_rights(envp);
    const char *verb = find_all(package, argc, argv, envp);
    if (!MANAGER && (same(verb, "create") || same(verb, "run")))
        helper = begin_grace_period();
    char *env[count(envp) + 3];
    if (MANAGER)
        memcpy(env, envp, sizeof *env * (unsigned long)(count(envp) + 1));
    else
        settle(env, envp);
    become_python(package, helper, argc, argv, env);
}
