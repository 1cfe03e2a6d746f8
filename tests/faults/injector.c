/* injector - run a command, and have one system call of it, or of what it starts, go wrong.
 *
 * usage: injector REPORT ROLE NUMBER ACTION COMMAND [ARG...]
 *
 * Every system call is held up by a seccomp filter (seccomp_unotify(2)) until we let it go on, but for those that cannot
 * fail. ROLE says whose calls count: "host" is the command itself, "spawned" what it starts (ocirt-init, as it is before
 * the clone), "init" what that clones (the container's first process), "other" everything else. The NUMBERth call of it
 * (from 0) gets what ACTION says:
 *
 *   ERRNO   a number: it is not made, and fails with it
 *   kill    the process gets SIGKILL instead
 *   term    the process gets SIGSTOP, and the command SIGTERM a moment later: who is stopped says nothing any more
 *   stop    the process gets SIGSTOP, is seen to be stopped where it can be seen, and gets SIGCONT
 *   record  nothing happens
 *
 * To the descriptor REPORT goes a line "ROLE NR" for each call, of `record`, or "hit NR" when the moment has come; and
 * "exit STATUS" (wait(2)'s) when the command has ended. We end when nobody is left whose calls are held up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 64, WAIT_KILLABLE = 1 << 5, TRIES = 500 };
enum role { HOST, SPAWNED, INIT, OTHER, HELPER };
static const char *const roles[] = { "host", "spawned", "init", "other", "helper" };

static struct {
    pid_t pid;
    enum role role;
} known[MOST];
static int count;

static void die(const char *what)
{
    fprintf(stderr, "injector: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* What cannot fail, or closes whatever it says; and what only waits. */
static const int passed[] = {
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_exit, SYS_exit_group, SYS_close, SYS_nanosleep,
    SYS_clock_nanosleep, SYS_futex, SYS_sigaltstack, SYS_gettid, SYS_getpid, SYS_getppid, SYS_getuid, SYS_geteuid,
    SYS_getgid, SYS_getegid, SYS_set_tid_address, SYS_set_robust_list, SYS_rseq, SYS_munmap, SYS_madvise, SYS_umask,
    SYS_restart_syscall, SYS_clock_gettime, SYS_getrandom, SYS_sched_yield, SYS_uname,
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
#endif
};

static int filter(void)
{
    enum { CALLS = sizeof passed / sizeof *passed };
    struct sock_filter code[CALLS + 3];

    code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++)
        code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)passed[i],
                                                   (unsigned char)(CALLS - i), 0);
    code[CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    code[CALLS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { CALLS + 3, code };
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE,
                        &program);
}

/* The command, whose calls are held up from here on. Its listener is taken from it: it may make no call to send it. */
static pid_t start(char **command, int *listener)
{
    int ready[2];
    volatile int number = -1;

    if (pipe2(ready, O_CLOEXEC) < 0)
        die("pipe2");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* a command that hangs ends with us */
        /* What the descriptor will be is known before: the lowest that is free. */
        int free_one = dup(0);
        if (write(ready[1], &free_one, sizeof free_one) != sizeof free_one)
            _exit(125);
        close(free_one);
        if (filter() != free_one)
            _exit(125);
        execv(command[0], command);
        _exit(127);
    }
    close(ready[1]);
    if (read(ready[0], (void *)&number, sizeof number) != sizeof number)
        die("the command's start");
    close(ready[0]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int try = 0;; try++) {
        /* Before the filter is there, the number may be the copy of 0, which is no listener. */
        *listener = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        char path[64], name[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", *listener);
        if (*listener >= 0 && readlink(path, name, sizeof name - 1) > 0 && strstr(name, "seccomp"))
            break;
        if (*listener >= 0)
            close(*listener);
        if (try == 10000)
            die("pidfd_getfd");
        usleep(200);
    }
    fcntl(*listener, F_SETFD, FD_CLOEXEC);
    close(pidfd);
    return pid;
}

static enum role role_of(const struct seccomp_notif *call)
{
    pid_t pid = (pid_t)call->pid;

    for (int i = 0; i < count; i++)
        if (known[i].pid == pid)
            return known[i].role;
    int seen = 0;
    for (int i = 0; i < count; i++)
        seen += known[i].role == SPAWNED || known[i].role == INIT;
    enum role role = count == 0 ? HOST : seen == 0 ? SPAWNED : seen == 1 ? INIT : OTHER;
    /* launcher/starting.h: what has the kernel's grace period begin closes everything first. */
    if (count && call->data.nr == SYS_close_range && call->data.args[0] == 0 && (unsigned)call->data.args[1] == ~0U)
        role = HELPER;
    if (count < MOST) {
        known[count].pid = pid;
        known[count++].role = role;
    }
    return role;
}

static char state_of(pid_t pid)
{
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    char *end = strrchr(text, ')');
    return end ? end[2] : 'X';
}

static void see_stopped(pid_t pid)
{
    for (int try = 0; try < TRIES; try++) {
        char state = state_of(pid);
        if (state == 'T' || state == 'X' || state == 'Z')
            return;
        usleep(1000);
    }
}

/* Returns the errno that the call is to fail with, or 0. */
static int act(const char *action, pid_t pid)
{
    if (!strcmp(action, "kill"))
        kill(pid, SIGKILL);
    else if (!strcmp(action, "stop") || !strcmp(action, "term"))
        kill(pid, SIGSTOP);
    return atoi(action);
}

static void serve(int listener, int report, const char *role, long number, const char *action, pid_t host)
{
    static long passed_calls;
    struct seccomp_notif call;
    struct seccomp_notif_resp answer;

    memset(&call, 0, sizeof call);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
        return; /* it was killed */
    memset(&answer, 0, sizeof answer);
    answer.id = call.id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    enum role whose = role_of(&call);
    int recording = !strcmp(action, "record"), hit = 0;
    if (recording)
        dprintf(report, "%s %d\n", roles[whose], call.data.nr);
    else if (!strcmp(roles[whose], role) && passed_calls++ == number) {
        hit = 1;
        dprintf(report, "hit %d\n", call.data.nr);
        int error = act(action, (pid_t)call.pid);
        if (error) {
            answer.flags = 0;
            answer.error = -error;
        }
    }
    if (hit && !strcmp(action, "kill"))
        return; /* an answer could be faster than the signal */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    if (!hit)
        return;
    if (!strcmp(action, "stop") || !strcmp(action, "term"))
        see_stopped((pid_t)call.pid);
    if (!strcmp(action, "stop"))
        kill((pid_t)call.pid, SIGCONT);
    if (!strcmp(action, "term"))
        kill(host, SIGTERM);
}

int main(int argc, char **argv)
{
    int listener = -1;

    if (argc < 6) {
        fprintf(stderr, "usage: injector REPORT ROLE NUMBER ACTION COMMAND [ARG...]\n");
        return 2;
    }
    int report = atoi(argv[1]);
    fcntl(report, F_SETFD, FD_CLOEXEC);
    pid_t host = start(argv + 5, &listener);
    int ended = (int)syscall(SYS_pidfd_open, host, 0);
    struct pollfd waited[] = { { listener, POLLIN, 0 }, { ended, POLLIN, 0 } };
    for (;;) {
        if (poll(waited, 2, -1) < 0 && errno != EINTR)
            die("poll");
        if (waited[0].revents & POLLIN)
            serve(listener, report, argv[2], atol(argv[3]), argv[4], host);
        else if (waited[1].revents) {
            int status;
            waitpid(host, &status, 0);
            dprintf(report, "exit %d\n", status);
            waited[1].fd = -1;
            waited[1].revents = 0;
        } else if (waited[1].fd < 0 && waited[0].revents & (POLLHUP | POLLERR))
            return 0; /* nobody has the filter any more */
    }
}
