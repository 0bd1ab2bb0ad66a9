/* A failing file system: counts what a process does to files below a root, and makes
 * the n-th of these calls fail, or kills the process there. Preloaded by tests alone.
 *
 * shim_arm(root, nth, mode): count from here on, and act at call number nth (from 1).
 *   mode > 0: the call fails with this error number; of a write, half is done first.
 *             All later calls that need space fail too where it is ENOSPC.
 *   mode < 0: the process is killed with SIGKILL; -1 before the call, -2 after it, and
 *             after half of a write in both.
 *   nth 0: only count.
 * shim_count(): calls so far. shim_disarm(): let all be.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[4096];
static size_t root_length;
static long nth, count;
static int mode, armed, full;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

void shim_arm(const char *below, long n, int how, int log)
{
    strncpy(root, below, sizeof root - 1);
    root_length = strlen(root);
    nth = n; mode = how; count = 0; full = 0; log_fd = log;
    armed = 1;
}

void shim_disarm(void) { armed = 0; }
long shim_count(void) { return count; }

static int below_root(const char *path)
{
    char whole[8192];
    if (!armed || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, 4096)) return 0;
        strcat(whole, "/");
        strncat(whole, path, 4000);
        path = whole;
    }
    return strncmp(path, root, root_length) == 0;
}

static int open_below(int fd)
{
    char link[64], path[4096];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below_root(path);
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* Count one call; return 1 where it must fail, and 2 where the process dies by it. */
static int turn(const char *name, const char *path, int takes_space)
{
    char line[5000];
    pthread_mutex_lock(&lock);
    long mine = ++count;
    int hit = nth > 0 && mine == nth;
    if (hit && mode == ENOSPC) full = 1;
    int also = full && takes_space && !hit;
    pthread_mutex_unlock(&lock);
    if (log_fd >= 0) {
        int n = snprintf(line, sizeof line, "%ld %s %s\n", mine, name, path ? path : "");
        REAL(write);
        if (real(log_fd, line, n) < 0) abort();
    }
    if (also) return 1;
    if (!hit) return 0;
    if (mode == -1 && takes_space != 2) die();
    return mode > 0 ? 1 : 2;
}

#define FAIL do { errno = full ? ENOSPC : mode; return -1; } while (0)

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define OPENER(name, call, params, path, args) \
int name params \
{ \
    mode_t m = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list list; va_start(list, flags); m = va_arg(list, mode_t); va_end(list); \
    } \
    REAL(name); \
    if (!writes(flags) || !below_root(path)) return real args; \
    int act = turn(call, path, 1); \
    if (act == 1) FAIL; \
    int fd = real args; \
    if (act == 2) die(); \
    return fd; \
}
OPENER(open, "open", (const char *p, int flags, ...), p, (p, flags, m))
OPENER(open64, "open", (const char *p, int flags, ...), p, (p, flags, m))
OPENER(openat, "open", (int d, const char *p, int flags, ...), p, (d, p, flags, m))
OPENER(openat64, "open", (int d, const char *p, int flags, ...), p, (d, p, flags, m))

#define WRITER(name, type, params, fd, half, args) \
type name params \
{ \
    REAL(name); \
    if (!open_below(fd)) return real args; \
    int act = turn(#name, NULL, 2); \
    if (act == 0) return real args; \
    if (!full || count == nth) { ssize_t done = half; (void)done; } \
    if (act == 2) die(); \
    FAIL; \
}
WRITER(write, ssize_t, (int fd, const void *b, size_t n), fd, real(fd, b, n / 2), (fd, b, n))
WRITER(pwrite, ssize_t, (int fd, const void *b, size_t n, off_t o), fd, real(fd, b, n / 2, o), (fd, b, n, o))
WRITER(pwrite64, ssize_t, (int fd, const void *b, size_t n, off64_t o), fd, real(fd, b, n / 2, o), (fd, b, n, o))
WRITER(writev, ssize_t, (int fd, const struct iovec *v, int n), fd, real(fd, v, 1), (fd, v, n))
WRITER(sendfile, ssize_t, (int fd, int in, off_t *o, size_t n), fd, real(fd, in, o, n / 2), (fd, in, o, n))
WRITER(sendfile64, ssize_t, (int fd, int in, off64_t *o, size_t n), fd, real(fd, in, o, n / 2), (fd, in, o, n))
WRITER(copy_file_range, ssize_t, (int in, off64_t *i, int fd, off64_t *o, size_t n, unsigned f), fd, real(in, i, fd, o, n / 2, f), (in, i, fd, o, n, f))

size_t fwrite(const void *b, size_t size, size_t n, FILE *file)
{
    REAL(fwrite);
    if (!file || !open_below(fileno(file))) return real(b, size, n, file);
    int act = turn("fwrite", NULL, 2);
    if (act == 0) return real(b, size, n, file);
    real(b, size, n / 2, file);
    fflush(file);
    if (act == 2) die();
    errno = full ? ENOSPC : mode;
    return n / 2;
}

#define CALL(name, params, where, space, args) \
int name params \
{ \
    REAL(name); \
    if (!(where)) return real args; \
    int act = turn(#name, NULL, space); \
    if (act == 1) FAIL; \
    int answer = real args; \
    if (act == 2) die(); \
    return answer; \
}
CALL(fsync, (int fd), open_below(fd), 1, (fd))
CALL(fdatasync, (int fd), open_below(fd), 1, (fd))
CALL(ftruncate, (int fd, off_t n), open_below(fd), 0, (fd, n))
CALL(ftruncate64, (int fd, off64_t n), open_below(fd), 0, (fd, n))
CALL(posix_fallocate, (int fd, off_t o, off_t n), open_below(fd), 1, (fd, o, n))
CALL(rename, (const char *a, const char *b), below_root(b), 1, (a, b))
CALL(renameat, (int d, const char *a, int e, const char *b), below_root(b), 1, (d, a, e, b))
CALL(renameat2, (int d, const char *a, int e, const char *b, unsigned f), below_root(b), 1, (d, a, e, b, f))
CALL(link, (const char *a, const char *b), below_root(b), 1, (a, b))
CALL(symlink, (const char *a, const char *b), below_root(b), 1, (a, b))
CALL(mkdir, (const char *p, mode_t m), below_root(p), 1, (p, m))
CALL(mkdirat, (int d, const char *p, mode_t m), below_root(p), 1, (d, p, m))
CALL(unlink, (const char *p), below_root(p), 0, (p))
CALL(rmdir, (const char *p), below_root(p), 0, (p))
CALL(unlinkat, (int d, const char *p, int f), p[0] == '/' ? below_root(p) : open_below(d), 0, (d, p, f))
