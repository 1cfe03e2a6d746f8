/* The memory of embedded.c's Python. Included once, after Python.h and `u64`.
 *
 * While the picture is made, all is taken from `heap`, one behind the other: what belongs to one function lies together,
 * and a call writes to few pages (the kernel's price for a page is 2 µs, and a reference is counted by writing).
 * Afterwards, small blocks of Python's are taken there too, behind the picture, and large ones from the C library. What is
 * in the picture stays there. */
#ifndef OCIRT_HEAP_H
#define OCIRT_HEAP_H

enum {
    HEAP_SIZE = 24 << 20,
    UNIT = 16,
    LARGEST = 32, /* of the small blocks, in units */
    SPARE = 4096, /* larger blocks are not used again while the picture is made */
};

char heap[HEAP_SIZE] __attribute__((common, aligned(16))); /* common: behind all data, so its end can be left out */
static size_t used = sizeof(u64);
static int ready;              /* the picture is taken */
static char *behind;           /* the picture's end, in heap */
static void *spare[SPARE + 1]; /* lists of free blocks, by their units */

/* A block begins behind a u64: how many units it has with it. */
static u64 *units_of(void *block)
{
    return (u64 *)block - 1;
}

static int in_heap(const void *block)
{
    return (const char *)block >= heap && (const char *)block < heap + HEAP_SIZE;
}

static void *take(size_t size)
{
    if (size > HEAP_SIZE)
        return NULL;
    size_t units = (size + sizeof(u64) + UNIT - 1) / UNIT;
    if (units <= SPARE && spare[units]) {
        void **free = spare[units];
        spare[units] = *free;
        return free;
    }
    if (units > (HEAP_SIZE - sizeof(u64) - used) / UNIT)
        return NULL;
    char *block = heap + used + sizeof(u64);
    used += units * UNIT;
    *units_of(block) = units;
    return block;
}

static void give_back(void *block)
{
    u64 units = *units_of(block);

    if (!ready) /* nothing of what was done with it shall be in the picture: two builds are the same */
        memset(block, 0, units * UNIT - sizeof(u64));
    if (units <= SPARE && (char *)block >= behind) {
        *(void **)block = spare[units];
        spare[units] = block;
    }
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);

/* malloc() and its like, as Python calls them: also without holding its lock, once the picture is taken. */

void *__wrap_malloc(size_t size)
{
    return ready ? __real_malloc(size) : take(size);
}

void *__wrap_calloc(size_t number, size_t size)
{
    if (ready)
        return __real_calloc(number, size);
    if (size && number > HEAP_SIZE / size)
        return NULL;
    void *block = take(number * size);
    return block ? memset(block, 0, number * size) : NULL;
}

/* In the heap's own way, as realloc() does it otherwise. */
static void *larger(void *block, size_t size, void *(*get)(size_t), void (*drop)(void *))
{
    size_t have = *units_of(block) * UNIT - sizeof(u64);
    if (size <= have)
        return block;
    void *other = get(size);
    if (other) {
        memcpy(other, block, have);
        drop(block);
    }
    return other;
}

void __wrap_free(void *block)
{
    if (!in_heap(block))
        __real_free(block);
    else if (!ready)
        give_back(block);
}

void *__wrap_realloc(void *block, size_t size)
{
    if (!block)
        return __wrap_malloc(size);
    return in_heap(block) ? larger(block, size, __wrap_malloc, __wrap_free) : __real_realloc(block, size);
}

/* Python's allocator for all that it holds its lock for. */

static void *get_block(size_t size)
{
    void *block = NULL;

    if (!ready || size <= LARGEST * UNIT - sizeof(u64))
        block = take(size);
    return block ? block : __real_malloc(size ? size : 1);
}

static void drop_block(void *block)
{
    if (in_heap(block))
        give_back(block);
    else
        __real_free(block);
}

static void free_block(void *context, void *block)
{
    (void)context;
    drop_block(block);
}

static void *malloc_block(void *context, size_t size)
{
    (void)context;
    return get_block(size);
}

static void *calloc_block(void *context, size_t number, size_t size)
{
    (void)context;
    if (size && number > (size_t)PY_SSIZE_T_MAX / size)
        return NULL;
    void *block = get_block(number * size);
    return block ? memset(block, 0, number * size) : NULL;
}

static void *realloc_block(void *context, void *block, size_t size)
{
    (void)context;
    if (!block)
        return get_block(size);
    return in_heap(block) ? larger(block, size, get_block, drop_block) : __real_realloc(block, size ? size : 1);
}

/* Python's stack of frames comes in blocks of 16 KiB. */

static void *take_arena(void *context, size_t size)
{
    (void)context;
    return __wrap_malloc(size);
}

static void give_arena(void *context, void *area, size_t size)
{
    (void)context;
    (void)size;
    __wrap_free(area);
}

#endif
