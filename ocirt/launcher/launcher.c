/* The installed executable `ocirt` where the interpreter cannot be embedded (embedded.c): finds the package from its
 * own place and becomes Python, isolated (-I: no environment variable, no working directory) and without site (-S:
 * nothing of it is needed).
 *
 * A script would do, but pip writes only scripts that start Python with site, which costs 5 ms and
 * more; and a #! line has no place for a path that is relative to the script. Freestanding, like
 * ocirt-init, because a C library's start-up would cost more than all that happens here.
 */
#include "../init/freestanding.h"

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
    if (same(verb, "create") || same(verb, "run"))
        helper = begin_grace_period();
    char *env[count(envp) + 3];
    settle(env, envp);
    become_python(package, helper, argc, argv, env);
}
