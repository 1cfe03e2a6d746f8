/* `_json` for the executable with Python in it: Debian's static library has no such module, and to load the shared
 * library at each call costs half a millisecond. What `json` and ocirt use of it, with the same meaning and the same
 * errors: make_scanner, make_encoder, encode_basestring_ascii. (json does without the others.)
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <structmember.h>

/* Reading. */

typedef struct {
    PyObject_HEAD
    int strict;
    PyObject *object_hook, *object_pairs_hook, *parse_float, *parse_int, *parse_constant;
} Scanner;

/* A text that is read: `kind` and `data` as for PyUnicode_READ; `keys`: the keys so far, for equal ones to be one object. */
typedef struct {
    Scanner *scanner;
    PyObject *text, *keys;
    int kind;
    const void *data;
    Py_ssize_t size;
} Text;

static PyObject *value_at(Text *text, Py_ssize_t at, Py_ssize_t *end);

static Py_UCS4 character(const Text *text, Py_ssize_t at)
{
    return at < text->size ? PyUnicode_READ(text->kind, text->data, at) : 0xffffffff;
}

static Py_ssize_t skip_space(const Text *text, Py_ssize_t at)
{
    Py_UCS4 c;

    while ((c = character(text, at)) == ' ' || c == '\n' || c == '\t' || c == '\r')
        at++;
    return at;
}

static void *fail_at(const Text *text, const char *what, Py_ssize_t at)
{
    PyObject *decoder = PyImport_ImportModule("json.decoder");
    PyObject *kind = decoder ? PyObject_GetAttrString(decoder, "JSONDecodeError") : NULL;
    PyObject *error = kind ? PyObject_CallFunction(kind, "sOn", what, text->text, at) : NULL;

    if (error)
        PyErr_SetObject(kind, error);
    Py_XDECREF(error);
    Py_XDECREF(kind);
    Py_XDECREF(decoder);
    return NULL;
}

/* There is no value: json makes "Expecting value" of it. */
static void *stop_at(Py_ssize_t at)
{
    PyObject *where = PyLong_FromSsize_t(at);

    if (where)
        PyErr_SetObject(PyExc_StopIteration, where);
    Py_XDECREF(where);
    return NULL;
}

/* Four hexadecimal digits; -1 if they are not. */
static int hexadecimal(const Text *text, Py_ssize_t at)
{
    int number = 0;

    for (Py_ssize_t i = at; i < at + 4; i++) {
        Py_UCS4 c = character(text, i);
        if (c >= '0' && c <= '9')
            number = number * 16 + (int)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f' && c < 128)
            number = number * 16 + (int)((c | 32) - 'a') + 10;
        else
            return -1;
    }
    return number;
}

/* What stands behind the backslash at `at`; *end: behind it. -1 with an exception. */
static int escaped(const Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    Py_UCS4 c = character(text, at + 1);
    const char *found = c && c < 128 ? strchr(names, (int)c) : NULL;

    *end = at + 2;
    if (found)
        return meant[found - names];
    if (c != 'u') {
        fail_at(text, "Invalid \\escape", at);
        return -1;
    }
    int high = hexadecimal(text, at + 2), low;
    if (high < 0 || at + 6 >= text->size) { /* also where the text ends there */
        fail_at(text, "Invalid \\uXXXX escape", at + 1);
        return -1;
    }
    *end = at + 6;
    if (Py_UNICODE_IS_HIGH_SURROGATE((Py_UCS4)high) && at + 12 < text->size && character(text, at + 6) == '\\' &&
        character(text, at + 7) == 'u' &&
        (low = hexadecimal(text, at + 8)) >= 0 && Py_UNICODE_IS_LOW_SURROGATE((Py_UCS4)low)) {
        *end = at + 12;
        return (int)Py_UNICODE_JOIN_SURROGATES((Py_UCS4)high, (Py_UCS4)low);
    }
    return high;
}

/* The string that begins behind the quote at `quote`. */
static PyObject *string_at(Text *text, Py_ssize_t quote, Py_ssize_t *end)
{
    _PyUnicodeWriter writer;
    Py_ssize_t at = quote + 1, begin = at;
    int written = 0;

    for (;;) {
        Py_UCS4 c = character(text, at);
        if (c == '"') {
            *end = at + 1;
            if (!written)
                return PyUnicode_Substring(text->text, begin, at);
            if (_PyUnicodeWriter_WriteSubstring(&writer, text->text, begin, at))
                break;
            return _PyUnicodeWriter_Finish(&writer);
        }
        if (c == 0xffffffff || (c == '\\' && at + 1 >= text->size)) {
            fail_at(text, "Unterminated string starting at", quote);
            break;
        }
        if (c < 0x20 && text->scanner->strict) {
            fail_at(text, "Invalid control character at", at);
            break;
        }
        if (c != '\\') {
            at++;
            continue;
        }
        if (!written) {
            _PyUnicodeWriter_Init(&writer);
            writer.overallocate = 1;
            written = 1;
        }
        Py_ssize_t behind;
        int meant = escaped(text, at, &behind);
        if (meant < 0 || _PyUnicodeWriter_WriteSubstring(&writer, text->text, begin, at) ||
            _PyUnicodeWriter_WriteChar(&writer, (Py_UCS4)meant))
            break;
        at = begin = behind;
    }
    if (written)
        _PyUnicodeWriter_Dealloc(&writer);
    return NULL;
}

static int is_digit(const Text *text, Py_ssize_t at)
{
    Py_UCS4 c = character(text, at);
    return c >= '0' && c <= '9';
}

static PyObject *number_at(Text *text, Py_ssize_t start, Py_ssize_t *end)
{
    Py_ssize_t at = start;
    int whole = 1;

    if (character(text, at) == '-')
        at++;
    if (!is_digit(text, at))
        return stop_at(start);
    if (character(text, at) == '0')
        at++;
    else
        while (is_digit(text, at))
            at++;
    if (character(text, at) == '.' && is_digit(text, at + 1)) {
        whole = 0;
        for (at++; is_digit(text, at); at++)
            ;
    }
    if (character(text, at) == 'e' || character(text, at) == 'E') {
        Py_ssize_t exponent = at + 1;
        if (character(text, exponent) == '+' || character(text, exponent) == '-')
            exponent++;
        if (is_digit(text, exponent)) {
            whole = 0;
            for (at = exponent; is_digit(text, at); at++)
                ;
        }
    }
    *end = at;
    PyObject *parse = whole ? text->scanner->parse_int : text->scanner->parse_float;
    if (parse == (PyObject *)&PyLong_Type && at - start < 18) {
        long long number = 0;
        for (Py_ssize_t i = start; i < at; i++)
            if (is_digit(text, i))
                number = number * 10 + (long long)(character(text, i) - '0');
        return PyLong_FromLongLong(character(text, start) == '-' ? -number : number);
    }
    PyObject *word = PyUnicode_Substring(text->text, start, at);
    PyObject *number = word ? PyObject_CallOneArg(parse, word) : NULL;
    Py_XDECREF(word);
    return number;
}

static PyObject *key_at(Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    PyObject *key = string_at(text, at, end);
    PyObject *known = key ? PyDict_SetDefault(text->keys, key, key) : NULL;

    Py_XINCREF(known);
    Py_XDECREF(key);
    return known;
}

/* A member's key and value; *at: at its first character, then behind its last. */
static int member_at(Text *text, Py_ssize_t *at, PyObject **key, PyObject **value)
{
    if (character(text, *at) != '"') {
        fail_at(text, "Expecting property name enclosed in double quotes", *at);
        return 0;
    }
    if (!(*key = key_at(text, *at, at)))
        return 0;
    *at = skip_space(text, *at);
    if (character(text, *at) != ':')
        fail_at(text, "Expecting ':' delimiter", *at);
    else if ((*value = value_at(text, skip_space(text, *at + 1), at)))
        return 1;
    Py_DECREF(*key);
    return 0;
}

/* Add a member to a dict, or to a list of pairs. */
static int put(PyObject *members, PyObject *key, PyObject *value)
{
    if (PyDict_CheckExact(members))
        return PyDict_SetItem(members, key, value) == 0;
    PyObject *pair = PyTuple_Pack(2, key, value);
    int done = pair && PyList_Append(members, pair) == 0;
    Py_XDECREF(pair);
    return done;
}

static PyObject *object_at(Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    PyObject *pairs_hook = text->scanner->object_pairs_hook, *hook = pairs_hook;
    PyObject *members = pairs_hook != Py_None ? PyList_New(0) : PyDict_New(), *key, *value;

    if (!members)
        return NULL;
    if (hook == Py_None)
        hook = text->scanner->object_hook;
    at = skip_space(text, at + 1);
    while (character(text, at) != '}') {
        if (!member_at(text, &at, &key, &value))
            goto failed;
        int done = put(members, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (!done)
            goto failed;
        at = skip_space(text, at);
        if (character(text, at) == '}')
            break;
        if (character(text, at) != ',') {
            fail_at(text, "Expecting ',' delimiter", at);
            goto failed;
        }
        at = skip_space(text, at + 1);
        if (character(text, at) != '"') { /* also an object's end */
            fail_at(text, "Expecting property name enclosed in double quotes", at);
            goto failed;
        }
    }
    *end = at + 1;
    if (hook == Py_None)
        return members;
    value = PyObject_CallOneArg(hook, members);
    Py_DECREF(members);
    return value;
failed:
    Py_DECREF(members);
    return NULL;
}

static PyObject *array_at(Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    PyObject *list = PyList_New(0);

    at = skip_space(text, at + 1);
    if (list && character(text, at) == ']') {
        *end = at + 1;
        return list;
    }
    while (list) {
        PyObject *value = value_at(text, at, &at);
        int done = value && PyList_Append(list, value) == 0;
        Py_XDECREF(value);
        if (!done)
            break;
        at = skip_space(text, at);
        if (character(text, at) == ']') {
            *end = at + 1;
            return list;
        }
        if (character(text, at) != ',') {
            fail_at(text, "Expecting ',' delimiter", at);
            break;
        }
        at = skip_space(text, at + 1);
    }
    Py_XDECREF(list);
    return NULL;
}

static int is_word(const Text *text, Py_ssize_t at, const char *word, Py_ssize_t *end)
{
    for (; *word; at++, word++)
        if (character(text, at) != (Py_UCS4)*word)
            return 0;
    *end = at;
    return 1;
}

static PyObject *word_at(Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    static const char *const others[] = { "NaN", "Infinity", "-Infinity" };

    if (is_word(text, at, "null", end))
        return Py_NewRef(Py_None);
    if (is_word(text, at, "true", end))
        return Py_NewRef(Py_True);
    if (is_word(text, at, "false", end))
        return Py_NewRef(Py_False);
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
        if (is_word(text, at, others[i], end))
            return PyObject_CallFunction(text->scanner->parse_constant, "s", others[i]);
    return number_at(text, at, end);
}

static PyObject *value_at(Text *text, Py_ssize_t at, Py_ssize_t *end)
{
    Py_UCS4 c = character(text, at);
    PyObject *value;

    if (c == '"')
        return string_at(text, at, end);
    if (c != '{' && c != '[')
        return word_at(text, at, end);
    if (Py_EnterRecursiveCall(" while decoding JSON"))
        return NULL;
    value = c == '{' ? object_at(text, at, end) : array_at(text, at, end);
    Py_LeaveRecursiveCall();
    return value;
}

static PyObject *scan(PyObject *self, PyObject *args, PyObject *names)
{
    static char *known[] = { "string", "idx", NULL };
    Text text = { .scanner = (Scanner *)self };
    Py_ssize_t at, end;

    if (!PyArg_ParseTupleAndKeywords(args, names, "Un:scan_once", known, &text.text, &at))
        return NULL;
    text.kind = PyUnicode_KIND(text.text);
    text.data = PyUnicode_DATA(text.text);
    text.size = PyUnicode_GET_LENGTH(text.text);
    if (at < 0)
        return PyErr_Format(PyExc_ValueError, "idx cannot be negative");
    if (at >= text.size)
        return stop_at(at);
    if (!(text.keys = PyDict_New()))
        return NULL;
    PyObject *value = value_at(&text, at, &end);
    Py_DECREF(text.keys);
    return value ? Py_BuildValue("Nn", value, end) : NULL;
}

static PyObject *new_scanner(PyTypeObject *type, PyObject *args, PyObject *names)
{
    static char *known[] = { "context", NULL };
    PyObject *context, *strict;

    if (!PyArg_ParseTupleAndKeywords(args, names, "O:make_scanner", known, &context))
        return NULL;
    Scanner *self = (Scanner *)type->tp_alloc(type, 0);
    if (!self || !(strict = PyObject_GetAttrString(context, "strict")))
        goto failed;
    self->strict = PyObject_IsTrue(strict);
    Py_DECREF(strict);
    if (self->strict >= 0 && (self->object_hook = PyObject_GetAttrString(context, "object_hook")) &&
        (self->object_pairs_hook = PyObject_GetAttrString(context, "object_pairs_hook")) &&
        (self->parse_float = PyObject_GetAttrString(context, "parse_float")) &&
        (self->parse_int = PyObject_GetAttrString(context, "parse_int")) &&
        (self->parse_constant = PyObject_GetAttrString(context, "parse_constant")))
        return (PyObject *)self;
failed:
    Py_XDECREF(self);
    return NULL;
}

static void drop_scanner(PyObject *object)
{
    Scanner *self = (Scanner *)object;

    Py_XDECREF(self->object_hook);
    Py_XDECREF(self->object_pairs_hook);
    Py_XDECREF(self->parse_float);
    Py_XDECREF(self->parse_int);
    Py_XDECREF(self->parse_constant);
    Py_TYPE(object)->tp_free(object);
}

static PyTypeObject scanner_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_json.Scanner",
    .tp_basicsize = sizeof(Scanner),
    .tp_dealloc = drop_scanner,
    .tp_call = scan,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = new_scanner,
};

/* Writing. */

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
