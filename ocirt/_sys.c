/* ocirt._sys: system calls that Python 3.11 has no function for. Each function has the call's name,
 * and an OSError carries it as its filename, so that messages can say which call failed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static PyObject *failed(const char *call)
{
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, call);
}

static long bpf(int command, union bpf_attr *attributes)
{
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

PyDoc_STRVAR(bpf_prog_load_doc,
             "bpf_prog_load(prog_type, attach_type, instructions, license) -> descriptor\n\n"
             "BPF_PROG_LOAD (bpf(2)). instructions: bytes, 8 each. Raises OSError with the call's name.");

static PyObject *bpf_prog_load(PyObject *self, PyObject *args)
{
    (void)self;
    union bpf_attr attributes;
    unsigned prog_type, attach_type;
    const char *instructions, *license;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, "IIy#s", &prog_type, &attach_type, &instructions, &size, &license))
        return NULL;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = prog_type;
    attributes.expected_attach_type = attach_type;
    attributes.insns = (uintptr_t)instructions;
    attributes.insn_cnt = (uint32_t)(size / 8);
    attributes.license = (uintptr_t)license;
    long fd = bpf(BPF_PROG_LOAD, &attributes);
    return fd < 0 ? failed("bpf(BPF_PROG_LOAD)") : PyLong_FromLong(fd);
}

PyDoc_STRVAR(bpf_prog_attach_doc,
             "bpf_prog_attach(target, program, attach_type, flags)\n\n"
             "BPF_PROG_ATTACH (bpf(2)): attach a program to the cgroup that `target` is open on.");

static PyObject *bpf_prog_attach(PyObject *self, PyObject *args)
{
    (void)self;
    union bpf_attr attributes;
    int target, program;
    unsigned attach_type, flags;

    if (!PyArg_ParseTuple(args, "iiII", &target, &program, &attach_type, &flags))
        return NULL;
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)target;
    attributes.attach_bpf_fd = (uint32_t)program;
    attributes.attach_type = attach_type;
    attributes.attach_flags = flags;
    if (bpf(BPF_PROG_ATTACH, &attributes) < 0)
        return failed("bpf(BPF_PROG_ATTACH)");
    Py_RETURN_NONE;
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

static PyMethodDef methods[] = {
    { "pidfd_getfd", pidfd_getfd, METH_VARARGS, pidfd_getfd_doc },
    { "bpf_prog_load", bpf_prog_load, METH_VARARGS, bpf_prog_load_doc },
    { "bpf_prog_attach", bpf_prog_attach, METH_VARARGS, bpf_prog_attach_doc },
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
