/* Makes the n-th system call of a kind fail, for paths below one folder; see faults.py.
 *
 * Loaded before libc (LD_PRELOAD). A process counts its own calls, and says
 * by faults_arm() which one is to fail; nothing fails before that. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, READ, FSYNC, RENAME, UNLINK, MKDIR, TRUNCATE, ALLOCATE, FLOCK, MMAP, CLOSE,
       LINK, CHMOD, THREAD, N_KINDS };
enum { NO, FAIL, SHORT };

static atomic_int armed;
static atomic_long counts[N_KINDS], fired;
static int the_kind, the_errno, is_short, lasts;
static long the_nth;
static char the_folder[PATH_MAX];
static size_t folder_len;

void faults_arm(const char *folder, int kind, long nth, int error, int shortens, int lasting) {
    strncpy(the_folder, folder, PATH_MAX - 1);
    folder_len = strlen(the_folder);
    the_kind = kind, the_nth = nth, the_errno = error, is_short = shortens, lasts = lasting;
    for (int k = 0; k < N_KINDS; k++) counts[k] = 0;
    fired = 0;
    armed = 1;
}
void faults_disarm(void) { armed = 0; }
long faults_fired(void) { return fired; }
long faults_count(int kind) { return counts[kind]; }

/* What to do with a call that is known to concern the folder. */
static int due(int kind) {
    long at = ++counts[kind];
    if (kind != the_kind || (lasts ? at < the_nth : at != the_nth)) return NO;
    fired++;
    if (is_short) return SHORT;
    errno = the_errno;
    return FAIL;
}
static int is_below(const char *path) {
    return !strncmp(path, the_folder, folder_len) &&
           (path[folder_len] == '/' || path[folder_len] == 0);
}
static int fd_is_below(int fd) {
    char link[64], path[PATH_MAX];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (n < 0) return 0;
    path[n] = 0;
    return is_below(path);
}
static int path_is_below(int folder, const char *path) {
    if (path[0] == '/') return is_below(path);
    if (folder != AT_FDCWD) return fd_is_below(folder);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && is_below(here);
}
static int at_path(int kind, int folder, const char *path) {
    return armed && path_is_below(folder, path) ? due(kind) : NO;
}
static int at_fd(int kind, int fd) { return armed && fd_is_below(fd) ? due(kind) : NO; }

#define REAL(name) \
    static typeof(&name) real; \
    if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name)

#define OPENER(name, folder, path, params, ...) \
    int name params { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); \
        } \
        return at_path(OPEN, folder, path) == FAIL ? -1 : real(__VA_ARGS__, flags, mode); \
    }
OPENER(open, AT_FDCWD, path, (const char *path, int flags, ...), path)
OPENER(open64, AT_FDCWD, path, (const char *path, int flags, ...), path)
OPENER(openat, fd, path, (int fd, const char *path, int flags, ...), fd, path)
OPENER(openat64, fd, path, (int fd, const char *path, int flags, ...), fd, path)
DIR *opendir(const char *path) {
    REAL(opendir);
    return at_path(OPEN, AT_FDCWD, path) == FAIL ? NULL : real(path);
}

/* Calls that move bytes: they fail, or move half of them. */
#define MOVER(kind, name, params, fd, ...) \
    ssize_t name params { \
        REAL(name); \
        int what = at_fd(kind, fd); \
        if (what == FAIL) return -1; \
        if (what == SHORT && n > 1) n /= 2; \
        return real(__VA_ARGS__); \
    }
MOVER(WRITE, write, (int fd, const void *b, size_t n), fd, fd, b, n)
MOVER(WRITE, pwrite, (int fd, const void *b, size_t n, off_t at), fd, fd, b, n, at)
MOVER(WRITE, pwrite64, (int fd, const void *b, size_t n, off64_t at), fd, fd, b, n, at)
MOVER(WRITE, sendfile, (int out, int in, off_t *at, size_t n), out, out, in, at, n)
MOVER(WRITE, sendfile64, (int out, int in, off64_t *at, size_t n), out, out, in, at, n)
MOVER(READ, read, (int fd, void *b, size_t n), fd, fd, b, n)
MOVER(READ, pread, (int fd, void *b, size_t n, off_t at), fd, fd, b, n, at)
MOVER(READ, pread64, (int fd, void *b, size_t n, off64_t at), fd, fd, b, n, at)

#define VECTOR(kind, name, params, ...) \
    ssize_t name params { \
        REAL(name); \
        struct iovec half; \
        int what = at_fd(kind, fd); \
        if (what == FAIL) return -1; \
        if (what == SHORT && n > 0 && v[0].iov_len > 1) { \
            half = v[0]; half.iov_len /= 2; v = &half; n = 1; \
        } \
        return real(__VA_ARGS__); \
    }
VECTOR(WRITE, pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
VECTOR(WRITE, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), fd, v, n, at)
VECTOR(WRITE, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int f), fd, v, n, at, f)
VECTOR(WRITE, pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int f),
       fd, v, n, at, f)
VECTOR(READ, preadv, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
VECTOR(READ, preadv64, (int fd, const struct iovec *v, int n, off64_t at), fd, v, n, at)
VECTOR(READ, preadv2, (int fd, const struct iovec *v, int n, off_t at, int f), fd, v, n, at, f)
VECTOR(READ, preadv64v2, (int fd, const struct iovec *v, int n, off64_t at, int f),
       fd, v, n, at, f)

/* Calls that are made or not. */
#define SIMPLE(kind, name, params, where, ...) \
    int name params { \
        REAL(name); \
        return where == FAIL ? -1 : real(__VA_ARGS__); \
    }
SIMPLE(FSYNC, fsync, (int fd), at_fd(FSYNC, fd), fd)
SIMPLE(FSYNC, fdatasync, (int fd), at_fd(FSYNC, fd), fd)
SIMPLE(FSYNC, syncfs, (int fd), at_fd(FSYNC, fd), fd)
SIMPLE(TRUNCATE, ftruncate, (int fd, off_t n), at_fd(TRUNCATE, fd), fd, n)
SIMPLE(TRUNCATE, ftruncate64, (int fd, off64_t n), at_fd(TRUNCATE, fd), fd, n)
SIMPLE(ALLOCATE, fallocate, (int fd, int m, off_t a, off_t n), at_fd(ALLOCATE, fd), fd, m, a, n)
SIMPLE(ALLOCATE, fallocate64, (int fd, int m, off64_t a, off64_t n), at_fd(ALLOCATE, fd),
       fd, m, a, n)
SIMPLE(FLOCK, flock, (int fd, int how), at_fd(FLOCK, fd), fd, how)
SIMPLE(RENAME, rename, (const char *a, const char *b), at_path(RENAME, AT_FDCWD, a), a, b)
SIMPLE(RENAME, renameat, (int x, const char *a, int y, const char *b), at_path(RENAME, x, a),
       x, a, y, b)
SIMPLE(RENAME, renameat2, (int x, const char *a, int y, const char *b, unsigned f),
       at_path(RENAME, x, a), x, a, y, b, f)
SIMPLE(UNLINK, unlink, (const char *a), at_path(UNLINK, AT_FDCWD, a), a)
SIMPLE(UNLINK, unlinkat, (int x, const char *a, int f), at_path(UNLINK, x, a), x, a, f)
SIMPLE(UNLINK, rmdir, (const char *a), at_path(UNLINK, AT_FDCWD, a), a)
SIMPLE(MKDIR, mkdir, (const char *a, mode_t m), at_path(MKDIR, AT_FDCWD, a), a, m)
SIMPLE(MKDIR, mkdirat, (int x, const char *a, mode_t m), at_path(MKDIR, x, a), x, a, m)
SIMPLE(LINK, link, (const char *a, const char *b), at_path(LINK, AT_FDCWD, b), a, b)
SIMPLE(LINK, linkat, (int x, const char *a, int y, const char *b, int f), at_path(LINK, y, b),
       x, a, y, b, f)
SIMPLE(LINK, symlink, (const char *a, const char *b), at_path(LINK, AT_FDCWD, b), a, b)
SIMPLE(CHMOD, chmod, (const char *a, mode_t m), at_path(CHMOD, AT_FDCWD, a), a, m)
SIMPLE(CHMOD, fchmod, (int fd, mode_t m), at_fd(CHMOD, fd), fd, m)
SIMPLE(CHMOD, fchmodat, (int x, const char *a, mode_t m, int f), at_path(CHMOD, x, a), x, a, m, f)

/* These return the number of the error. */
int posix_fallocate(int fd, off_t a, off_t n) {
    REAL(posix_fallocate);
    return at_fd(ALLOCATE, fd) == FAIL ? the_errno : real(fd, a, n);
}
int posix_fallocate64(int fd, off64_t a, off64_t n) {
    REAL(posix_fallocate64);
    return at_fd(ALLOCATE, fd) == FAIL ? the_errno : real(fd, a, n);
}
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    REAL(pthread_create);
    return armed && due(THREAD) == FAIL ? the_errno : real(t, a, f, x);
}

/* The descriptor is gone all the same, as Linux has it. */
int close(int fd) {
    REAL(close);
    int what = at_fd(CLOSE, fd), error = errno;
    int status = real(fd);
    if (what != FAIL) return status;
    errno = error;
    return -1;
}

void *mmap(void *a, size_t n, int p, int f, int fd, off_t at) {
    REAL(mmap);
    return fd >= 0 && at_fd(MMAP, fd) == FAIL ? MAP_FAILED : real(a, n, p, f, fd, at);
}
void *mmap64(void *a, size_t n, int p, int f, int fd, off64_t at) {
    REAL(mmap64);
    return fd >= 0 && at_fd(MMAP, fd) == FAIL ? MAP_FAILED : real(a, n, p, f, fd, at);
}
