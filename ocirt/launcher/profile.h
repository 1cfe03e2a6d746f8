/* What calls do with the blocks of the heap (heap.h): found out in one run of the program, used by the next. Included once,
 * after heap.h and embedded.c's fail().
 *
 * A profile is { u64 known, size[2] }, how many numbers follow and the bytes that both kinds of blocks need, and a
 * byte per number: a Use. */
#ifndef OCIRT_PROFILE_H
#define OCIRT_PROFILE_H

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef struct { u64 known, size[2]; } Profile;

static unsigned char *pages; /* a Use for each page of the ground */

/* Have blocks taken far from each other, before any is; at the same addresses each time, for Python hashes them. */
static void spread(void)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *area = mmap((void *)(1UL << 40), SPREAD_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);

    pages = mmap(NULL, SPREAD_SIZE / PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || pages == MAP_FAILED || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
        fail("no memory to spread the blocks");
    ground = area;
    size_of_ground = SPREAD_SIZE;
    spreading = 1;
}

/* The first access to a page, and the first that writes. */
static void accessed(int number, siginfo_t *info, void *context)
{
    size_t page = (size_t)((char *)info->si_addr - ground) / PAGE;

    (void)context;
    if (!in_heap(info->si_addr) || pages[page] == WRITTEN ||
        mprotect(ground + page * PAGE, PAGE, pages[page] ? PROT_READ | PROT_WRITE : PROT_READ)) {
        signal(number, SIG_DFL); /* a defect: it ends when it comes here again */
        return;
    }
    pages[page]++;
}

/* Of the blocks in ground up to `end`, write what was done with them. */
static void write_profile(const char *path, size_t end)
{
    Profile head = { taken + 1, { 0, 0 } };
    unsigned char *uses = __real_calloc(1, head.known);
    FILE *file = fopen(path, "wb");

    for (size_t at = sizeof(Head); uses && at < end;) {
        const Head *block = (const Head *)(ground + at);
        size_t size = block->units * UNIT;
        unsigned char use = pages[at / PAGE];
        if (size == 0) { /* the rest of the page */
            at = page_behind(at) + sizeof(Head);
            continue;
        }
        if (use && size <= LARGEST_USED) {
            uses[block->number] = use;
            head.size[use - 1] += size;
        }
        at += size;
    }
    if (!uses || !file || fwrite(&head, sizeof head, 1, file) != 1 || fwrite(uses, head.known, 1, file) != 1 || fclose(file))
        fail(path);
}

/* Rehearse in a child, whose first access to each page is noticed. */
static void profile(const char *path)
{
    struct sigaction action = { .sa_sigaction = accessed, .sa_flags = SA_SIGINFO | SA_NODEFER };
    size_t end = used;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        memset(spare, 0, sizeof spare);
        behind = ground + used;
        ready = 1;
        sigaction(SIGSEGV, &action, NULL);
        mprotect(ground, page_behind(used), PROT_NONE);
        if (!rehearse || !PyObject_CallNoArgs(rehearse))
            fail("the rehearsal");
        mprotect(ground, page_behind(used), PROT_READ);
        write_profile(path, end);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        fail("the rehearsal");
}

static void read_profile(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat file;
    const Profile *head = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &file) == 0)
        head = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (head == MAP_FAILED || close(fd))
        fail(path);
    known = head->known;
    use_of = (const unsigned char *)(head + 1);
    for (int use = WRITTEN; use >= READ; use--) {
        zones[use].at = used;
        /* Up to a page more than there was: some blocks are a little larger this time. */
        zones[use].end = page_behind(used + head->size[use - 1] + PAGE / 2);
        used = zones[use].end + sizeof(Head);
    }
}

#endif
