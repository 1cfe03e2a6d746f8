/* A process of a container that tries to take over whatever of ocirt appears beside it: it goes through /proc, over and
 * over, and of each process that is an ocirt-init tries all that the kernel offers to look into it or to hold on to it.
 *
 * What it got counts only if the process is an ocirt-init still when it has got it (its command line says so, which
 * everybody may read): the program that it becomes is the container's own.
 *
 * usage: neighbour READY STOP WITNESS    WITNESS is a file of the host's, by its absolute path. Makes READY when it begins,
 *        ends when STOP is there, and then prints, a line each:
 *        seen COUNT    how many times it met one
 *        got WHAT      for each thing that it could look into or hold
 *        host WAY      for each way on which it found WITNESS
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const links[] = { "exe", "root", "cwd", "ns/mnt" };
static const char *const files[] = { "mem", "maps", "environ", "auxv", "syscall" };
static const char *const folders[] = { "map_files", "root", "cwd" }; /* root may list the numbers in "fd", and no more */
enum { DESCRIPTORS = 12 };
static const char *witness;
static unsigned long seen;

static int is_init(const char *pid)
{
    char path[64], line[64];
    ssize_t size;
    int fd;

    snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size = read(fd, line, sizeof line - 1);
    close(fd);
    return size >= 10 && !memcmp(line, "ocirt-init", 10);
}

static void got(const char *pid, const char *what)
{
    if (is_init(pid))
        printf("got %s\n", what);
}

/* Whether the witness is to be found from here, or by going up from here as far as it goes. */
static void climb(const char *pid, const char *from)
{
    static const char up[] = "/../../../../../../../../../../../../../../../..";
    char path[4096];

    for (int climbs = 0; climbs < 2; climbs++) {
        snprintf(path, sizeof path, "/proc/%s/%s%s%s", pid, from, climbs ? up : "", witness);
        if (!access(path, F_OK))
            printf("host %s\n", from);
    }
}

static void look(const char *pid)
{
    char path[300], target[300], from[32];
    char byte;
    int number = atoi(pid);
    struct iovec ours = { &byte, 1 }, theirs = { (void *)0x400000, 1 };

    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
        if (readlink(path, target, sizeof target - 1) > 0)
            got(pid, links[i]);
    }
    climb(pid, "root");
    climb(pid, "cwd");
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && (!strcmp(files[i], "mem") || read(fd, &byte, 1) > 0))
            got(pid, files[i]);
        if (fd >= 0)
            close(fd);
    }
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, folders[i]);
        DIR *folder = opendir(path);
        struct dirent *entry;
        if (!folder)
            continue;
        while ((entry = readdir(folder)))
            if (entry->d_name[0] != '.') {
                got(pid, folders[i]);
                break;
            }
        closedir(folder);
    }
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        snprintf(from, sizeof from, "fd/%d", fd);
        snprintf(path, sizeof path, "/proc/%s/%s", pid, from);
        int held = open(path, O_PATH | O_CLOEXEC);
        if (held < 0)
            continue;
        got(pid, from);
        climb(pid, from);
        close(held);
    }
    if (process_vm_readv(number, &ours, 1, &theirs, 1, 0) >= 0 || errno == EFAULT)
        got(pid, "process_vm_readv");
    long pidfd = syscall(SYS_pidfd_open, number, 0);
    if (pidfd >= 0) {
        long taken = syscall(SYS_pidfd_getfd, pidfd, 0, 0);
        if (taken >= 0) {
            got(pid, "pidfd_getfd");
            close((int)taken);
        }
        close((int)pidfd);
    }
    if (!ptrace(PTRACE_SEIZE, number, 0, 0)) {
        got(pid, "ptrace");
        ptrace(PTRACE_INTERRUPT, number, 0, 0);
        waitpid(number, NULL, __WALL);
        ptrace(PTRACE_DETACH, number, 0, 0);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    witness = argv[3];
    close(open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (access(argv[2], F_OK)) {
        DIR *processes = opendir("/proc");
        struct dirent *entry;
        while (processes && (entry = readdir(processes)))
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_init(entry->d_name)) {
                seen++;
                look(entry->d_name);
            }
        if (processes)
            closedir(processes);
    }
    printf("seen %lu\n", seen);
    return fflush(stdout) ? 1 : 0;
}
