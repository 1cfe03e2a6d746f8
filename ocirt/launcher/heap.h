/* The memory of embedded.c's Python. Included once, after Python.h and `u64`.
 *
 * While the picture is made, all is taken from `heap`. A call pays for each page that it writes to (2 µs, and a reference
 * is counted by writing) or reads, so what calls write to lies together, at the beginning, and behind it what they read.
 * Which blocks that are is found out by running the same before (profile.h), when each block has a page for itself. A block
 * is known by its number: the how manieth was taken.
 * Afterwards, small blocks of Python's are taken there too, behind the picture, and large ones from the C library. What is
 * in the picture stays there. */
#ifndef OCIRT_HEAP_H
#define OCIRT_HEAP_H

enum {
    HEAP_SIZE = 24 << 20,
    UNIT = 16,
    LARGEST = 32, /* of the small blocks, in units */
    SPARE = 4096, /* larger blocks are not used again while the picture is made */
    LARGEST_USED = 16384, /* of larger blocks, calls use a part */
    PAGE = 4096,
    SPREAD_SIZE = 1 << 30,
};

typedef enum { READ = 1, WRITTEN = 2 } Use; /* what calls do with a block; 0: nothing */

char heap[HEAP_SIZE] __attribute__((common, aligned(PAGE))); /* common: behind all data, so its end can be left out */
static char *ground = heap; /* SPREAD_SIZE bytes elsewhere while blocks are spread */
static size_t size_of_ground = HEAP_SIZE;
static size_t used = sizeof(u64);
static int ready;              /* the picture is taken */
static char *behind;           /* the picture's end, in heap */
static void *spare[SPARE + 1]; /* lists of free blocks, by their units */

static int spreading;
static u64 taken;                   /* how many blocks were, before the picture is */
static const unsigned char *use_of; /* the first `known` blocks: a byte each */
static u64 known;
static struct { size_t at, end; } zones[WRITTEN + 1];

typedef struct { unsigned units, number; } Head;

/* A block begins behind its head: how many units it has with it. */
static Head *head_of(void *block)
{
    return (Head *)block - 1;
}

static int in_heap(const void *block)
{
    return (const char *)block >= ground && (const char *)block < ground + size_of_ground;
}

/* The next `units`, behind what was taken of [.., end) so far. */
static void *next(size_t *at, size_t end, size_t units)
{
    if (end < *at + sizeof(Head) || units > (end - sizeof(Head) - *at) / UNIT)
        return NULL;
    char *block = ground + *at + sizeof(Head);
    *at += units * UNIT;
    *head_of(block) = (Head){ .units = (unsigned)units, .number = (unsigned)taken };
    return block;
}

static size_t page_behind(size_t at)
{
    return (at + PAGE - 1) / PAGE * PAGE;
}

static void *take(size_t size)
{
    void *block;

    if (size > HEAP_SIZE)
        return NULL;
    size_t units = (size + sizeof(Head) + UNIT - 1) / UNIT;
    if (!ready) {
        taken++;
        int use = taken < known ? use_of[taken] : 0;
        if (use && (block = next(&zones[use].at, zones[use].end, units)))
            return block;
    }
    if (units <= SPARE && spare[units]) {
        void **free = spare[units];
        spare[units] = *free;
        head_of(free)->number = (unsigned)taken;
        return free;
    }
    if (spreading && !ready)
        used = page_behind(used) + sizeof(Head);
    return next(&used, size_of_ground, units);
}

static void give_back(void *block)
{
    unsigned units = head_of(block)->units;

    if (!ready) /* nothing of what was done with it shall be in the picture: two builds are the same */
        memset(block, 0, units * UNIT - sizeof(Head));
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
    size_t have = head_of(block)->units * UNIT - sizeof(Head);
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

    if (!ready || size <= LARGEST * UNIT - sizeof(Head))
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
