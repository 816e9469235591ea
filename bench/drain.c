/* drain: a load client that takes as little of the server's time as possible.
 *
 *   cc -O2 -o drain drain.c
 *   ./drain HOST PORT PATH CONNECTIONS SECONDS
 *
 * Keeps CONNECTIONS keep-alive connections to HOST:PORT (HOST is an IPv4 address) busy with GET PATH and discards
 * every body in the kernel (recv with MSG_TRUNC copies nothing). It polls without sleeping: on loopback a
 * sleeping client makes the server pay for each wake-up, and that cost (40 % of a core, measured) hides
 * the differences between servers. Pin server and client to different cores (taskset -c 0 / taskset -c 1).
 * A response must have a Content-Length. A connection that the server closes is opened again, and counted if the
 * response had no Connection: close.
 * The clock starts after WARM_UP seconds: by then the windows have grown and the server's code is warm.
 *
 * Prints one JSON line: {"requests":…,"bytes":…,"seconds":…,"reconnects":…,"short":…,"idle":…,"cpu":…,"p50":…,
 * "p99":…,"congestion":…}
 * "bytes" counts heads and bodies as they arrive, also of responses in progress at the end.
 * "short" counts connections that closed before the promised length had arrived.
 * "idle" is the share of the time in which there was nothing to do: near 0, the client is the limit and not the server.
 * "cpu" is the client's whole CPU time in seconds: equal to the elapsed time, unless others ran on its core.
 * "p50" and "p99" are latencies in microseconds, from the request to the last byte of its response, of the responses
 * that ended while the clock ran; null if none did.
 * "congestion" is the congestion control of the client's ends of the connections; "mixed" if they differ.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384 };

/* Latencies are counted in buckets whose width is at most 1/32 of their value. */
enum { SUB_BITS = 5, SUB = 1 << SUB_BITS, BUCKETS = (64 - SUB_BITS + 1) * SUB };

#define WARM_UP 0.2

struct conn {
  int fd;
  int in_body;
  int closes; /* the head says that the connection ends with it */
  long need; /* body bytes still to come */
  double asked; /* when the request was sent */
  int head_len;
  char head[HEAD_MAX + 1];
};

static struct sockaddr_in to = {.sin_family = AF_INET};
static int epoll_fd, request_len;
static char congestion[16]; /* TCP_CA_NAME_MAX */
static char request[2048];
/* Nothing is written to it, but the kernel checks that the whole length lies in user space. A buffer on the stack may
 * be closer to the end of user space than the length of a body: then recv fails with EFAULT now and then. */
static char sink[1];
static long requests, bytes, reconnects, short_bodies;
static double idle;
static long latencies[BUCKETS];

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

static void count_latency(double seconds) {
  unsigned long ns = seconds * 1e9;
  /* Below SUB a bucket holds one value; from there on the highest SUB_BITS + 1 bits choose it. */
  int shift = ns < SUB ? 0 : 63 - __builtin_clzl(ns) - SUB_BITS;
  latencies[ns < SUB ? ns : (unsigned long)shift * SUB + (ns >> shift)]++;
}

/* The middle of the bucket that holds the given part of the latencies, in microseconds. */
static void print_percentile(const char *name, double part) {
  long total = 0, passed = 0;
  for (int i = 0; i < BUCKETS; i++) total += latencies[i];
  if (total == 0) {
    printf(",\"%s\":null", name);
    return;
  }
  int i = 0;
  while (passed + latencies[i] < part * total) passed += latencies[i++];
  int shift = i < 2 * SUB ? 0 : i / SUB - 1;
  double least = (double)((unsigned long)(i - shift * SUB) << shift), width = 1UL << shift;
  printf(",\"%s\":%.2f", name, (least + (width - 1) / 2) / 1000);
}

static void look_at_congestion(int fd) {
  char name[sizeof congestion] = "";
  socklen_t len = sizeof name;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len)) fail("getsockopt");
  name[sizeof name - 1] = 0;
  if (!congestion[0]) strcpy(congestion, name);
  else if (strcmp(congestion, name)) strcpy(congestion, "mixed");
}

static void ask(struct conn *c) {
  c->in_body = 0;
  c->head_len = 0;
  c->asked = now();
  if (send(c->fd, request, request_len, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) fail("send");
}

static void open_conn(struct conn *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) fail("socket");
  if (connect(c->fd, (void *)&to, sizeof to)) fail("connect");
  look_at_congestion(c->fd); /* after connect: the route may set it */
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev)) fail("epoll_ctl");
  ask(c);
}

/* Replaces a connection whose recv failed or returned 0. */
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
  /* Once, not until EAGAIN: the next poll reports the rest, and the other connections are served meanwhile. */
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
    count_latency(now() - c->asked);
    if (c->closes) {
      close(c->fd);
      open_conn(c);
    } else {
      ask(c);
    }
  }
}

/* Drains for about that many seconds; returns how many it took. */
static double drain(double seconds) {
  struct epoll_event events[64];
  double start = now(), took = 0;
  requests = bytes = idle = 0;
  memset(latencies, 0, sizeof latencies);
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
  if (argc != 6 || !inet_aton(argv[1], &to.sin_addr)) {
    fprintf(stderr, "usage: drain HOST PORT PATH CONNECTIONS SECONDS\n");
    return 2;
  }
  to.sin_port = htons(atoi(argv[2]));
  int count = atoi(argv[4]);
  double seconds = atof(argv[5]);
  request_len =
      snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", argv[3], argv[1], argv[2]);
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
  printf("{\"requests\":%ld,\"bytes\":%ld,\"seconds\":%.6f,\"reconnects\":%ld,\"short\":%ld,\"idle\":%.2f,\"cpu\":%.3f",
         requests, bytes, took, reconnects, short_bodies, idle / took, read_clock(CLOCK_PROCESS_CPUTIME_ID));
  print_percentile("p50", 0.5);
  print_percentile("p99", 0.99);
  printf(",\"congestion\":\"%s\"}\n", congestion);
  return 0;
}
