/* The installed executable `ocirt`: finds the package from its own place and becomes Python, isolated
 * (-I: no environment variable, no working directory) and without site (-S: nothing of it is needed).
 *
 * A script would do, but pip writes only scripts that start Python with site, which costs 5 ms and
 * more; and a #! line has no place for a path that is relative to the script. Freestanding, like
 * ocirt-init, because a C library's start-up would cost more than all that happens here.
 *
 * PYTHON, VERSION and SOURCES are set by the build: the interpreter, "python3.11", and, in an
 * editable installation, the folder that holds the package.
 */
#include "../init/wire.h"

#if defined __x86_64__
#include "../init/arch/x86_64.h"
#elif defined __aarch64__
#include "../init/arch/aarch64.h"
#elif defined __riscv && __riscv_xlen == 64
#include "../init/arch/riscv64.h"
#else
#error "no file in init/arch/ for this architecture yet"
#endif

enum { PATH_SIZE = 4096, MOST_WORDS = 1 << 20, AT_FDCWD_ = -100 };

/* Where pip puts a package, seen from the prefix that holds bin/: in a virtual environment or under
 * --prefix and --user; in Debian's /usr/local; under --target. */
static const char *const places[] = {
#ifdef SOURCES
    SOURCES,
#else
    "/lib/" VERSION "/site-packages",
    "/lib/" VERSION "/dist-packages",
    "",
#endif
};

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

static long length(const char *text)
{
    long n = 0;
    while (text[n])
        n++;
    return n;
}

static int starts(const char *text, const char *with)
{
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

/* Append to a path of PATH_SIZE bytes; 0 if it does not fit. */
static int add(char *path, const char *more)
{
    long have = length(path), n = length(more);

    if (have + n >= PATH_SIZE)
        return 0;
    memcpy(path + have, more, (unsigned long)n + 1);
    return 1;
}

static void say(const char *text)
{
    syscall6(NR_write, 2, (long)text, length(text), 0, 0, 0);
}

_Noreturn static void die(const char *what, const char *path)
{
    say("ocirt: ");
    say(what);
    say(path);
    say(" (pip install ocirt anew)\n");
    for (;;)
        syscall6(NR_exit_group, 1, 0, 0, 0, 0, 0);
}

/* Cut the last component off a path. */
static void parent(char *path)
{
    long end = length(path);

    while (end > 0 && path[end - 1] != '/')
        end--;
    path[end > 0 ? end - 1 : 0] = 0;
}

static int find(char *found, const char *prefix)
{
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        found[0] = 0;
#ifdef SOURCES
        (void)prefix;
        if (add(found, places[i]) && add(found, "/ocirt/hot.bin") &&
#else
        if (add(found, prefix) && add(found, places[i]) && add(found, "/ocirt/hot.bin") &&
#endif
            syscall6(NR_faccessat, AT_FDCWD_, (long)found, 4, 0, 0, 0) == 0)
            return 1;
    }
    return 0;
}

_Noreturn void run(long *stack)
{
    char own[PATH_SIZE], package[PATH_SIZE];
    long argc = stack[0], envc = 0;
    char **argv = (char **)(stack + 1), **envp = argv + argc + 1;

    while (envp[envc])
        envc++;
    long size = syscall6(NR_readlinkat, AT_FDCWD_, (long)"/proc/self/exe", (long)own, PATH_SIZE - 1, 0, 0);
    if (size <= 0 || argc < 1 || argc > MOST_WORDS || envc > MOST_WORDS)
        die("cannot find out where it is installed: no ", "/proc/self/exe");
    own[size] = 0;
    parent(own); /* …/bin */
    parent(own);
    if (!find(package, own))
        die("cannot find its Python package below ", own);

    /* python3.11 -IS -c MAIN hot.bin ARGV0 ARGUMENT… (a file instead of -c would be tried as a zip archive first) */
    char *args[argc + 6];
    args[0] = PYTHON;
    args[1] = "-IS";
    args[2] = "-c";
    args[3] = "import marshal,posix,sys\n"
              "exec(marshal.loads(posix.read(posix.open(sys.argv[1],posix.O_CLOEXEC),1<<24)))";
    args[4] = package;
    for (long i = 0; i < argc; i++)
        args[5 + i] = argv[i];
    args[5 + argc] = 0;

    /* Under the C locale CPython is in its UTF-8 mode and loads no locale; with TZ set, no time zone
     * is read. Nothing of this environment reaches a container. */
    char *env[envc + 3];
    long n = 0;
    env[n++] = "LC_ALL=C";
    env[n++] = "TZ=UTC0";
    for (long i = 0; i < envc; i++)
        if (!starts(envp[i], "LC_ALL=") && !starts(envp[i], "TZ="))
            env[n++] = envp[i];
    env[n] = 0;

    syscall6(NR_execve, (long)PYTHON, (long)args, (long)env, 0, 0, 0);
    die("cannot start ", PYTHON);
}
