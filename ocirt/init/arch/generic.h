/* The system call numbers that every architecture since 2012 shares (asm-generic/unistd.h). */
enum {
    NR_getxattr = 8,
    NR_faccessat = 48,
    NR_openat = 56,
    NR_close = 57,
    NR_lseek = 62,
    NR_read = 63,
    NR_write = 64,
    NR_readlinkat = 78,
    NR_exit_group = 94,
    NR_nanosleep = 101,
    NR_rt_sigprocmask = 135,
    NR_sendmsg = 211,
    NR_execve = 221,
    NR_mmap = 222,
    NR_clone3 = 435,
    NR_close_range = 436,
};
