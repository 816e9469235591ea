/* drain: a load client that costs the server as little as possible.
 *
 *   cc -O2 -o drain drain.c
 *   ./drain PORT PATH CONNECTIONS SECONDS
 *
 * Keeps CONNECTIONS keep-alive connections to 127.0.0.1:PORT busy with GET PATH and throws every body
 * away in the kernel (recv with MSG_TRUNC copies nothing). It polls without sleeping: on loopback a
 * sleeping client makes the server pay for each wake-up, and that cost (40 % of a core, measured) hides
 * what is being compared. Pin server and client to different cores (taskset -c 0 / taskset -c 1).
 * A response must carry Content-Length; a connection closed by the server is opened again, and counted where the
 * response did not say so (Connection: close).
 * The clock starts after WARM_UP seconds: by then the windows have grown and the server's code is warm.
 *
 * Prints one JSON line: {"requests":…,"bytes":…,"seconds":…,"reconnects":…,"short":…,"idle":…,"cpu":…}
 * "bytes" counts heads and bodies as they arrive, also of responses that are still under way at the end.
 * "short" counts connections that closed before the promised length had arrived.
 * "idle" is the share of the time in which there was nothing to do: near 0 the client is the limit, not the server.
 * "cpu" is the CPU time it had in all, in seconds: all of the time, unless others ran on its core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384 };

#define WARM_UP 0.2

struct conn {
  int fd;
  int in_body;
  int closes; /* the head says that the connection ends with it */
  long need; /* body bytes still to come */
  int head_len;
  char head[HEAD_MAX + 1];
};

static int epoll_fd, port, request_len;
static char request[2048];
/* Nothing is written to it, but the kernel wants the whole length to lie in user space: a buffer on the stack, which
 * may be less than a body away from the end of that, failed with EFAULT now and then. */
static char sink[1];
static long requests, bytes, reconnects, short_bodies;
static double idle;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double read_clock(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double now(void) { return read_clock(CLOCK_MONOTONIC); }

static void ask(struct conn *c) {
  c->in_body = 0;
  c->head_len = 0;
  if (send(c->fd, request, request_len, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) fail("send");
}

static void open_conn(struct conn *c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) fail("socket");
  if (connect(c->fd, (void *)&to, sizeof to)) fail("connect");
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev)) fail("epoll_ctl");
  ask(c);
}

/* Goes on after a recv that failed or found the end. */
static void reopen(struct conn *c, int received) {
  if (received < 0 && errno != ECONNRESET) fail("recv");
  if (c->in_body && c->need > 0) short_bodies++;
  close(c->fd);
  reconnects++;
  open_conn(c);
}

/* Whether the head is complete. */
static int read_head(struct conn *c) {
  int room = HEAD_MAX - c->head_len;
  if (room <= 0) {
    fprintf(stderr, "no end of head in %d bytes: does the body overtake it?\n", HEAD_MAX);
    exit(1);
  }
  int n = recv(c->fd, c->head + c->head_len, room < 1024 ? room : 1024, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) {
    reopen(c, n);
    return 0;
  }
  bytes += n;
  c->head_len += n;
  c->head[c->head_len] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) return 0;
  char *length = strcasestr(c->head, "\r\ncontent-length:");
  if (!length || length > end) {
    fprintf(stderr, "no Content-Length in: %.*s\n", (int)(end - c->head), c->head);
    exit(1);
  }
  c->need = atol(length + 17) - (c->head_len - (end + 4 - c->head));
  if (c->need < 0) {
    fprintf(stderr, "%ld bytes more than Content-Length says\n", -c->need);
    exit(1);
  }
  char *closes = strcasestr(c->head, "\r\nconnection: close\r\n");
  c->closes = closes && closes < end;
  c->in_body = 1;
  return 1;
}

static void on_readable(struct conn *c) {
  if (!c->in_body && !read_head(c)) return;
  /* Once and not until EAGAIN: the next poll asks anyway, and the other connections have their turn. */
  if (c->need > 0) {
    int n = recv(c->fd, sink, c->need > (1 << 30) ? 1 << 30 : c->need, MSG_TRUNC | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      reopen(c, n);
      return;
    }
    c->need -= n;
    bytes += n;
  }
  if (c->need == 0) {
    requests++;
    if (c->closes) {
      close(c->fd);
      open_conn(c);
    } else {
      ask(c);
    }
  }
}

/* Drains for so many seconds; how many it took. */
static double drain(double seconds) {
  struct epoll_event events[64];
  double start = now(), took = 0;
  requests = bytes = idle = 0;
  while (took < seconds) {
    int n = epoll_wait(epoll_fd, events, 64, 0);
    for (int i = 0; i < n; i++) on_readable(events[i].data.ptr);
    double before = took;
    took = now() - start;
    if (n == 0) idle += took - before;
  }
  return took;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: drain PORT PATH CONNECTIONS SECONDS\n");
    return 2;
  }
  port = atoi(argv[1]);
  int count = atoi(argv[3]);
  double seconds = atof(argv[4]);
  request_len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", argv[2], port);
  if (count < 1 || request_len >= (int)sizeof request) {
    fprintf(stderr, "no connections, or a path that is too long\n");
    return 2;
  }
  epoll_fd = epoll_create1(0);
  struct conn *conns = calloc(count, sizeof *conns);
  if (epoll_fd < 0 || !conns) fail("start");
  for (int i = 0; i < count; i++) open_conn(&conns[i]);
  drain(WARM_UP);
  double took = drain(seconds);
  printf("{\"requests\":%ld,\"bytes\":%ld,\"seconds\":%.6f,\"reconnects\":%ld,\"short\":%ld,\"idle\":%.2f,\"cpu\":%.3f}\n",
         requests, bytes, took, reconnects, short_bodies, idle / took, read_clock(CLOCK_PROCESS_CPUTIME_ID));
  return 0;
}
