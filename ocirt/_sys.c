/* ocirt._sys: system calls that Python 3.11 has no function for. Each function has the call's name,
 * and an OSError carries it as its filename, so that messages can say which call failed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/openat2.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static PyObject *failed(const char *call)
{
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, call);
}

/* What may wait for a lock in the kernel, or for work that it does, lets other threads of the program go on. The
 * return to Python leaves errno as it is. */

static long bpf(int command, union bpf_attr *attributes)
{
    long result;

    Py_BEGIN_ALLOW_THREADS
    result = syscall(SYS_bpf, command, attributes, sizeof *attributes);
    Py_END_ALLOW_THREADS
    return result;
}

PyDoc_STRVAR(bpf_prog_load_doc,
             "bpf_prog_load(prog_type, attach_type, instructions, license, name) -> descriptor\n\n"
             "BPF_PROG_LOAD (bpf(2)). instructions: bytes, 8 each; name: at most 15 bytes. Raises OSError with the\n"
             "call's name.");

static PyObject *bpf_prog_load(PyObject *self, PyObject *args)
{
    (void)self;
    union bpf_attr attributes;
    unsigned prog_type, attach_type;
    const char *instructions, *license, *name;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, "IIy#ss", &prog_type, &attach_type, &instructions, &size, &license, &name))
        return NULL;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = prog_type;
    attributes.expected_attach_type = attach_type;
    attributes.insns = (uintptr_t)instructions;
    attributes.insn_cnt = (uint32_t)(size / 8);
    attributes.license = (uintptr_t)license;
    strncpy(attributes.prog_name, name, sizeof attributes.prog_name - 1);
    long fd = bpf(BPF_PROG_LOAD, &attributes);
    return fd < 0 ? failed("bpf(BPF_PROG_LOAD)") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(bpf_prog_attach_doc,
             "bpf_prog_attach(target, program, attach_type, flags, replaced)\n\n"
             "BPF_PROG_ATTACH (bpf(2)): attach a program to the cgroup that `target` is open on. replaced: with\n"
             "BPF_F_REPLACE, the program that goes in the same moment; else 0.");

static PyObject *bpf_prog_attach(PyObject *self, PyObject *args)
{
    (void)self;
    union bpf_attr attributes;
    int target, program, replaced;
    unsigned attach_type, flags;

    if (!PyArg_ParseTuple(args, "iiIIi", &target, &program, &attach_type, &flags, &replaced))
        return NULL;
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)target;
    attributes.attach_bpf_fd = (uint32_t)program;
    attributes.attach_type = attach_type;
    attributes.attach_flags = flags;
    attributes.replace_bpf_fd = (uint32_t)replaced;
    if (bpf(BPF_PROG_ATTACH, &attributes) < 0)
        return failed("bpf(BPF_PROG_ATTACH)");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(bpf_prog_find_doc,
             "bpf_prog_find(target, attach_type, name) -> descriptor or -1\n\n"
             "Of the programs that are attached to the cgroup that `target` is open on, itself and not above it, the\n"
             "one with this name: BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD (bpf(2)).");

enum { MOST_PROGRAMS = 64 }; /* of one type on one cgroup: BPF_CGROUP_MAX_PROGS */

static PyObject *bpf_prog_find(PyObject *self, PyObject *args)
{
    (void)self;
    union bpf_attr attributes;
    uint32_t ids[MOST_PROGRAMS];
    int target;
    unsigned attach_type;
    const char *name;

    if (!PyArg_ParseTuple(args, "iIs", &target, &attach_type, &name))
        return NULL;
    memset(&attributes, 0, sizeof attributes);
    attributes.query.target_fd = (uint32_t)target;
    attributes.query.attach_type = attach_type;
    attributes.query.prog_ids = (uintptr_t)ids;
    attributes.query.prog_cnt = MOST_PROGRAMS;
    if (bpf(BPF_PROG_QUERY, &attributes) < 0)
        return failed("bpf(BPF_PROG_QUERY)");
    uint32_t count = attributes.query.prog_cnt;
    for (uint32_t index = 0; index < count; index++) {
        memset(&attributes, 0, sizeof attributes);
        attributes.prog_id = ids[index];
        long fd = bpf(BPF_PROG_GET_FD_BY_ID, &attributes);
        if (fd < 0) {
            if (errno == ENOENT) /* detached meanwhile */
                continue;
            return failed("bpf(BPF_PROG_GET_FD_BY_ID)");
        }
        struct bpf_prog_info info;
        memset(&info, 0, sizeof info);
        memset(&attributes, 0, sizeof attributes);
        attributes.info.bpf_fd = (uint32_t)fd;
        attributes.info.info_len = sizeof info;
        attributes.info.info = (uintptr_t)&info;
        if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) < 0) {
            failed("bpf(BPF_OBJ_GET_INFO_BY_FD)");
            close((int)fd);
            return NULL;
        }
        if (strncmp(info.name, name, sizeof info.name) == 0)
            return PyLong_FromLong(fd);
        close((int)fd);
    }
    return PyLong_FromLong(-1);
}

PyDoc_STRVAR(clone_paused_doc,
             "clone_paused(flags) -> pid\n\n"
             "A child in new namespaces (clone(2)) that only waits to be killed; it ends with its parent, and runs no\n"
             "Python. Raises OSError.");

static PyObject *clone_paused(PyObject *self, PyObject *args)
{
    (void)self;
    unsigned long flags;

    if (!PyArg_ParseTuple(args, "k", &flags))
        return NULL;
    /* s390 and CRIS have flags and stack the other way round; ocirt-init is built for neither. */
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;)
            pause();
    }
    return pid < 0 ? failed("clone") : PyLong_FromLong(pid);
}

PyDoc_STRVAR(pidfd_getfd_doc,
             "pidfd_getfd(pidfd, number) -> descriptor\n\n"
             "A copy of another process's descriptor, close-on-exec (pidfd_getfd(2)).");

static PyObject *pidfd_getfd(PyObject *self, PyObject *args)
{
    (void)self;
    int pidfd, number;

    if (!PyArg_ParseTuple(args, "ii", &pidfd, &number))
        return NULL;
    long fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
    return fd < 0 ? failed("pidfd_getfd") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(unshare_doc,
             "unshare(flags)\n\n"
             "unshare(2). Python has it since 3.12.");

static PyObject *sys_unshare(PyObject *self, PyObject *args)
{
    (void)self;
    int flags, done;

    if (!PyArg_ParseTuple(args, "i", &flags))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    done = (int)syscall(SYS_unshare, flags);
    Py_END_ALLOW_THREADS
    if (done < 0)
        return failed("unshare");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(prlimit_doc,
             "prlimit(pid, resource, limits=None) -> (soft, hard)\n\n"
             "prlimit(2): the limits as they were; limits: the new ones. 2**64 - 1 is RLIM_INFINITY.");

static PyObject *sys_prlimit(PyObject *self, PyObject *args)
{
    (void)self;
    int pid, resource, given;
    unsigned long long soft = 0, hard = 0;
    uint64_t wanted[2], found[2];

    given = PyTuple_GET_SIZE(args) > 2;
    if (!PyArg_ParseTuple(args, "ii|(KK)", &pid, &resource, &soft, &hard))
        return NULL;
    wanted[0] = soft;
    wanted[1] = hard;
    if (syscall(SYS_prlimit64, pid, resource, given ? wanted : NULL, found) < 0)
        return failed("prlimit");
    return Py_BuildValue("(KK)", (unsigned long long)found[0], (unsigned long long)found[1]);
}

PyDoc_STRVAR(setns_doc,
             "setns(descriptor, flags)\n\n"
             "setns(2). Python has it since 3.12.");

static PyObject *sys_setns(PyObject *self, PyObject *args)
{
    (void)self;
    int fd, flags, done;

    if (!PyArg_ParseTuple(args, "ii", &fd, &flags))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    done = (int)syscall(SYS_setns, fd, flags);
    Py_END_ALLOW_THREADS
    if (done < 0)
        return failed("setns");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mount_doc,
             "mount(source, target, flags, type=None, data=None)\n\n"
             "mount(2). Without type and data: to bind, or to change propagation.");

static PyObject *sys_mount(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *source = NULL, *target = NULL;
    const char *type = NULL, *data = NULL;
    unsigned long flags;
    int done;

    if (!PyArg_ParseTuple(args, "O&O&k|zz", PyUnicode_FSConverter, &source, PyUnicode_FSConverter, &target, &flags,
                          &type, &data)) {
        Py_XDECREF(source);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    done = mount(PyBytes_AS_STRING(source), PyBytes_AS_STRING(target), type, flags, data);
    Py_END_ALLOW_THREADS
    Py_DECREF(source);
    Py_DECREF(target);
    if (done < 0)
        return failed("mount");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(syncfs_doc,
             "syncfs(descriptor)\n\n"
             "syncfs(2): all of the file system that the descriptor is on comes to disk.");

static PyObject *sys_syncfs(PyObject *self, PyObject *args)
{
    (void)self;
    int descriptor, done;

    if (!PyArg_ParseTuple(args, "i", &descriptor))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    done = syncfs(descriptor);
    Py_END_ALLOW_THREADS
    if (done < 0)
        return failed("syncfs");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(make_file_doc,
             "make_file(folder, name, content, mode, chmod, uid, gid, mtime)\n\n"
             "A new regular file in a folder: open(2) with O_EXCL and O_NOFOLLOW, write(2), fchown(2) unless uid is -1,\n"
             "fchmod(2) if it is asked for, futimens(3), in that order. mtime: nanoseconds since 1970. Other threads go\n"
             "on meanwhile.");

static int fill_file(int fd, const char *content, size_t left)
{
    while (left > 0) {
        ssize_t written = write(fd, content, left);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            content += written;
            left -= (size_t)written;
        }
    }
    return 0;
}

static PyObject *sys_make_file(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *name = NULL;
    const char *content, *call = NULL;
    Py_ssize_t size;
    unsigned mode;
    int folder, chmod_too, saved = 0;
    long long uid, gid, mtime;

    if (!PyArg_ParseTuple(args, "iO&y#IpLLL", &folder, PyUnicode_FSConverter, &name, &content, &size, &mode, &chmod_too,
                          &uid, &gid, &mtime))
        return NULL;
    long long seconds = mtime / 1000000000, rest = mtime % 1000000000;
    if (rest < 0) {
        seconds--;
        rest += 1000000000;
    }
    struct timespec times[2] = { { .tv_sec = seconds, .tv_nsec = rest }, { .tv_sec = seconds, .tv_nsec = rest } };
    Py_BEGIN_ALLOW_THREADS
    int fd = openat(folder, PyBytes_AS_STRING(name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
    if (fd < 0)
        call = "open";
    else if (fill_file(fd, content, (size_t)size) < 0)
        call = "write";
    else if (uid >= 0 && fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
        call = "fchown";
    else if (chmod_too && fchmod(fd, mode) < 0)
        call = "fchmod";
    else if (futimens(fd, times) < 0)
        call = "futimens";
    saved = errno;
    if (fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS
    Py_DECREF(name);
    errno = saved;
    if (call)
        return failed(call);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(umount2_doc, "umount2(target, flags)");

static PyObject *sys_umount2(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *target = NULL;
    int flags, done;

    if (!PyArg_ParseTuple(args, "O&i", PyUnicode_FSConverter, &target, &flags))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    done = umount2(PyBytes_AS_STRING(target), flags);
    Py_END_ALLOW_THREADS
    Py_DECREF(target);
    if (done < 0)
        return failed("umount2");
    Py_RETURN_NONE;
}

PyDoc_STRVAR(prctl_doc,
             "prctl(option, value) -> result\n\n"
             "prctl(2) of an option that takes one number.");

static PyObject *sys_prctl(PyObject *self, PyObject *args)
{
    (void)self;
    int option;
    unsigned long value;

    if (!PyArg_ParseTuple(args, "ik", &option, &value))
        return NULL;
    int result = prctl(option, value, 0UL, 0UL, 0UL);
    return result < 0 ? failed("prctl") : PyLong_FromLong(result);
}

PyDoc_STRVAR(openat2_doc,
             "openat2(folder, path, flags, resolve) -> descriptor\n\n"
             "openat2(2), close-on-exec, of something that exists.");

static PyObject *sys_openat2(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *path = NULL;
    int folder;
    unsigned long long flags, resolve;
    long fd;
    int tries = 10000;

    if (!PyArg_ParseTuple(args, "iO&KK", &folder, PyUnicode_FSConverter, &path, &flags, &resolve))
        return NULL;
    struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };
    Py_BEGIN_ALLOW_THREADS
    do /* of a path with "..", while anything on the host is renamed or mounted (openat2(2), EAGAIN) */
        fd = syscall(SYS_openat2, folder, PyBytes_AS_STRING(path), &how, sizeof how);
    while (fd < 0 && errno == EAGAIN && --tries);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    return fd < 0 ? failed("openat2") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(spawn_doc,
             "spawn(path, args, moves) -> pid\n\n"
             "posix_spawn(3) with an empty environment, no signal blocked and all of them as by default. moves: pairs\n"
             "of descriptors, ours and the child's. Other threads go on meanwhile, unlike with posix.posix_spawn: a\n"
             "child that executes a program can take long to come to it.");

enum { MOST_ARGS = 8 };

static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, PyObject *moves)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all); /* but the two that glibc has for itself, */
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP); /* and these, that nobody can set */
    int error = posix_spawnattr_setsigmask(attributes, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    if (!error)
        error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    for (Py_ssize_t i = 0; !error && i < PyList_GET_SIZE(moves); i++) {
        int ours, theirs;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(moves, i), "ii", &ours, &theirs))
            return -1;
        error = posix_spawn_file_actions_adddup2(actions, ours, theirs);
    }
    return error;
}

static PyObject *sys_spawn(PyObject *self, PyObject *args)
{
    (void)self;
    const char *path, *words[MOST_ARGS + 1] = { NULL };
    char *none[] = { NULL };
    PyObject *list, *moves;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = 0;

    if (!PyArg_ParseTuple(args, "sO!O!", &path, &PyList_Type, &list, &PyList_Type, &moves))
        return NULL;
    if (PyList_GET_SIZE(list) > MOST_ARGS)
        return PyErr_Format(PyExc_ValueError, "more than %d arguments", MOST_ARGS);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!(words[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i))))
            return NULL;
    if ((errno = posix_spawn_file_actions_init(&actions)) || (errno = posix_spawnattr_init(&attributes)))
        return failed("posix_spawn");
    int error = prepare(&actions, &attributes, moves);
    if (!error) {
        Py_BEGIN_ALLOW_THREADS
        error = posix_spawn(&pid, path, &actions, &attributes, (char **)words, none);
        Py_END_ALLOW_THREADS
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (PyErr_Occurred())
        return NULL;
    errno = error;
    return error ? failed("posix_spawn") : PyLong_FromLong(pid);
}

PyDoc_STRVAR(several_doc,
             "several(calls, stop) -> list of errnos, 0 for success\n\n"
             "As cgroups.layout.several. Other threads go on meanwhile, and this one waits for its turn only once.");

struct one {
    const char *name, *content;
    PyObject *path; /* bytes */
    Py_ssize_t size;
};

static int write_once(const struct one *call, const char **opened, int *fd)
{
    const char *path = PyBytes_AS_STRING(call->path);
    ssize_t written;

    if (*fd < 0 || strcmp(path, *opened) != 0) {
        if (*fd >= 0)
            close(*fd);
        *opened = path;
        *fd = open(path, O_WRONLY | O_CLOEXEC);
        if (*fd < 0)
            return -1;
    }
    do
        written = write(*fd, call->content, (size_t)call->size);
    while (written < 0 && errno == EINTR);
    return written < 0 ? -1 : 0;
}

static int do_one(const struct one *call, const char **opened, int *fd)
{
    const char *path = PyBytes_AS_STRING(call->path);
    struct stat status;

    if (strcmp(call->name, "mkdir") == 0)
        return mkdir(path, 0755);
    if (strcmp(call->name, "rmdir") == 0)
        return rmdir(path);
    if (strcmp(call->name, "stat") == 0)
        return stat(path, &status);
    if (strcmp(call->name, "access") == 0) {
        int found = faccessat(AT_FDCWD, path, W_OK, AT_EACCESS);
        errno = EACCES; /* whatever the reason is, as Python's access() does not tell it */
        return found;
    }
    return write_once(call, opened, fd);
}

/* Returns how many were done; errnos: of each. */
static Py_ssize_t do_all(const struct one *calls, Py_ssize_t count, int stop, int *errnos)
{
    const char *opened = "";
    Py_ssize_t done = 0;
    int fd = -1, failed = 0;

    while (done < count && !(failed && stop)) {
        failed = do_one(&calls[done], &opened, &fd) < 0;
        errnos[done++] = failed ? errno : 0;
    }
    if (fd >= 0)
        close(fd);
    return done;
}

static PyObject *list_of(const int *numbers, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *number = PyLong_FromLong(numbers[i]);
        if (!number)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, number);
    }
    return list;
}

static PyObject *sys_several(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *list, *result = NULL;
    Py_ssize_t parsed = 0, done;
    int stop;

    if (!PyArg_ParseTuple(args, "O!p", &PyList_Type, &list, &stop))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(list);
    struct one *calls = PyMem_Calloc((size_t)count + 1, sizeof *calls);
    int *errnos = PyMem_Calloc((size_t)count + 1, sizeof *errnos);
    if (!calls || !errnos) {
        PyErr_NoMemory();
        goto end;
    }
    /* What the calls point to is in the caller's list, which stays as it is until we return. */
    for (; parsed < count; parsed++) {
        struct one *call = &calls[parsed];
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, parsed), "sO&y#", &call->name, PyUnicode_FSConverter, &call->path,
                              &call->content, &call->size)) {
            Py_CLEAR(call->path);
            goto end;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    done = do_all(calls, count, stop, errnos);
    Py_END_ALLOW_THREADS
    result = list_of(errnos, done);
end:
    while (parsed > 0)
        Py_DECREF(calls[--parsed].path);
    PyMem_Free(calls);
    PyMem_Free(errnos);
    return result;
}

static PyMethodDef methods[] = {
    { "spawn", sys_spawn, METH_VARARGS, spawn_doc },
    { "several", sys_several, METH_VARARGS, several_doc },
    { "prctl", sys_prctl, METH_VARARGS, prctl_doc },
    { "openat2", sys_openat2, METH_VARARGS, openat2_doc },
    { "unshare", sys_unshare, METH_VARARGS, unshare_doc },
    { "prlimit", sys_prlimit, METH_VARARGS, prlimit_doc },
    { "setns", sys_setns, METH_VARARGS, setns_doc },
    { "mount", sys_mount, METH_VARARGS, mount_doc },
    { "syncfs", sys_syncfs, METH_VARARGS, syncfs_doc },
    { "make_file", sys_make_file, METH_VARARGS, make_file_doc },
    { "umount2", sys_umount2, METH_VARARGS, umount2_doc },
    { "pidfd_getfd", pidfd_getfd, METH_VARARGS, pidfd_getfd_doc },
    { "bpf_prog_load", bpf_prog_load, METH_VARARGS, bpf_prog_load_doc },
    { "bpf_prog_attach", bpf_prog_attach, METH_VARARGS, bpf_prog_attach_doc },
    { "bpf_prog_find", bpf_prog_find, METH_VARARGS, bpf_prog_find_doc },
    { "clone_paused", clone_paused, METH_VARARGS, clone_paused_doc },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "ocirt._sys",
    .m_doc = "System calls that Python has no function for.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__sys(void)
{
    return PyModule_Create(&module);
}
