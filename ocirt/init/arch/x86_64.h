/* x86_64: entry and the system call instruction (syscall(2), "Architecture calling conventions"). */
#define MACHINE MACHINE_X86_64
#define RELAX() __asm__ volatile("pause")

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call run\n");

static long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

enum {
    NR_read = 0,
    NR_write = 1,
    NR_close = 3,
    NR_lseek = 8,
    NR_mmap = 9,
    NR_rt_sigprocmask = 14,
    NR_nanosleep = 35,
    NR_sendmsg = 46,
    NR_execve = 59,
    NR_kill = 62,
    NR_getxattr = 191,
    NR_exit_group = 231,
    NR_readlinkat = 267,
    NR_faccessat = 269,
    NR_openat = 257,
    NR_clone3 = 435,
    NR_close_range = 436,
};
