/* `_json` for the executable with Python in it: Debian's static library has no such module, and to load the shared
 * library at each call costs half a millisecond. What `json` and ocirt use of it, with the same meaning and the same
 * errors: make_scanner, make_encoder, encode_basestring_ascii. (json does without the others.)
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "json_read.h"
#include "json_write.h"

static int fill(PyObject *module)
{
    if (PyType_Ready(&scanner_type) < 0 || PyType_Ready(&encoder_type) < 0 ||
        PyModule_AddObjectRef(module, "make_scanner", (PyObject *)&scanner_type) < 0 ||
        PyModule_AddObjectRef(module, "make_encoder", (PyObject *)&encoder_type) < 0)
        return -1;
    return 0;
}

static PyMethodDef functions[] = {
    { "encode_basestring_ascii", encode_basestring_ascii, METH_O, NULL },
    { NULL, NULL, 0, NULL },
};
static PyModuleDef_Slot slots[] = { { Py_mod_exec, (void *)fill }, { 0, NULL } };
static PyModuleDef definition = { PyModuleDef_HEAD_INIT, .m_name = "_json", .m_methods = functions, .m_slots = slots };

PyMODINIT_FUNC PyInit__json(void);

PyMODINIT_FUNC PyInit__json(void)
{
    return PyModuleDef_Init(&definition);
}
