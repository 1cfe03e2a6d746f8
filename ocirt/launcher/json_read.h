/* The scanner of json.c: make_scanner. Included once, by json.c, after Python.h. */
#ifndef OCIRT_JSON_READ_H
#define OCIRT_JSON_READ_H

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

#endif
