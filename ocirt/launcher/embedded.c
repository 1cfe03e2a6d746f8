/* The installed executable `ocirt` with Python in it, and with Python's memory as it is once all modules of the hot
 * verbs are imported: an interpreter needs 7 ms to come so far, a picture of its memory is mapped in a few µs.
 *
 * The build runs this program once, as it is linked (argv: FILE PICTURE): it starts Python, executes FILE, which loads
 * the modules, and writes its own data to PICTURE. packaging/picture.py puts that in place of the program's data; the
 * result is what is installed. It begins in main() too, finds `ready` set, and calls what FILE has left.
 *
 * What makes that sound:
 * - The program is linked to a fixed address (-no-pie), so all that points to it or to its data still does. Functions of
 *   shared libraries are known to its data by their entries in the program's own table (PLT), which ld.so fills anew.
 * - Python's memory is in `heap`, which is data as well: malloc() and its like are replaced for Python (--wrap) as long
 *   as the picture is not taken; a libc that has its own heap then starts with it as always.
 * - What belongs to the C library, such as `environ`, is copied into the program's data by ld.so at each start, after
 *   the picture's is there.
 * - What the kernel and the thread library know of a process is renewed as after a fork(): the thread's identity, and the key
 *   under which it keeps Python's thread state.
 * - No file is open, no library is loaded and no thread runs when the picture is taken; the build looks at that.
 *
 * The seed of Python's string hashes is in the picture: it is another for each build, not for each call. Verbs that are
 * not hot, and --debug, become the Python that is installed, as launcher.c does.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE /* for _PyRuntime, which has the identity of the main thread */
#include <Python.h>
#include <marshal.h>

#include <internal/pycore_runtime.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint64_t u64;

enum {
    NR_close = SYS_close,
    NR_close_range = SYS_close_range,
    NR_clone3 = SYS_clone3,
    NR_execve = SYS_execve,
    NR_exit_group = SYS_exit_group,
    NR_faccessat = SYS_faccessat,
    NR_getxattr = SYS_getxattr,
    NR_nanosleep = SYS_nanosleep,
    NR_openat = SYS_openat,
    NR_read = SYS_read,
    NR_readlinkat = SYS_readlinkat,
    NR_rt_sigprocmask = SYS_rt_sigprocmask,
    NR_write = SYS_write,
};

static long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(nr, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}

#include "heap.h"
#include "starting.h"

PyMODINIT_FUNC PyInit__sys(void);

static PyObject *begin; /* what FILE has left to be called */

/* The build: take the picture. */

extern char __data_start[], _end[];

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "ocirt: no picture: %s\n", what);
    if (PyErr_Occurred())
        PyErr_Print();
    exit(1);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        fail(status.err_msg ? status.err_msg : "Python does not start");
}

/* Python as `python3 -I -S` has it. */
static void start_python(char **argv)
{
    PyMemAllocatorEx allocator = { NULL, malloc_block, calloc_block, realloc_block, free_block };
    PyPreConfig before;
    PyConfig config;

    PyObjectArenaAllocator arenas = { NULL, take_arena, give_arena };

    PyObject_SetArenaAllocator(&arenas);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &allocator);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &allocator);
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    check(Py_PreInitialize(&before));
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.install_signal_handlers = 1;
    config.write_bytecode = 0;
    check(PyConfig_SetBytesString(&config, &config.program_name, PYTHON));
    check(PyConfig_SetBytesString(&config, &config.executable, PYTHON));
    check(PyConfig_SetBytesString(&config, &config.home, HOME));
    check(PyConfig_SetBytesArgv(&config, 2, argv));
    if (PyImport_AppendInittab("ocirt._sys", PyInit__sys) < 0)
        fail("no memory");
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/* Execute the code that FILE holds, with the names that it holds; it defines begin(). */
static void load(const char *path)
{
    FILE *file = fopen(path, "rb");
    PyObject *content = file ? PyMarshal_ReadObjectFromFile(file) : NULL, *code, *names;

    if (!file || fclose(file) || !content || !PyArg_ParseTuple(content, "OO!", &code, &PyDict_Type, &names) ||
        PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()))
        fail(path);
    PyObject *result = PyEval_EvalCode(code, names, names);
    if (!result || !(begin = PyDict_GetItemString(names, "begin")))
        fail("the modules cannot be loaded");
    Py_DECREF(result);
}

/* Whether the C library put this word there, which it does again at each start (R_X86_64_COPY). */
static int is_the_librarys(const u64 *word)
{
    const void *own[] = { &stdin, &stdout, &stderr, &environ };
    for (unsigned i = 0; i < sizeof own / sizeof *own; i++)
        if (word == own[i])
            return 1;
    return 0;
}

/* Refuse a picture with a word in it that may point to memory that is not in it. */
static void check_words(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[PATH_SIZE];
    unsigned long start, end;

    if (!file)
        fail("/proc/self/maps");
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx", &start, &end) != 2)
            fail(line);
        if (start < (uintptr_t)_end)
            continue; /* the program's own */
        for (const u64 *word = (const u64 *)__data_start; word + 1 <= (const u64 *)_end; word++)
            if (*word >= start && *word < end && !is_the_librarys(word)) {
                fprintf(stderr, "%p has %#lx: %s", (const void *)word, (unsigned long)*word, line);
                fail("something points to what is not in it");
            }
    }
    fclose(file);
}

static int take_picture(char **argv)
{
    u64 start = (u64)(uintptr_t)__data_start;
    FILE *file;

    mallopt(M_MMAP_THRESHOLD, 0); /* the C library's own blocks shall be where no number and no text looks like them */
    start_python(argv);
    load(argv[1]);
    PyThread_tss_delete(&_PyRuntime.gilstate.autoTSSkey);
    _PyRuntime.main_thread = PyThreadState_Get()->thread_id = 0;
    memset(spare, 0, sizeof spare); /* a call shall not write here and there */
    behind = heap + used;
    ready = 1;
    check_words();
    file = fopen(argv[2], "wb");
    if (!file)
        fail(argv[2]);
    setvbuf(file, NULL, _IONBF, 0);
    if (fwrite(&start, sizeof start, 1, file) != 1 ||
        fwrite(__data_start, (size_t)(_end - __data_start), 1, file) != 1 || fclose(file))
        fail(argv[2]);
    _exit(0);
}

/* Each call. */

/* The thread that runs is another than the one that started Python. */
static void renew(void)
{
    PyThreadState *state = PyThreadState_Get();

    if (PyThread_tss_create(&_PyRuntime.gilstate.autoTSSkey) ||
        PyThread_tss_set(&_PyRuntime.gilstate.autoTSSkey, state))
        die("no memory", "");
    _PyRuntime.main_thread = state->thread_id = PyThread_get_thread_ident();
    state->native_thread_id = PyThread_get_thread_native_id();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static PyObject *decoded(char *const *words, long number, PyObject *(*decode)(const char *))
{
    PyObject *list = PyList_New(number);

    for (long i = 0; list && i < number; i++) {
        PyObject *word = decode(words[i]);
        if (!word)
            return NULL;
        PyList_SET_ITEM(list, i, word);
    }
    return list;
}

int main(int argc, char **argv, char **envp)
{
    char package[PATH_SIZE], number[24];
    long helper = 0;

    if (!ready)
        return argc == 3 ? take_picture(argv) : 2;
    block_interrupt();
    fill_stdio();
    refuse_lent_rights(envp);
    const char *verb = find_all(package, argc, argv, envp);
    if (same(verb, "create") || same(verb, "run"))
        helper = begin_grace_period();
    char *env[count(envp) + 3];
    settle(env, envp);
    if (same(verb, "main"))
        become_python(package, helper, argc, argv, env);
    environ = env;
    renew();
    char *words[argc + 3];
    words[0] = "-c";
    words[1] = package;
    words[2] = decimal(number + sizeof number - 1, helper);
    for (int i = 0; i < argc; i++)
        words[3 + i] = argv[i];
    PyObject *args = decoded(words, argc + 3, PyUnicode_DecodeFSDefault);
    PyObject *environment = decoded(env, count(env), PyBytes_FromString);
    if (!args || !environment)
        die("no memory", "");
    PyObject_CallFunctionObjArgs(begin, args, environment, NULL);
    PyErr_Print();
    return 1;
}
