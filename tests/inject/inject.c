/*
 * A C library that fails on demand, preloaded: LD_PRELOAD=inject.so. Rules are set by who loads the same file again and
 * calls inject().
 *
 * Two callers are told apart. What FFI calls it has found by dlsym(3) in a library it has opened; so dlsym is replaced,
 * and gives the functions below that end in _ours. What the runtime itself calls is bound to the plain names.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* As in inject.ts. */
enum { SENDFILE, SEND, DUP, PREAD, FSTAT, EPOLL_CTL, EPOLL_CREATE1, EPOLL_WAIT, EVENTFD, OPEN, ACCEPT4, FUNCTIONS };
enum { OURS, RUNTIMES, CALLERS };

static struct {
  atomic_long calls, hits;
  atomic_long from, to; /* the calls it is about, counted from 1; 0: none */
  atomic_int error;     /* the errno they fail with; 0: none */
  atomic_long most;     /* the most bytes they move; 0: as many as they can */
} rules[CALLERS][FUNCTIONS];

__attribute__((visibility("default"))) int inject(int caller, int function, int from, int times, int error,
                                                  int most) {
  atomic_store(&rules[caller][function].to, 0);
  atomic_store(&rules[caller][function].calls, 0);
  atomic_store(&rules[caller][function].hits, 0);
  atomic_store(&rules[caller][function].error, error);
  atomic_store(&rules[caller][function].most, most);
  atomic_store(&rules[caller][function].from, from);
  atomic_store(&rules[caller][function].to, from == 0 ? 0 : from + times - 1);
  return 0;
}

__attribute__((visibility("default"))) int inject_hits(int caller, int function) {
  return (int)atomic_load(&rules[caller][function].hits);
}

/* Whether this call fails; errno is set then. */
static int fails(int caller, int function, size_t *count) {
  long call = atomic_fetch_add(&rules[caller][function].calls, 1) + 1;
  if (call < atomic_load(&rules[caller][function].from) || call > atomic_load(&rules[caller][function].to)) return 0;
  atomic_fetch_add(&rules[caller][function].hits, 1);
  size_t most = (size_t)atomic_load(&rules[caller][function].most);
  if (most > 0 && count && *count > most) *count = most;
  errno = atomic_load(&rules[caller][function].error);
  return errno != 0;
}

typedef void *(*dlsym_t)(void *, const char *);

static dlsym_t real_dlsym(void) {
  static dlsym_t found;
  static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
  for (unsigned i = 0; !found && i < sizeof versions / sizeof *versions; i++) {
    found = (dlsym_t)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
  }
  return found;
}

static void *next(const char *name) {
  return real_dlsym()(RTLD_NEXT, name);
}

/* The next library's function of this name, in a variable of the type that the function has here. */
#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)next(#name)

#define EXPORT __attribute__((visibility("default")))

static ssize_t sendfile_as(int caller, int out, int in, off_t *offset, size_t count) {
  static ssize_t (*real)(int, int, off_t *, size_t);
  if (!real) real = (ssize_t (*)(int, int, off_t *, size_t))next("sendfile");
  return fails(caller, SENDFILE, &count) ? -1 : real(out, in, offset, count);
}
EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  return sendfile_as(RUNTIMES, out, in, offset, count);
}
static ssize_t sendfile_ours(int out, int in, off_t *offset, size_t count) {
  return sendfile_as(OURS, out, in, offset, count);
}

static ssize_t send_as(int caller, int fd, const void *bytes, size_t count, int flags) {
  REAL(send);
  return fails(caller, SEND, &count) ? -1 : real(fd, bytes, count, flags);
}
EXPORT ssize_t send(int fd, const void *bytes, size_t count, int flags) {
  return send_as(RUNTIMES, fd, bytes, count, flags);
}
static ssize_t send_ours(int fd, const void *bytes, size_t count, int flags) {
  return send_as(OURS, fd, bytes, count, flags);
}

static ssize_t pread_as(int caller, int fd, void *into, size_t count, off_t at) {
  static ssize_t (*real)(int, void *, size_t, off_t);
  if (!real) real = (ssize_t (*)(int, void *, size_t, off_t))next("pread64");
  return fails(caller, PREAD, &count) ? -1 : real(fd, into, count, at);
}
EXPORT ssize_t pread64(int fd, void *into, size_t count, off_t at) {
  return pread_as(RUNTIMES, fd, into, count, at);
}
EXPORT ssize_t pread(int fd, void *into, size_t count, off_t at) {
  return pread_as(RUNTIMES, fd, into, count, at);
}
static ssize_t pread_ours(int fd, void *into, size_t count, off_t at) {
  return pread_as(OURS, fd, into, count, at);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
  REAL(accept4);
  return fails(RUNTIMES, ACCEPT4, NULL) ? -1 : real(fd, address, length, flags);
}

/* Of the runtime's only those of the tests' folders. */
static int open_as(int caller, const char *path, int flags, int mode) {
  static int (*real)(const char *, int, ...);
  if (!real) real = (int (*)(const char *, int, ...))next("open64");
  if (caller == RUNTIMES && !strstr(path, "/sendfile-")) return real(path, flags, mode);
  return fails(caller, OPEN, NULL) ? -1 : real(path, flags, mode);
}
static int open_by_runtime(const char *path, int flags, va_list *more) {
  return open_as(RUNTIMES, path, flags, flags & (O_CREAT | __O_TMPFILE) ? va_arg(*more, int) : 0);
}
EXPORT int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  int fd = open_by_runtime(path, flags, &more);
  va_end(more);
  return fd;
}
EXPORT int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  int fd = open_by_runtime(path, flags, &more);
  va_end(more);
  return fd;
}
static int open_ours(const char *path, int flags, int mode) {
  return open_as(OURS, path, flags, mode);
}

/* The rest is this package's alone: the runtimes call the same, and cannot live without. */

static int fcntl_ours(int fd, int command, int argument) {
  static int (*real)(int, int, ...);
  if (!real) real = (int (*)(int, int, ...))next("fcntl");
  return command == F_DUPFD_CLOEXEC && fails(OURS, DUP, NULL) ? -1 : real(fd, command, argument);
}

static long syscall_ours(long number, long a, long b, long c, long d, long e, long f) {
  static long (*real)(long, ...);
  if (!real) real = (long (*)(long, ...))next("syscall");
  return number == SYS_fstat && fails(OURS, FSTAT, NULL) ? -1 : real(number, a, b, c, d, e, f);
}

static int epoll_ctl_ours(int epoll, int op, int fd, struct epoll_event *event) {
  REAL(epoll_ctl);
  return fails(OURS, EPOLL_CTL, NULL) ? -1 : real(epoll, op, fd, event);
}

static int epoll_create1_ours(int flags) {
  REAL(epoll_create1);
  return fails(OURS, EPOLL_CREATE1, NULL) ? -1 : real(flags);
}

static int epoll_wait_ours(int epoll, struct epoll_event *events, int most, int timeout) {
  REAL(epoll_wait);
  return fails(OURS, EPOLL_WAIT, NULL) ? -1 : real(epoll, events, most, timeout);
}

static int eventfd_ours(unsigned count, int flags) {
  static int (*real)(unsigned, int);
  if (!real) real = (int (*)(unsigned, int))next("eventfd");
  return fails(OURS, EVENTFD, NULL) ? -1 : real(count, flags);
}

static const struct {
  const char *name;
  void *function;
} ours[] = {
    {"sendfile", (void *)sendfile_ours},
    {"send", (void *)send_ours},
    {"pread", (void *)pread_ours},
    {"fcntl", (void *)fcntl_ours},
    {"syscall", (void *)syscall_ours},
    {"epoll_ctl", (void *)epoll_ctl_ours},
    {"epoll_create1", (void *)epoll_create1_ours},
    {"epoll_wait", (void *)epoll_wait_ours},
    {"eventfd", (void *)eventfd_ours},
    {"open", (void *)open_ours},
};

EXPORT void *dlsym(void *handle, const char *name) {
  /* Rust's standard library looks for what is new in the C library among all that is loaded. */
  if (handle != RTLD_DEFAULT && handle != RTLD_NEXT) {
    for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++) {
      if (strcmp(name, ours[i].name) == 0) return ours[i].function;
    }
  }
  return real_dlsym()(handle, name);
}
