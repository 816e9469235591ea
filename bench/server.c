/* server: the base for the JavaScript servers: epoll and sendfile(2) in C, in one thread.
 *
 *   cc -O2 -o server server.c
 *   ./server FILE...
 *
 * Answers GET /NAME with the file of that base name, opened once at start, its head made once. Level-triggered
 * epoll, TCP_NODELAY, the head with MSG_MORE so that it shares a segment with the file's first bytes. A client must
 * not pipeline: it must wait for the response before the next request.
 * Listens on the IPv4 address in BENCH_HOST, or else 127.0.0.1, and prints the port.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 64, REQUEST_MAX = 4096, EVENTS_MAX = 128, PIECE = 4 << 20 };

struct file {
  const char *name;
  int fd;
  off_t size;
  int head_len;
  char head[128];
};

struct conn {
  int fd;
  int wants_write;         /* registered for EPOLLOUT instead of EPOLLIN */
  const struct file *file; /* NULL: a request is being read */
  int head_sent;
  off_t sent;
  int request_len;
  char request[REQUEST_MAX];
};

static struct file files[FILES_MAX];
static int file_count, epoll_fd;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void open_file(const char *path) {
  struct file *f = &files[file_count++];
  struct stat st;
  const char *slash = strrchr(path, '/');
  f->name = slash ? slash + 1 : path;
  f->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (f->fd < 0 || fstat(f->fd, &st)) fail(path);
  f->size = st.st_size;
  f->head_len = snprintf(f->head, sizeof f->head,
                         "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nContent-Type: application/octet-stream\r\n\r\n",
                         (long long)f->size);
}

static const struct file *find_file(const char *name, size_t len) {
  for (int i = 0; i < file_count; i++) {
    if (strlen(files[i].name) == len && !memcmp(files[i].name, name, len)) return &files[i];
  }
  return NULL;
}

static void drop(struct conn *c) {
  close(c->fd); /* also removes it from epoll */
  free(c);
}

static void want(struct conn *c, int write) {
  if (c->wants_write == write) return;
  c->wants_write = write;
  struct epoll_event ev = {.events = write ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev)) fail("epoll_ctl");
}

/* Sends what can be sent without waiting. */
static void respond(struct conn *c) {
  const struct file *f = c->file;
  while (c->head_sent < f->head_len) {
    ssize_t n = send(c->fd, f->head + c->head_sent, f->head_len - c->head_sent,
                     MSG_NOSIGNAL | (f->size > 0 ? MSG_MORE : 0));
    if (n < 0 && errno == EAGAIN) return want(c, 1);
    if (n < 0) return drop(c);
    c->head_sent += n;
  }
  while (c->sent < f->size) {
    size_t count = f->size - c->sent < PIECE ? f->size - c->sent : PIECE;
    ssize_t n = sendfile(c->fd, f->fd, &c->sent, count);
    if (n < 0 && errno == EAGAIN) return want(c, 1);
    if (n <= 0) return drop(c); /* 0: the file was truncated, and the promised length cannot be kept */
    /* A short count means a full buffer; after a full piece the other connections are served. */
    if (c->sent < f->size) return want(c, 1);
  }
  c->file = NULL;
  c->request_len = 0;
  want(c, 0);
}

static void on_request(struct conn *c) {
  ssize_t n = read(c->fd, c->request + c->request_len, REQUEST_MAX - c->request_len);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) return drop(c);
  c->request_len += n;
  if (!memmem(c->request, c->request_len, "\r\n\r\n", 4)) {
    if (c->request_len == REQUEST_MAX) drop(c);
    return;
  }
  if (memcmp(c->request, "GET /", 5)) return drop(c);
  const char *name = c->request + 5;
  const char *end = memchr(name, ' ', c->request_len - 5);
  c->file = end ? find_file(name, end - name) : NULL;
  if (!c->file) return drop(c);
  c->head_sent = 0;
  c->sent = 0;
  respond(c);
}

static void on_connection(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return; /* the client has already left */
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  struct conn *c = calloc(1, sizeof *c);
  if (!c) fail("calloc");
  c->fd = fd;
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev)) fail("epoll_ctl");
}

int main(int argc, char **argv) {
  if (argc < 2 || argc - 1 > FILES_MAX) {
    fprintf(stderr, "usage: server FILE...\n");
    return 2;
  }
  for (int i = 1; i < argc; i++) open_file(argv[i]);
  signal(SIGPIPE, SIG_IGN); /* sendfile(2) has no MSG_NOSIGNAL */

  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const char *host = getenv("BENCH_HOST");
  if (host && !inet_aton(host, &at.sin_addr)) fail(host);
  socklen_t at_len = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
  if (listener < 0 || bind(listener, (void *)&at, sizeof at) || listen(listener, 511) ||
      getsockname(listener, (void *)&at, &at_len) || epoll_fd < 0 ||
      epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev)) {
    fail("listen");
  }
  printf("%d\n", ntohs(at.sin_port));
  fflush(stdout);

  struct epoll_event events[EVENTS_MAX];
  for (;;) {
    int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (!c) on_connection(listener);
      else if (c->file) respond(c);
      else on_request(c);
    }
  }
}
