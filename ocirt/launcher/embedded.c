/* The installed executable `ocirt` with Python in it, and with Python's memory as it is once all modules of the hot
 * verbs are imported: an interpreter needs 7 ms to come so far, a picture of its memory is mapped in a few µs.
 *
 * The build runs this program as it is linked: it starts Python, and executes FILE, which loads the modules. With argv
 * FILE "" PROFILE, it learns what calls do (profile.h); with FILE PICTURE [PROFILE], it writes its own data to PICTURE. packaging/picture.py puts that in place of the program's data; the
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
 * The seed of Python's string hashes is in the picture: it is the build's, not the call's. Verbs that are not hot, and
 * --debug, become the Python that is installed, as launcher.c does; or, in the one file that `make dist` builds, their
 * modules are in the archive that is linked in (packaging/carry.py), which only they touch.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE /* for _PyRuntime, which has the identity of the main thread */
#include <Python.h>
#include <marshal.h>

#include <internal/pycore_runtime.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint64_t u64;

enum {
    NR_close = SYS_close,
    NR_close_range = SYS_close_range,
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

/* Not libc's syscall(): the child below has no errno of its own. */
static long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* In this memory, with a stack of its own: copying the tables of it all would take as long as starting Python. */
static long begin_child(int (*body)(void *), void *argument)
{
    static char stack[2 * PATH_MAX] __attribute__((aligned(16)));

    return clone(body, stack + sizeof stack, CLONE_VM, argument);
}

#include "heap.h"
#include "starting.h"

#define SLASHES "////////////////////////////////" /* more than there are libraries */
enum { MFD_NOEXEC_SEAL_ = 8 };

PyMODINIT_FUNC PyInit__json(void);
PyMODINIT_FUNC PyInit__sys(void);

#ifndef HASH_SEED
#define HASH_SEED 1 /* embed.py has another for each build */
#endif

/* libm is linked in, which saves a library to load. What it has of libc's own: which processor there is (any), and two
 * functions by their inner names. */
char _dl_x86_cpu_features[PATH_MAX];
double __frexp(double value, int *exponent);
double __ldexp(double value, int exponent);

double __frexp(double value, int *exponent)
{
    return frexp(value, exponent);
}

double __ldexp(double value, int exponent)
{
    return ldexp(value, exponent);
}

static PyObject *begin, *rehearse; /* what FILE has left to be called */

/* What embed.py links in: empty, but for the one file. */
extern const char carried[];
extern const u64 carried_size;

/* The functions of the module `_carried`. */

static PyObject *carried_memory(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyMemoryView_FromMemory((char *)(uintptr_t)carried, (Py_ssize_t)carried_size, PyBUF_READ);
}

/* A file in memory with these bytes: (descriptor, path). ld.so takes what has the same path for the same library, and
 * descriptors are used again; so each path has a slash more. */
static PyObject *carried_file(PyObject *module, PyObject *content)
{
    static int files;
    char path[PATH_SIZE], *bytes;
    Py_ssize_t size;

    (void)module;
    if (PyBytes_AsStringAndSize(content, &bytes, &size))
        return NULL;
    int fd = memfd_create("ocirt", MFD_CLOEXEC | MFD_NOEXEC_SEAL_);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("ocirt", MFD_CLOEXEC);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    for (Py_ssize_t done = 0; done < size;) {
        Py_ssize_t more = write(fd, bytes + done, (size_t)(size - done));
        if (more < 0) {
            close(fd);
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        done += more;
    }
    snprintf(path, sizeof path, "/proc/self%.*sfd/%d", ++files, SLASHES, fd);
    return Py_BuildValue("is", fd, path);
}

/* Load a library for others that need it: ld.so knows it by its name (DT_SONAME) from then on. */
static PyObject *carried_load(PyObject *module, PyObject *path)
{
    const char *name = PyUnicode_AsUTF8(path);

    (void)module;
    if (!name)
        return NULL;
    if (!dlopen(name, RTLD_NOW | RTLD_LOCAL))
        return PyErr_Format(PyExc_ImportError, "%s", dlerror());
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "memory", carried_memory, METH_NOARGS, NULL },
    { "file", carried_file, METH_O, NULL },
    { "load", carried_load, METH_O, NULL },
    { NULL, NULL, 0, NULL },
};
static PyModuleDef definition = { PyModuleDef_HEAD_INIT, .m_name = "_carried", .m_size = 0, .m_methods = functions };

static PyObject *init_carried(void)
{
    return PyModuleDef_Init(&definition);
}

/* The modules that are built in, for _PyImport_Inittab: fewer than Debian has in its library, which brings a megabyte of
 * tables for `unicodedata` alone. What is missing is imported by nothing that ocirt imports (tests/test_dist.py). */
#define WITH(X) \
    X(_abc) X(_ast) X(_bisect) X(_blake2) X(_codecs) X(_collections) X(_datetime) X(_functools) X(_heapq) \
    X(_imp) X(_io) X(_locale) X(_opcode) X(_operator) X(_pickle) X(_posixsubprocess) X(_random) \
    X(_sha512) X(_signal) X(_socket) X(_sre) X(_stat) X(_string) X(_struct) X(_thread) \
    X(_tokenize) X(_tracemalloc) X(_weakref) X(array) X(atexit) X(binascii) X(errno) X(faulthandler) \
    X(fcntl) X(gc) X(grp) X(itertools) X(math) X(posix) X(pwd) X(select) \
    X(time) X(zlib)
#define DECLARE(name) PyMODINIT_FUNC PyInit_##name(void);
#define LIST(name) { #name, PyInit_##name },
WITH(DECLARE)
PyMODINIT_FUNC PyMarshal_Init(void);
PyMODINIT_FUNC _PyWarnings_Init(void);

struct _inittab _PyImport_Inittab[] = {
    WITH(LIST)
    { "marshal", PyMarshal_Init },
    { "_warnings", _PyWarnings_Init },
    { "builtins", NULL },
    { "sys", NULL },
    { "_json", PyInit__json },
    { "ocirt._sys", PyInit__sys },
    { "_carried", init_carried },
    { NULL, NULL },
};

/* The build: take the picture. */

extern char __data_start[], _end[];

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "ocirt: no picture: %s\n", what);
    if (Py_IsInitialized() && PyErr_Occurred())
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
    config.use_hash_seed = 1; /* the profile counts on the same happening again */
    config.hash_seed = HASH_SEED;
    config.write_bytecode = 0;
    check(PyConfig_SetBytesString(&config, &config.program_name, PYTHON));
    check(PyConfig_SetBytesString(&config, &config.executable, PYTHON));
    check(PyConfig_SetBytesString(&config, &config.home, HOME));
    check(PyConfig_SetBytesArgv(&config, 2, argv));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/* Execute the code that FILE holds, with the names that it holds and the rest of FILE as `content`; it defines
 * begin(). FILE is mapped, not read: what is read once would be in the picture. */
static void load(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status))
        fail(path);
    char *content = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (content == MAP_FAILED || close(fd))
        fail(path);
    u64 size;
    memcpy(&size, content, sizeof size);
    PyObject *head = PyMarshal_ReadObjectFromString(content + sizeof size, (Py_ssize_t)size), *code, *names;
    char *rest = content + sizeof size + size;
    PyObject *view = PyMemoryView_FromMemory(rest, (Py_ssize_t)(content + status.st_size - rest), PyBUF_READ);

    if (!head || !view || !PyArg_ParseTuple(head, "OO!", &code, &PyDict_Type, &names) ||
        PyDict_SetItemString(names, "content", view) ||
        PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()))
        fail(path);
    Py_DECREF(view);
    PyObject *result = PyEval_EvalCode(code, names, names);
    if (!result || !(begin = PyDict_GetItemString(names, "begin")))
        fail("the modules cannot be loaded");
    Py_DECREF(result);
    rehearse = PyDict_GetItemString(names, "rehearse");
    if (PyDict_DelItemString(names, "content"))
        fail("content");
    munmap(content, (size_t)status.st_size);
}

/* Whether the C library put this word there, which it does again at each start (R_X86_64_COPY). */
static void *const librarys[] = { &stdin, &stdout, &stderr, &environ };

static int is_the_librarys(const u64 *word)
{
    for (unsigned i = 0; i < sizeof librarys / sizeof *librarys; i++)
        if (word == librarys[i])
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

#include "profile.h"

static int take_picture(int argc, char **argv)
{
    u64 start = (u64)(uintptr_t)__data_start;
    FILE *file;

    int learns = !*argv[2];

    if (learns)
        spread();
    else if (argc > 3)
        read_profile(argv[3]);
    mallopt(M_MMAP_THRESHOLD, 0); /* the C library's own blocks shall be where no number and no text looks like them */
    start_python(argv);
    load(argv[1]);
    if (learns) {
        profile(argv[3]);
        _exit(0);
    }
    use_of = NULL;
    known = 0;
    PyThread_tss_delete(&_PyRuntime.gilstate.autoTSSkey);
    _PyRuntime.main_thread = PyThreadState_Get()->thread_id = PyThreadState_Get()->native_thread_id = 0;
    memset(spare, 0, sizeof spare); /* a call shall not write here and there */
    behind = heap + used;
    ready = 1;
    check_words();
    file = fopen(argv[2], "wb");
    if (!file)
        fail(argv[2]);
    setvbuf(file, NULL, _IONBF, 0);
    for (unsigned i = 0; i < sizeof librarys / sizeof *librarys; i++)
        memset(librarys[i], 0, sizeof(u64));
    if (fwrite(&start, sizeof start, 1, file) != 1 ||
        fwrite(__data_start, (size_t)(_end - __data_start), 1, file) != 1 || fclose(file))
        _exit(1);
    _exit(0);
}

/* Each call. */

/* What most calls write to, in one go: half of what a fault for each page costs. Before Linux 5.14 that does nothing. */
static void make_writable(void)
{
    madvise(heap, page_behind(zones[WRITTEN].end), MADV_POPULATE_WRITE);
}

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
        return argc == 4 || (argc == 3 && *argv[2]) ? take_picture(argc, argv) : 2;
    block_interrupt();
    fill_stdio();
    refuse_lent_rights(envp);
    int one_file = carried_size != 0;
    const char *verb = one_file ? verb_of_call(argc, argv, envp) : find_all(package, argc, argv, envp);
    int makes = same(verb, "create") || same(verb, "run");
    if (makes)
        helper = begin_grace_period();
    char *env[count(envp) + 3];
    settle(env, envp);
    if (!one_file && same(verb, "main"))
        become_python(package, helper, argc, argv, env);
    environ = env;
    if (makes)
        make_writable();
    renew();
    char *words[argc + 3];
    words[0] = "-c";
    words[1] = one_file ? (char *)(uintptr_t)verb : package;
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
