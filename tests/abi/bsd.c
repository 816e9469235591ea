/*
 * A C library for Linux with the calls, structs and numbers of Darwin (-DDARWIN) or FreeBSD 12+ (-DFREEBSD), as far
 * as ffi/darwin.ts, ffi/freebsd.ts and ffi/libc.ts use them; and knobs (abi_...) by which a test makes sendfile
 * behave as those kernels can, and asks what was called.
 *
 * Written from the systems' headers and the kernels' own sendfile (xnu bsd/kern/uipc_syscalls.c, FreeBSD
 * sys/kern/kern_sendfile.c), not from the TypeScript, which it is there to check.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if defined(DARWIN) == defined(FREEBSD)
#error "exactly one of DARWIN and FREEBSD"
#endif

/*
 * Functions get their BSD names by an assembler label, for the names have other types in Linux's headers. Nothing
 * here may call libc by one of these names: the system calls behind them are made directly.
 */
#define EXPORT(symbol) __asm__(symbol) __attribute__((visibility("default")))

/* ---- errno ---- */

static const struct {
  int linux_number, bsd;
} errors[] = {
  {EPERM, 1}, {ENOENT, 2}, {EINTR, 4}, {EIO, 5}, {EBADF, 9}, {ENOMEM, 12}, {EACCES, 13}, {EFAULT, 14},
  {EBUSY, 16}, {EEXIST, 17}, {EXDEV, 18}, {EINVAL, 22}, {ENFILE, 23}, {EMFILE, 24}, {ENOSPC, 28}, {ESPIPE, 29},
  {EPIPE, 32}, {EAGAIN, 35}, {ENOTSOCK, 38}, {ENOPROTOOPT, 42}, {ENETUNREACH, 51}, {ECONNABORTED, 53},
  {ECONNRESET, 54}, {ENOBUFS, 55}, {ENOTCONN, 57}, {ETIMEDOUT, 60}, {EHOSTUNREACH, 65}, {ENOSYS, 78},
  {EOVERFLOW, 84},
#ifdef DARWIN
  {EOPNOTSUPP, 102},
#else
  {EOPNOTSUPP, 45},
#endif
};

enum { BSD_EINVAL = 22, BSD_ENOTSOCK = 38, BSD_ENOPROTOOPT = 42, BSD_ENOTSUP = 45 };

static __thread int bsd_errno;

int *bsd_error(void) EXPORT("__error");
int *bsd_error(void) { return &bsd_errno; }

static int fail(int bsd) {
  bsd_errno = bsd;
  return -1;
}

static int translate(int number) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].linux_number == number) return errors[i].bsd;
  return 1000 + number; /* a name nobody expects */
}

/* The result of a system call, with the errno translated. */
static long done(long result) {
  if (result < 0) bsd_errno = translate(errno);
  return result;
}

/* ---- what the tests see ---- */

/* Arguments that no caller should ever make. */
static long complaints;

static void complain(const char *what) {
  __atomic_add_fetch(&complaints, 1, __ATOMIC_SEQ_CST);
  static const char prefix[] = "\nabi/bsd.c: ";
  syscall(SYS_write, 2, prefix, sizeof prefix - 1);
  syscall(SYS_write, 2, what, strlen(what));
  syscall(SYS_write, 2, "\n", 1);
}

#define CALLS 4096

/* What a call of sendfile is to come to, by its number (the first is 1). */
static struct {
  int error;
  long partial;
} plans[CALLS];

/* What calls of sendfile were asked, and moved. */
static struct {
  int64_t offset, count, moved;
} made[CALLS];

static long calls;
static int64_t inode_base;

/* In order: C cork, U uncork, S send, F sendfile; only what succeeded, or moved something. */
static char history[CALLS];
static size_t history_length;

static void note(char what) {
  if (history_length < sizeof history) history[history_length++] = what;
}

#define KNOB __attribute__((visibility("default")))

KNOB int abi_reset(void);
KNOB int abi_script(int call, int error, long partial);
KNOB int abi_calls(void);
KNOB int abi_call(int call, int64_t *out);
KNOB int abi_complaints(void);
KNOB int abi_history(char *out, size_t size);
KNOB int abi_inode_base(int64_t base);
KNOB int abi_pair(int *fds, int buffers);
KNOB int abi_queues(void);
KNOB int abi_knotes(void);
KNOB int abi_inside(void);

int abi_reset(void) {
  memset(plans, 0, sizeof plans);
  memset(made, 0, sizeof made);
  calls = complaints = inode_base = 0;
  history_length = 0;
  return 0;
}

/*
 * Makes sendfile's call number `call` return -1 with the BSD errno `error` after it has sent `partial` bytes (all
 * that was asked for, where that is less). -1: it sends nothing and leaves the count as it was, as where a filter
 * of system calls turns the call away before sendfile begins.
 */
int abi_script(int call, int error, long partial) {
  if (call < 1 || call >= CALLS) return -1;
  plans[call].error = error;
  plans[call].partial = partial;
  return 0;
}

/* Calls of sendfile. */
int abi_calls(void) { return (int)calls; }

/* Of one call: offset, count, and the bytes it moved. */
int abi_call(int call, int64_t *out) {
  if (call < 1 || call > calls || call >= CALLS) return -1;
  out[0] = made[call].offset;
  out[1] = made[call].count;
  out[2] = made[call].moved;
  return 0;
}

int abi_complaints(void) { return (int)__atomic_load_n(&complaints, __ATOMIC_SEQ_CST); }

/* Bytes written to `out`. */
int abi_history(char *out, size_t size) {
  size_t length = history_length < size ? history_length : size;
  memcpy(out, history, length);
  return (int)length;
}

/* Added to every st_ino: no file here has one of more than 32 bits. */
int abi_inode_base(int64_t base) {
  inode_base = base;
  return 0;
}

/*
 * A TCP connection that neither end's runtime knows, so that nobody else reads it: both ends, non-blocking.
 * `buffers`: bytes of both ends' buffers; 0: the system's own.
 */
int abi_pair(int *fds, int buffers) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  /* Before the connection: its window is told to the peer with it. */
  for (int i = 0; i < 2 && buffers != 0; i++) {
    syscall(SYS_setsockopt, i ? listener : connected, SOL_SOCKET, SO_SNDBUF, &buffers, sizeof buffers);
    syscall(SYS_setsockopt, i ? listener : connected, SOL_SOCKET, SO_RCVBUF, &buffers, sizeof buffers);
  }
  fds[0] = fds[1] = -1;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0 &&
      syscall(SYS_getsockname, listener, &address, &length) == 0 &&
      connect(connected, (struct sockaddr *)&address, sizeof address) == 0) {
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    fds[0] = connected;
    syscall(SYS_fcntl, connected, F_SETFL, O_RDWR | O_NONBLOCK);
  }
  syscall(SYS_close, listener);
  return fds[1] < 0 ? -1 : 0;
}

/* ---- sendfile ---- */

/* Why the kernel turns the call away before it moves anything; 0 where it does not. */
static int refusal(int fd, int s, int64_t offset, int flags) {
  struct stat status;
  int type;
  socklen_t length = sizeof type;
  struct sockaddr_storage peer;
  socklen_t peer_length = sizeof peer;
  if (syscall(SYS_fstat, fd, &status) < 0) return translate(errno);
#ifdef DARWIN
  if (!S_ISREG(status.st_mode)) return BSD_ENOTSUP;
#else
  if (!S_ISREG(status.st_mode)) return BSD_EINVAL;
#endif
  if (syscall(SYS_getsockopt, s, SOL_SOCKET, SO_TYPE, &type, &length) < 0) return translate(errno);
  if (type != SOCK_STREAM) return BSD_EINVAL;
  if (syscall(SYS_getpeername, s, &peer, &peer_length) < 0) return translate(errno);
  if (offset < 0 || flags != 0) return BSD_EINVAL;
  return 0;
}

/* Sends until `count` is reached (0: none), the file ends or the socket is full. Returns a Linux errno. */
static int transmit(int fd, int s, int64_t offset, int64_t count, int64_t *moved) {
  off_t position = offset;
  while (count == 0 || *moved < count) {
    size_t rest = count == 0 ? 1 << 30 : (size_t)(count - *moved);
    long sent = syscall(SYS_sendfile, s, fd, &position, rest);
    if (sent < 0) return errno;
    if (sent == 0) return 0;
    *moved += sent;
  }
  return 0;
}

/* What both have in common. `report`: whether the kernel gets as far as writing the count. */
static int send_file(int fd, int s, int64_t offset, int64_t count, const void *hdtr, int flags, int64_t *moved,
                     int *report) {
  *moved = 0;
  *report = 1;
  if (count == 0) complain("sendfile: count 0 means all to the end of the file");
  if (count < 0) complain("sendfile: negative count");
  if (offset < 0) complain("sendfile: negative offset");
  if (hdtr != NULL) complain("sendfile: headers");
  if (flags != 0) complain("sendfile: flags");
  long call = ++calls;
  if (call >= CALLS) return fail(translate(ENOSYS));
  int planned = plans[call].error;
  long partial = plans[call].partial;
  made[call].offset = offset;
  made[call].count = count;
  if (planned != 0 && partial < 0) {
    *report = 0;
    return fail(planned);
  }
  int error = refusal(fd, s, offset, flags);
  if (error != 0) return fail(error);
  if (planned != 0 && partial < count) count = partial;
  int stopped = planned != 0 && count == 0 ? 0 : transmit(fd, s, offset, count, moved);
  made[call].moved = *moved;
  if (*moved > 0) note('F');
  if (planned != 0) return fail(planned);
  return stopped == 0 ? 0 : fail(translate(stopped));
}

#ifdef DARWIN
int bsd_sendfile(int fd, int s, int64_t offset, int64_t *len, void *hdtr, int flags) EXPORT("sendfile");
int bsd_sendfile(int fd, int s, int64_t offset, int64_t *len, void *hdtr, int flags) {
  int64_t moved;
  int report;
  int result = send_file(fd, s, offset, *len, hdtr, flags, &moved, &report);
  if (report) *len = moved; /* whatever the result: xnu copies out at its very end */
  return result;
}
#else
int bsd_sendfile(int fd, int s, int64_t offset, size_t nbytes, void *hdtr, int64_t *sbytes, int flags)
  EXPORT("sendfile");
int bsd_sendfile(int fd, int s, int64_t offset, size_t nbytes, void *hdtr, int64_t *sbytes, int flags) {
  int64_t moved;
  int report;
  int result = send_file(fd, s, offset, (int64_t)nbytes, hdtr, flags, &moved, &report);
  if (report && sbytes != NULL) *sbytes = moved;
  return result;
}
#endif

/* ---- fstat ---- */

struct bsd_timespec {
  int64_t seconds, nanoseconds;
};

#ifdef DARWIN
struct bsd_stat {
  int32_t st_dev;
  uint16_t st_mode, st_nlink;
  uint64_t st_ino;
  uint32_t st_uid, st_gid;
  int32_t st_rdev;
  struct bsd_timespec st_atim, st_mtim, st_ctim, st_birthtim;
  int64_t st_size, st_blocks;
  int32_t st_blksize;
  uint32_t st_flags, st_gen;
  int32_t st_lspare;
  int64_t st_qspare[2];
};
_Static_assert(sizeof(struct bsd_stat) == 144, "struct stat of Darwin with 64-bit inodes");
#ifdef __x86_64__
#define FSTAT "fstat$INODE64"
#else
#define FSTAT "fstat"
#endif
#else
struct bsd_stat {
  uint64_t st_dev, st_ino, st_nlink;
  uint16_t st_mode;
  int16_t st_padding0;
  uint32_t st_uid, st_gid;
  int32_t st_padding1;
  uint64_t st_rdev;
  struct bsd_timespec st_atim, st_mtim, st_ctim, st_birthtim;
  int64_t st_size, st_blocks;
  int32_t st_blksize;
  uint32_t st_flags;
  uint64_t st_gen, st_spare[10];
};
_Static_assert(sizeof(struct bsd_stat) == 224, "struct stat of FreeBSD 12");
#define FSTAT "fstat"
#endif

int bsd_fstat(int fd, struct bsd_stat *out) EXPORT(FSTAT);
int bsd_fstat(int fd, struct bsd_stat *out) {
  struct stat from;
  if (done(syscall(SYS_fstat, fd, &from)) < 0) return -1;
  memset(out, 0xa5, sizeof *out); /* a field read from a wrong place shows */
  out->st_dev = from.st_dev;
  out->st_ino = from.st_ino + (uint64_t)inode_base;
  out->st_mode = (uint16_t)from.st_mode;
  out->st_nlink = (uint16_t)from.st_nlink;
  out->st_uid = from.st_uid;
  out->st_gid = from.st_gid;
  out->st_rdev = from.st_rdev;
  out->st_mtim.seconds = from.st_mtim.tv_sec;
  out->st_mtim.nanoseconds = from.st_mtim.tv_nsec;
  out->st_ctim.seconds = from.st_ctim.tv_sec;
  out->st_ctim.nanoseconds = from.st_ctim.tv_nsec;
  out->st_size = from.st_size;
  out->st_blocks = from.st_blocks;
  out->st_blksize = (int32_t)from.st_blksize;
  return 0;
}

/* ---- fcntl ---- */

enum { BSD_F_DUPFD = 0, BSD_F_GETFD = 1, BSD_F_GETFL = 3, BSD_O_NONBLOCK = 0x4, BSD_O_APPEND = 0x8 };
#ifdef DARWIN
enum { BSD_F_DUPFD_CLOEXEC = 67 };
#else
enum { BSD_F_DUPFD_CLOEXEC = 17 };
#endif

static int control(int fd, int command, long argument) {
  long flags;
  switch (command) {
    case BSD_F_DUPFD:
      return (int)done(syscall(SYS_fcntl, fd, F_DUPFD, argument));
    case BSD_F_DUPFD_CLOEXEC:
      return (int)done(syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, argument));
    case BSD_F_GETFD:
      return (int)done(syscall(SYS_fcntl, fd, F_GETFD));
    case BSD_F_GETFL:
      flags = done(syscall(SYS_fcntl, fd, F_GETFL));
      if (flags < 0) return -1;
      return (int)(flags & O_ACCMODE) | (flags & O_NONBLOCK ? BSD_O_NONBLOCK : 0) |
             (flags & O_APPEND ? BSD_O_APPEND : 0);
    default:
      complain("fcntl: no such command");
      return fail(BSD_EINVAL);
  }
}

#ifdef DARWIN
/*
 * A variadic argument is where the caller of a variadic function puts it: on Darwin's arm64 the first place on the
 * stack, which here is the ninth argument; on x86-64 the third register.
 */
int bsd_fcntl(int fd, int command, long third, long a, long b, long c, long d, long e, long ninth)
  EXPORT("fcntl");
int bsd_fcntl(int fd, int command, long third, long a, long b, long c, long d, long e, long ninth) {
  if (third != ninth) complain("fcntl: the argument is not in both places");
  if ((a | b | c | d | e) != 0) complain("fcntl: more than one argument");
  return control(fd, command, ninth);
}
#else
int bsd_fcntl(int fd, int command, ...) EXPORT("fcntl");
int bsd_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  int argument = va_arg(arguments, int);
  va_end(arguments);
  return control(fd, command, argument);
}
#endif

/* ---- sockets ---- */

enum {
  BSD_AF_UNIX = 1,
  BSD_AF_INET = 2,
#ifdef DARWIN
  BSD_AF_INET6 = 30,
  BSD_MSG_NOSIGNAL = 0x80000,
#else
  BSD_AF_INET6 = 28,
  BSD_MSG_NOSIGNAL = 0x20000,
#endif
  BSD_MSG_DONTWAIT = 0x80,
  BSD_SOL_SOCKET = 0xffff,
  BSD_SO_SNDBUF = 0x1001,
  BSD_SO_RCVBUF = 0x1002,
  BSD_SO_ERROR = 0x1007,
  BSD_SO_TYPE = 0x1008,
  BSD_TCP_NODELAY = 1,
  BSD_TCP_NOPUSH = 4,
};

static int give_address(long call, int fd, uint8_t *out, uint32_t *out_length) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
  } from;
  socklen_t length = sizeof from;
  memset(&from, 0, sizeof from);
  if (done(syscall(call, fd, &from, &length)) < 0) return -1;
  uint8_t to[256] = {0};
  uint8_t size = 16;
  /* Both begin with two bytes that Linux uses for the family; behind them Linux and BSD have the same layout. */
  memcpy(to, &from, length < sizeof to ? length : sizeof to);
  switch (from.any.sa_family) {
    case AF_INET:
      to[1] = BSD_AF_INET;
      break;
    case AF_INET6:
      to[1] = BSD_AF_INET6;
      size = 28;
      break;
    default:
      to[1] = BSD_AF_UNIX;
      size = 106;
  }
  to[0] = size; /* sa_len */
  memcpy(out, to, size < *out_length ? size : *out_length);
  *out_length = size;
  return 0;
}

int bsd_getsockname(int fd, uint8_t *address, uint32_t *length) EXPORT("getsockname");
int bsd_getsockname(int fd, uint8_t *address, uint32_t *length) {
  return give_address(SYS_getsockname, fd, address, length);
}

int bsd_getpeername(int fd, uint8_t *address, uint32_t *length) EXPORT("getpeername");
int bsd_getpeername(int fd, uint8_t *address, uint32_t *length) {
  return give_address(SYS_getpeername, fd, address, length);
}

/* A BSD option as Linux's; 0 where it is none of those known here. */
static int option(int level, int name, int *linux_level, int *linux_name) {
  *linux_level = level == BSD_SOL_SOCKET ? SOL_SOCKET : IPPROTO_TCP;
  *linux_name = 0;
  if (level == BSD_SOL_SOCKET) {
    if (name == BSD_SO_SNDBUF) *linux_name = SO_SNDBUF;
    if (name == BSD_SO_RCVBUF) *linux_name = SO_RCVBUF;
    if (name == BSD_SO_ERROR) *linux_name = SO_ERROR;
    if (name == BSD_SO_TYPE) *linux_name = SO_TYPE;
  } else if (level == IPPROTO_TCP) {
    if (name == BSD_TCP_NODELAY) *linux_name = TCP_NODELAY;
    if (name == BSD_TCP_NOPUSH) *linux_name = TCP_CORK;
  }
  if (*linux_name == 0) complain("socket option of another system");
  return *linux_name;
}

int bsd_getsockopt(int fd, int level, int name, void *value, uint32_t *length) EXPORT("getsockopt");
int bsd_getsockopt(int fd, int level, int name, void *value, uint32_t *length) {
  int linux_level, linux_name;
  if (!option(level, name, &linux_level, &linux_name)) return fail(BSD_ENOPROTOOPT);
  return (int)done(syscall(SYS_getsockopt, fd, linux_level, linux_name, value, length));
}

int bsd_setsockopt(int fd, int level, int name, const int *value, uint32_t length) EXPORT("setsockopt");
int bsd_setsockopt(int fd, int level, int name, const int *value, uint32_t length) {
  int linux_level, linux_name;
  if (!option(level, name, &linux_level, &linux_name)) return fail(BSD_ENOPROTOOPT);
  if (length != sizeof *value) complain("setsockopt: not an int");
  long result = done(syscall(SYS_setsockopt, fd, linux_level, linux_name, value, length));
  if (result == 0 && linux_level == IPPROTO_TCP && linux_name == TCP_CORK) note(*value ? 'C' : 'U');
  return (int)result;
}

ssize_t bsd_send(int fd, const void *bytes, size_t length, int flags) EXPORT("send");
ssize_t bsd_send(int fd, const void *bytes, size_t length, int flags) {
  int linux_flags = (flags & BSD_MSG_DONTWAIT ? MSG_DONTWAIT : 0) | (flags & BSD_MSG_NOSIGNAL ? MSG_NOSIGNAL : 0);
  if (flags & ~(BSD_MSG_DONTWAIT | BSD_MSG_NOSIGNAL)) complain("send: flags of another system");
  if (!(flags & BSD_MSG_DONTWAIT)) complain("send: may block");
  long sent = done(syscall(SYS_sendto, fd, bytes, length, linux_flags, NULL, 0));
  if (sent >= 0) note('S');
  return sent;
}

int bsd_shutdown(int fd, int how) EXPORT("shutdown");
int bsd_shutdown(int fd, int how) { return (int)done(syscall(SYS_shutdown, fd, how)); }

int bsd_inet_pton(int family, const char *text, void *out) EXPORT("inet_pton");
int bsd_inet_pton(int family, const char *text, void *out) {
  int (*next)(int, const char *, void *);
  *(void **)&next = dlsym(RTLD_NEXT, "inet_pton");
  if (family != BSD_AF_INET && family != BSD_AF_INET6) {
    complain("inet_pton: address family of another system");
    return fail(translate(EOPNOTSUPP));
  }
  return next(family == BSD_AF_INET ? AF_INET : AF_INET6, text, out);
}

int bsd_poll(struct pollfd *fds, unsigned count, int timeout) EXPORT("poll");
int bsd_poll(struct pollfd *fds, unsigned count, int timeout) {
  struct timespec time = {.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
  return (int)done(syscall(SYS_ppoll, fds, (unsigned long)count, timeout < 0 ? NULL : &time, NULL, 0));
}

/* ---- bytes ---- */

void *bsd_memcpy(void *to, const void *from, size_t length) EXPORT("memcpy");
void *bsd_memcpy(void *to, const void *from, size_t length) { return memmove(to, from, length); }

ssize_t bsd_read(int fd, void *into, size_t length) EXPORT("read");
ssize_t bsd_read(int fd, void *into, size_t length) { return done(syscall(SYS_read, fd, into, length)); }

ssize_t bsd_pread(int fd, void *into, size_t length, int64_t offset) EXPORT("pread");
ssize_t bsd_pread(int fd, void *into, size_t length, int64_t offset) {
  if (offset < 0) complain("pread: negative offset");
  return done(syscall(SYS_pread64, fd, into, length, offset));
}

ssize_t bsd_write(int fd, const void *from, size_t length) EXPORT("write");
ssize_t bsd_write(int fd, const void *from, size_t length) {
  return done(syscall(SYS_write, fd, from, length));
}

int bsd_getdtablesize(void) EXPORT("getdtablesize");
int bsd_getdtablesize(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int)limit.rlim_cur;
}

/* ---- kqueue, over epoll ---- */

struct bsd_kevent {
  uintptr_t ident;
  int16_t filter;
  uint16_t flags;
  uint32_t fflags;
  int64_t data;
  void *udata;
#ifdef FREEBSD
  uint64_t ext[4];
#endif
};

enum {
  EVFILT_READ = -1,
  EVFILT_WRITE = -2,
#ifdef DARWIN
  EVFILT_USER = -10,
#else
  EVFILT_USER = -11, /* -10 is EVFILT_LIO */
#endif
  EV_ADD = 0x1,
  EV_DELETE = 0x2,
  EV_ONESHOT = 0x10,
  EV_CLEAR = 0x20,
  EV_EOF = 0x8000,
  NOTE_TRIGGER = 0x01000000,
};

#ifdef DARWIN
_Static_assert(sizeof(struct bsd_kevent) == 32, "struct kevent of Darwin");
#else
_Static_assert(sizeof(struct bsd_kevent) == 64, "struct kevent of FreeBSD 12");
#endif

#define QUEUES 64
#define KNOTES 256

struct knote {
  int used;
  uintptr_t ident;
  int16_t filter;
  uint16_t flags;
  void *udata;
};

static struct queue {
  int used;
  int epoll;
  int trigger; /* the eventfd behind EVFILT_USER */
  int inside;  /* threads that wait */
  struct knote knotes[KNOTES];
} queues[QUEUES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct queue *find_queue(int fd) {
  for (int i = 0; i < QUEUES; i++)
    if (queues[i].used && queues[i].epoll == fd) return &queues[i];
  return NULL;
}

static struct knote *find_knote(struct queue *queue, uintptr_t ident, int filter) {
  for (int i = 0; i < KNOTES; i++) {
    struct knote *knote = &queue->knotes[i];
    if (knote->used && knote->ident == ident && knote->filter == filter) return knote;
  }
  return NULL;
}

/* Tells epoll what the knotes of `fd` ask for. Returns a Linux errno. */
static int rearm(struct queue *queue, int fd) {
  struct epoll_event event = {.data.u64 = (uint64_t)fd};
  if (find_knote(queue, (uintptr_t)fd, EVFILT_READ)) event.events |= EPOLLIN | EPOLLRDHUP;
  if (find_knote(queue, (uintptr_t)fd, EVFILT_WRITE)) event.events |= EPOLLOUT;
  if (event.events == 0) {
    epoll_ctl(queue->epoll, EPOLL_CTL_DEL, fd, NULL);
    return 0;
  }
  if (epoll_ctl(queue->epoll, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
  return epoll_ctl(queue->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

int abi_queues(void) {
  int count = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < QUEUES; i++) count += queues[i].used;
  pthread_mutex_unlock(&lock);
  return count;
}

/* Filters on descriptors, in all queues. */
int abi_knotes(void) {
  int count = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < QUEUES; i++)
    for (int j = 0; queues[i].used && j < KNOTES; j++)
      count += queues[i].knotes[j].used && queues[i].knotes[j].filter != EVFILT_USER;
  pthread_mutex_unlock(&lock);
  return count;
}

/* Threads that wait, in all queues. */
int abi_inside(void) {
  int count = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < QUEUES; i++) count += queues[i].used ? queues[i].inside : 0;
  pthread_mutex_unlock(&lock);
  return count;
}

int bsd_kqueue(void) EXPORT("kqueue");
int bsd_kqueue(void) {
  int result = -1;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < QUEUES && result < 0; i++) {
    if (queues[i].used) continue;
    memset(&queues[i], 0, sizeof queues[i]);
    queues[i].epoll = result = epoll_create1(EPOLL_CLOEXEC);
    queues[i].trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queues[i].used = 1;
  }
  pthread_mutex_unlock(&lock);
  return result >= 0 ? result : fail(translate(EMFILE));
}

int bsd_close(int fd) EXPORT("close");
int bsd_close(int fd) {
  pthread_mutex_lock(&lock);
  struct queue *queue = find_queue(fd);
  if (queue) {
    if (queue->inside) complain("close: a thread still waits in this kqueue");
    syscall(SYS_close, queue->trigger);
    queue->used = 0;
  }
  /* A closed descriptor's knotes go, in every queue. */
  for (int i = 0; i < QUEUES; i++) {
    if (!queues[i].used) continue;
    for (int j = 0; j < KNOTES; j++) {
      struct knote *knote = &queues[i].knotes[j];
      if (!knote->used || knote->filter == EVFILT_USER || knote->ident != (uintptr_t)fd) continue;
      knote->used = 0;
      rearm(&queues[i], fd);
    }
  }
  long result = done(syscall(SYS_close, fd));
  pthread_mutex_unlock(&lock);
  return (int)result;
}

static struct knote *new_knote(struct queue *queue, const struct bsd_kevent *change) {
  for (int i = 0; i < KNOTES; i++) {
    struct knote *knote = &queue->knotes[i];
    if (knote->used) continue;
    *knote = (struct knote){.used = 1, .ident = change->ident, .filter = change->filter};
    return knote;
  }
  return NULL;
}

#define TRIGGER UINT64_MAX

/* One change. Returns a Linux errno. */
static int apply(struct queue *queue, const struct bsd_kevent *change) {
  const int user = change->filter == EVFILT_USER;
  const int fd = (int)change->ident;
  if (!user && change->filter != EVFILT_READ && change->filter != EVFILT_WRITE) {
    complain("kevent: no such filter");
    return EINVAL;
  }
  if (change->flags & ~(EV_ADD | EV_DELETE | EV_ONESHOT | EV_CLEAR)) complain("kevent: unknown flags");
  if (!user && (change->ident > INT32_MAX || syscall(SYS_fcntl, fd, F_GETFD) < 0)) return EBADF;

  struct knote *knote = find_knote(queue, change->ident, change->filter);
  if (change->flags & EV_DELETE) {
    if (!knote) return ENOENT;
    knote->used = 0;
    if (user) epoll_ctl(queue->epoll, EPOLL_CTL_DEL, queue->trigger, NULL);
    else rearm(queue, fd);
    return 0;
  }
  if (!knote && !(change->flags & EV_ADD)) return ENOENT;
  if (change->flags & EV_ADD) {
    const int added = !knote;
    if (added) knote = new_knote(queue, change);
    if (!knote) return ENOMEM;
    knote->flags = change->flags & ~EV_ADD;
    knote->udata = change->udata;
    int error = 0;
    if (!user) {
      error = rearm(queue, fd);
    } else if (added) {
      struct epoll_event event = {.events = EPOLLIN, .data.u64 = TRIGGER};
      error = epoll_ctl(queue->epoll, EPOLL_CTL_ADD, queue->trigger, &event) == 0 ? 0 : errno;
    }
    if (error && added) knote->used = 0;
    if (error) return error;
  }
  if (user && (change->fflags & NOTE_TRIGGER)) {
    const uint64_t one = 1;
    syscall(SYS_write, queue->trigger, &one, sizeof one);
  }
  return 0;
}

static void give(struct bsd_kevent *out, struct knote *knote, int eof, int64_t data) {
  memset(out, 0, sizeof *out);
  out->ident = knote->ident;
  out->filter = knote->filter;
  out->flags = (uint16_t)(knote->flags | (eof ? EV_EOF : 0));
  out->data = data;
  out->udata = knote->udata;
  if (knote->flags & EV_ONESHOT) knote->used = 0;
}

/* What one event of epoll's is in kevents, at most `room`. */
static int report(struct queue *queue, const struct epoll_event *event, struct bsd_kevent *out, int room) {
  if (event->data.u64 == TRIGGER) {
    uint64_t count;
    struct knote *knote = find_knote(queue, 0, EVFILT_USER);
    if (!knote || room < 1) return 0;
    if (knote->flags & EV_CLEAR) syscall(SYS_read, queue->trigger, &count, sizeof count);
    give(out, knote, 0, 0);
    return 1;
  }
  const int fd = (int)event->data.u64;
  const int broken = (event->events & (EPOLLERR | EPOLLHUP)) != 0;
  int given = 0, readable = 0;
  struct knote *knote = find_knote(queue, (uintptr_t)fd, EVFILT_WRITE);
  if (knote && given < room && (broken || event->events & EPOLLOUT)) give(&out[given++], knote, broken, 0);
  knote = find_knote(queue, (uintptr_t)fd, EVFILT_READ);
  if (knote && given < room && (broken || event->events & (EPOLLIN | EPOLLRDHUP))) {
    ioctl(fd, FIONREAD, &readable);
    give(&out[given++], knote, broken || (event->events & EPOLLRDHUP) != 0, readable);
  }
  rearm(queue, fd);
  return given;
}

int bsd_kevent(int kq, const struct bsd_kevent *changes, int changed, struct bsd_kevent *out, int room,
               const struct timespec *timeout) EXPORT("kevent");
int bsd_kevent(int kq, const struct bsd_kevent *changes, int changed, struct bsd_kevent *out, int room,
               const struct timespec *timeout) {
  int error = 0;
  pthread_mutex_lock(&lock);
  struct queue *queue = find_queue(kq);
  if (!queue) error = EBADF;
  for (int i = 0; i < changed && !error; i++) error = apply(queue, &changes[i]);
  if (error || room == 0) { /* without room for events it never waits */
    pthread_mutex_unlock(&lock);
    return error ? fail(translate(error)) : 0;
  }
  queue->inside++;
  const int wait = timeout ? (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000) : -1;
  int given = 0;
  do {
    struct epoll_event ready[32];
    pthread_mutex_unlock(&lock);
    int count = epoll_wait(kq, ready, room < 32 ? room : 32, wait);
    if (count < 0) error = errno;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) given += report(queue, &ready[i], &out[given], room - given);
  } while (given == 0 && !error && !timeout);
  queue->inside--;
  pthread_mutex_unlock(&lock);
  return error ? fail(translate(error)) : given;
}
