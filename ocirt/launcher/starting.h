/* What both executables do before Python: find the package, choose the verb's file, begin the grace period. Included
 * once by each, after the types, memcpy, syscall6, the system calls' numbers, and begin_child(body, argument): a
 * process that ends without SIGCHLD, lest anybody wonder.
 *
 * PYTHON, VERSION, VERBS and SOURCES are set by the build: the interpreter, "python3.11", the hot verbs, and, in an
 * editable installation, the folder that holds the package.
 */
#ifndef OCIRT_STARTING_H
#define OCIRT_STARTING_H

enum {
    PATH_SIZE = 4096,
    MOST_WORDS = 1 << 20,
    MOST_MOVES = 20,
    AT_FDCWD_ = -100,
    O_WRONLY_ = 1,
    O_RDWR_ = 2,
    O_CLOEXEC_ = 02000000,
    AT_NULL_ = 0, /* getauxval(3) */
    AT_UID_ = 11,
    AT_EUID_ = 12,
    AT_GID_ = 13,
    AT_EGID_ = 14,
    AT_SECURE_ = 23,
};

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

static int same(const char *a, const char *b)
{
    return starts(a, b) && length(a) == length(b);
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

/* The verbs that have a file of their own, as packaging/hot.py lists them; what else there is, has "main". */
static const char *const verbs[] = { VERBS };

static const char *verb_of(long argc, char **argv)
{
    const char *verb = 0;

    for (long i = 1; i < argc; i++) {
        if (same(argv[i], "--debug")) /* the modules' own files, which have line numbers */
            return "main";
        for (unsigned j = 0; j < sizeof verbs / sizeof *verbs && !verb; j++)
            if (same(argv[i], verbs[j]))
                verb = verbs[j];
    }
    return verb ? verb : "main";
}

static long count(char **words)
{
    long n = 0;
    while (words[n])
        n++;
    return n;
}

static const char *verb_of_call(long argc, char **argv, char **envp)
{
    if (argc < 1 || argc > MOST_WORDS || count(envp) > MOST_WORDS)
        die("called with no name, or with more arguments than the kernel passes", "");
    return verb_of(argc, argv);
}

static int find(char *found, const char *prefix, const char *verb)
{
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        found[0] = 0;
#ifdef SOURCES
        (void)prefix;
        if (add(found, places[i]) && add(found, "/ocirt/hot/") && add(found, verb) && add(found, ".bin") &&
#else
        if (add(found, prefix) && add(found, places[i]) && add(found, "/ocirt/hot/") && add(found, verb) && add(found, ".bin") &&
#endif
            syscall6(NR_faccessat, AT_FDCWD_, (long)found, 4, 0, 0, 0) == 0)
            return 1;
    }
    return 0;
}

/* Of a line "NUMBER:CONTROLLERS:PATH" of /proc/self/cgroup that is of a v1 hierarchy, make the path of its
 * cgroup.procs, at the usual place; 0 if it is of v2 or does not fit. */
static int procs_of(char *path, char *line)
{
    char *controllers = line, *own;

    while (*controllers && *controllers++ != ':')
        ;
    for (own = controllers; *own && *own != ':'; own++)
        ;
    if (own == controllers || !*own)
        return 0;
    *own++ = 0;
    if (starts(controllers, "name="))
        controllers += 5;
    path[0] = 0;
    return add(path, "/sys/fs/cgroup/") && add(path, controllers) && add(path, own) && add(path, "/cgroup.procs");
}

/* The child's part of what follows. */
static int move(void *path)
{
    /* Hold nothing of the caller's open: it may wait for an end-of-file. */
    syscall6(NR_close_range, 0, 0xffffffff, 0, 0, 0, 0);
    long fd = syscall6(NR_openat, AT_FDCWD_, (long)path, O_WRONLY_ | O_CLOEXEC_, 0, 0, 0);
    for (int i = 0; fd >= 0 && i < MOST_MOVES; i++) {
        const long pause[2] = { 0, 3000000 }; /* struct timespec */
        syscall6(NR_write, fd, (long)"0", 1, 0, 0, 0);
        syscall6(NR_nanosleep, (long)pause, 0, 0, 0, 0, 0);
    }
    syscall6(NR_exit_group, 0, 0, 0, 0, 0, 0);
    return 0;
}

/* On cgroup v1 the first process that is moved waits for an RCU grace period, 8 to 14 ms on a host at rest: far
 * longer than all else that `create` and `run` do. So let that period begin now: while Python starts, a child moves
 * itself to where it is already, which changes nothing; and again every 3 ms, because some 10 ms after the last
 * move the kernel forgets. cli/main.py ends it. Returns its pid, or 0 if there is no v1. */
static long begin_grace_period(void)
{
    static char path[PATH_SIZE];
    char text[PATH_SIZE];

    long fd = syscall6(NR_openat, AT_FDCWD_, (long)"/proc/self/cgroup", O_CLOEXEC_, 0, 0, 0);
    if (fd < 0)
        return 0;
    long size = syscall6(NR_read, fd, (long)text, PATH_SIZE - 1, 0, 0, 0);
    syscall6(NR_close, fd, 0, 0, 0, 0, 0);
    if (size <= 0)
        return 0;
    text[size] = 0;
    for (long i = 0; i < size; i++)
        if (text[i] == '\n')
            text[i] = 0;
    if (!procs_of(path, text)) /* hierarchies are listed with the newest first, and v2 last */
        return 0;
    long pid = begin_child(move, path);
    return pid > 0 ? pid : 0;
}

/* Where the caller left stdin, stdout or stderr closed, put /dev/null: else the next descriptors of ours, such as
 * the socket to init, would become the container's. */
static void fill_stdio(void)
{
    long fd;

    do
        fd = syscall6(NR_openat, AT_FDCWD_, (long)"/dev/null", O_RDWR_, 0, 0, 0);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        syscall6(NR_close, fd, 0, 0, 0, 0, 0);
}

static char *decimal(char *end, long number)
{
    *end = 0;
    do
        *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* Python takes SIGINT while it starts for a KeyboardInterrupt, in words of its own: it waits until main is there. */
static void block_interrupt(void)
{
    const u64 interrupt = 1ULL << (2 - 1);
    syscall6(NR_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&interrupt, 0, sizeof interrupt, 0, 0);
}

/* End here if the file that is executed has given rights to its caller: by a setuid or setgid bit, or by capabilities.
 * The caller names files, which would be opened with those rights. The kernel has put what it takes to see that behind
 * the environment. It calls an LSM's change of domain secure as well, which is sound: so a file is asked whether it has
 * capabilities. */
static void refuse_lent_rights(char **envp)
{
    u64 found[AT_SECURE_ + 1] = { 0 };

    for (const u64 *aux = (const u64 *)(envp + count(envp) + 1); aux[0] != AT_NULL_; aux += 2)
        if (aux[0] <= AT_SECURE_)
            found[aux[0]] = aux[1];
    if (found[AT_UID_] == found[AT_EUID_] && found[AT_GID_] == found[AT_EGID_] &&
        (!found[AT_SECURE_] ||
         syscall6(NR_getxattr, (long)"/proc/self/exe", (long)"security.capability", 0, 0, 0, 0) <= 0))
        return;
    say("ocirt: it is installed setuid, setgid or with capabilities, and would do whatever its caller wants with "
        "rights that are not the caller's (chmod ug-s, setcap -r)\n");
    for (;;)
        syscall6(NR_exit_group, 1, 0, 0, 0, 0, 0);
}

/* The verb, and in `package` (PATH_SIZE bytes) the path of its file. */
static const char *find_all(char *package, long argc, char **argv, char **envp)
{
    char own[PATH_SIZE];

    long size = syscall6(NR_readlinkat, AT_FDCWD_, (long)"/proc/self/exe", (long)own, PATH_SIZE - 1, 0, 0);
    const char *verb = verb_of_call(argc, argv, envp);
    if (size <= 0)
        die("cannot find out where it is installed: no ", "/proc/self/exe");
    own[size] = 0;
    parent(own); /* …/bin */
    parent(own);
    if (!find(package, own, verb))
        die("cannot find its Python package below ", own);
    return verb;
}

/* Under the C locale CPython is in its UTF-8 mode and loads no locale; with TZ set, no time zone is read. But libc tries
 * a file of that name first, in the system's folder, or in TZDIR: that goes. Nothing of this environment reaches a
 * container. `env` has room for two more than `envp`. */
static void settle(char **env, char **envp)
{
    long n = 0;

    env[n++] = "LC_ALL=C";
    env[n++] = "TZ=UTC0";
    for (long i = 0; envp[i]; i++)
        if (!starts(envp[i], "LC_ALL=") && !starts(envp[i], "TZ=") && !starts(envp[i], "TZDIR="))
            env[n++] = envp[i];
    env[n] = 0;
}

#if MANAGER
#define OPTIONS "-ISXutf8"
#define MAIN                                                \
    "import sys\n"                                          \
    "sys.path.append(sys.argv[1].rsplit('/',3)[0])\n"       \
    "from ocirt.manager.cli.main import main\n"             \
    "main(sys.argv[4:])"
#else
#define OPTIONS "-IS"
#define MAIN                                                \
    "import marshal,posix,sys\n"                            \
    "f=posix.open(sys.argv[1],posix.O_CLOEXEC)\n"           \
    "main,modules,json=marshal.loads(posix.read(f,1<<24))\n" \
    "posix.close(f)\n"                                      \
    "exec(main)"
#endif

/* Become python3.11 -IS -c MAIN FILE HELPER ARGV0 ARGUMENT… (a file instead of -c would first be tried as a zip
 * archive). */
_Noreturn static void become_python(char *package, long helper, long argc, char **argv, char **env)
{
    char number[24], *args[argc + 7];

    args[0] = PYTHON;
    args[1] = OPTIONS;
    args[2] = "-c";
    args[3] = MAIN;
    args[4] = package;
    args[5] = decimal(number + sizeof number - 1, helper);
    for (long i = 0; i < argc; i++)
        args[6 + i] = argv[i];
    args[6 + argc] = 0;
    syscall6(NR_execve, (long)PYTHON, (long)args, (long)env, 0, 0, 0);
    die("cannot start ", PYTHON);
}

#endif
