/* The encoder of json.c: make_encoder, encode_basestring_ascii. Included once, by json.c, after Python.h. */
#ifndef OCIRT_JSON_WRITE_H
#define OCIRT_JSON_WRITE_H

typedef struct {
    PyObject_HEAD
    PyObject *markers, *otherwise, *encoder, *key_separator, *item_separator;
    int sort_keys, skip_keys, allow_nan;
} Encoder;

static int write_text(_PyUnicodeWriter *writer, const char *text)
{
    return _PyUnicodeWriter_WriteASCIIString(writer, text, -1);
}

static int write_escaped(_PyUnicodeWriter *writer, PyObject *string)
{
    static const char digits[] = "0123456789abcdef";
    Py_ssize_t size = PyUnicode_GET_LENGTH(string), begin = 0;
    int kind = PyUnicode_KIND(string);
    const void *data = PyUnicode_DATA(string);

    if (_PyUnicodeWriter_WriteChar(writer, '"'))
        return -1;
    for (Py_ssize_t i = 0; i < size; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c >= ' ' && c < 127 && c != '"' && c != '\\')
            continue;
        if (_PyUnicodeWriter_WriteSubstring(writer, string, begin, i))
            return -1;
        begin = i + 1;
        const char *short_form = c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\r' ? "\\r" :
            c == '\t' ? "\\t" : c == '\b' ? "\\b" : c == '\f' ? "\\f" : NULL;
        if (short_form) {
            if (write_text(writer, short_form))
                return -1;
            continue;
        }
        Py_UCS4 units[2] = { c, 0 };
        if (c > 0xffff) {
            units[0] = Py_UNICODE_HIGH_SURROGATE(c);
            units[1] = Py_UNICODE_LOW_SURROGATE(c);
        }
        for (int j = 0; j < 2 && (j == 0 || units[1]); j++) {
            char form[] = "\\u0000";
            for (int k = 0; k < 4; k++)
                form[2 + k] = digits[units[j] >> (12 - 4 * k) & 15];
            if (write_text(writer, form))
                return -1;
        }
    }
    if (_PyUnicodeWriter_WriteSubstring(writer, string, begin, size))
        return -1;
    return _PyUnicodeWriter_WriteChar(writer, '"');
}

static PyObject *encode_basestring_ascii(PyObject *module, PyObject *string)
{
    _PyUnicodeWriter writer;

    (void)module;
    if (!PyUnicode_Check(string))
        return PyErr_Format(PyExc_TypeError, "first argument must be a string, not %.80s", Py_TYPE(string)->tp_name);
    _PyUnicodeWriter_Init(&writer);
    writer.overallocate = 1;
    if (write_escaped(&writer, string) == 0)
        return _PyUnicodeWriter_Finish(&writer);
    _PyUnicodeWriter_Dealloc(&writer);
    return NULL;
}

static int write_value(Encoder *self, _PyUnicodeWriter *writer, PyObject *value);

static int write_string(Encoder *self, _PyUnicodeWriter *writer, PyObject *string)
{
    if (PyCFunction_Check(self->encoder) && PyCFunction_GET_FUNCTION(self->encoder) == encode_basestring_ascii)
        return write_escaped(writer, string);
    PyObject *encoded = PyObject_CallOneArg(self->encoder, string);
    if (encoded && !PyUnicode_Check(encoded)) {
        PyErr_Format(PyExc_TypeError, "encoder() must return a string, not %.80s", Py_TYPE(encoded)->tp_name);
        Py_CLEAR(encoded);
    }
    int result = encoded ? _PyUnicodeWriter_WriteStr(writer, encoded) : -1;
    Py_XDECREF(encoded);
    return result;
}

/* None, a truth value or a number as text; NULL without an exception: it is nothing of that. */
static PyObject *scalar(Encoder *self, PyObject *value)
{
    if (value == Py_None)
        return PyUnicode_FromString("null");
    if (value == Py_True || value == Py_False)
        return PyUnicode_FromString(value == Py_True ? "true" : "false");
    if (PyLong_Check(value))
        return PyLong_Type.tp_repr(value);
    if (!PyFloat_Check(value))
        return NULL;
    double number = PyFloat_AS_DOUBLE(value);
    if (Py_IS_FINITE(number))
        return PyFloat_Type.tp_repr(value);
    if (!self->allow_nan)
        return PyErr_Format(PyExc_ValueError, "Out of range float values are not JSON compliant");
    return PyUnicode_FromString(Py_IS_NAN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
}

/* 1: it is to be left out. */
static int write_key(Encoder *self, _PyUnicodeWriter *writer, PyObject *key, int first)
{
    PyObject *text = PyUnicode_Check(key) ? Py_NewRef(key) : scalar(self, key);

    if (!text && PyErr_Occurred())
        return -1;
    if (!text && self->skip_keys)
        return 1;
    if (!text) {
        PyErr_Format(
            PyExc_TypeError, "keys must be str, int, float, bool or None, not %.100s", Py_TYPE(key)->tp_name);
        return -1;
    }
    int result = (first || _PyUnicodeWriter_WriteStr(writer, self->item_separator) == 0) &&
            write_string(self, writer, text) == 0 && _PyUnicodeWriter_WriteStr(writer, self->key_separator) == 0 ?
        0 : -1;
    Py_DECREF(text);
    return result;
}

static int write_dict(Encoder *self, _PyUnicodeWriter *writer, PyObject *dict)
{
    PyObject *items = PyMapping_Items(dict);
    int first = 1, result = -1;

    if (!items || (self->sort_keys && PyList_Sort(items)) || _PyUnicodeWriter_WriteChar(writer, '{'))
        goto done;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_ValueError, "items must return 2-tuples");
            goto done;
        }
        int left_out = write_key(self, writer, PyTuple_GET_ITEM(pair, 0), first);
        if (left_out < 0 || (!left_out && write_value(self, writer, PyTuple_GET_ITEM(pair, 1))))
            goto done;
        first &= left_out;
    }
    result = _PyUnicodeWriter_WriteChar(writer, '}');
done:
    Py_XDECREF(items);
    return result;
}

static int write_list(Encoder *self, _PyUnicodeWriter *writer, PyObject *list)
{
    PyObject *items = PySequence_Fast(list, "a list or tuple");
    int result = items ? _PyUnicodeWriter_WriteChar(writer, '[') : -1;

    for (Py_ssize_t i = 0; result == 0 && i < PySequence_Fast_GET_SIZE(items); i++)
        if ((i && _PyUnicodeWriter_WriteStr(writer, self->item_separator)) ||
            write_value(self, writer, PySequence_Fast_GET_ITEM(items, i)))
            result = -1;
    if (result == 0)
        result = _PyUnicodeWriter_WriteChar(writer, ']');
    Py_XDECREF(items);
    return result;
}

static int write_other(Encoder *self, _PyUnicodeWriter *writer, PyObject *value)
{
    PyObject *instead = PyObject_CallOneArg(self->otherwise, value);
    int result = instead ? write_value(self, writer, instead) : -1;

    Py_XDECREF(instead);
    return result;
}

static int write_value(Encoder *self, _PyUnicodeWriter *writer, PyObject *value)
{
    if (PyUnicode_Check(value))
        return write_string(self, writer, value);
    PyObject *text = scalar(self, value);
    if (text || PyErr_Occurred()) {
        int result = text ? _PyUnicodeWriter_WriteStr(writer, text) : -1;
        Py_XDECREF(text);
        return result;
    }
    PyObject *marker = NULL;
    int (*write)(Encoder *, _PyUnicodeWriter *, PyObject *) =
        PyDict_Check(value) ? write_dict : PyList_Check(value) || PyTuple_Check(value) ? write_list : write_other;
    if (Py_EnterRecursiveCall(" while encoding a JSON object"))
        return -1;
    int result = -1;
    if (self->markers != Py_None) { /* what is being written, by its address */
        marker = PyLong_FromVoidPtr(value);
        int known = marker ? PyDict_Contains(self->markers, marker) : -1;
        if (known > 0)
            PyErr_SetString(PyExc_ValueError, "Circular reference detected");
        if (known || PyDict_SetItem(self->markers, marker, value))
            goto done;
    }
    result = write(self, writer, value);
    if (result == 0 && marker && PyDict_DelItem(self->markers, marker))
        result = -1;
done:
    Py_XDECREF(marker);
    Py_LeaveRecursiveCall();
    return result;
}

static PyObject *encode(PyObject *object, PyObject *args, PyObject *names)
{
    static char *known[] = { "obj", "_current_indent_level", NULL };
    _PyUnicodeWriter writer;
    PyObject *value;
    Py_ssize_t level;

    if (!PyArg_ParseTupleAndKeywords(args, names, "On:_iterencode", known, &value, &level))
        return NULL;
    _PyUnicodeWriter_Init(&writer);
    writer.overallocate = 1;
    if (write_value((Encoder *)object, &writer, value)) {
        _PyUnicodeWriter_Dealloc(&writer);
        return NULL;
    }
    PyObject *text = _PyUnicodeWriter_Finish(&writer);
    return text ? Py_BuildValue("(N)", text) : NULL;
}

static PyObject *new_encoder(PyTypeObject *type, PyObject *args, PyObject *names)
{
    static char *known[] = { "markers", "default", "encoder", "indent", "key_separator", "item_separator", "sort_keys",
        "skipkeys", "allow_nan", NULL };
    PyObject *indent;
    Encoder made;

    if (!PyArg_ParseTupleAndKeywords(args, names, "OOOOUUppp:make_encoder", known, &made.markers, &made.otherwise,
            &made.encoder, &indent, &made.key_separator, &made.item_separator, &made.sort_keys, &made.skip_keys,
            &made.allow_nan))
        return NULL;
    if (made.markers != Py_None && !PyDict_Check(made.markers))
        return PyErr_Format(
            PyExc_TypeError, "make_encoder() argument 1 must be dict or None, not %.200s", Py_TYPE(made.markers)->tp_name);
    if (indent != Py_None) /* json asks for this without one only */
        return PyErr_Format(PyExc_ValueError, "make_encoder() indents nothing");
    Encoder *self = (Encoder *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->markers = Py_NewRef(made.markers);
    self->otherwise = Py_NewRef(made.otherwise);
    self->encoder = Py_NewRef(made.encoder);
    self->key_separator = Py_NewRef(made.key_separator);
    self->item_separator = Py_NewRef(made.item_separator);
    self->sort_keys = made.sort_keys;
    self->skip_keys = made.skip_keys;
    self->allow_nan = made.allow_nan;
    return (PyObject *)self;
}

static void drop_encoder(PyObject *object)
{
    Encoder *self = (Encoder *)object;

    Py_XDECREF(self->markers);
    Py_XDECREF(self->otherwise);
    Py_XDECREF(self->encoder);
    Py_XDECREF(self->key_separator);
    Py_XDECREF(self->item_separator);
    Py_TYPE(object)->tp_free(object);
}

static PyTypeObject encoder_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_json.Encoder",
    .tp_basicsize = sizeof(Encoder),
    .tp_dealloc = drop_encoder,
    .tp_call = encode,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = new_encoder,
};

#endif
