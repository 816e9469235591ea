/* hold: a client that holds many slow downloads at almost no cost of its own.
 *
 *   cc -O2 -o hold hold.c
 *   ./hold PORT PATH FILE CONNECTIONS RATE SECONDS
 *
 * Opens CONNECTIONS to 127.0.0.1:PORT, from 127.0.0.2 on, one address for each 20,000. Each requests PATH once, reads
 * RATE bytes per second of the response and compares every byte with FILE. Its receive buffer and its segments are
 * small, so the server's buffer stays full and drains piece by piece, as on a slow link.
 *
 * Prints "open" once each connection has received the beginning of its body. After SECONDS prints one JSON line, waits
 * for a line (or the end) on standard input, and exits with all connections open:
 * {"connections":…,"ended":…,"wrong":…,"least":…,"bytes":…}
 * "ended": connections that the server closed or reset. "wrong": connections that received a wrong byte.
 * "least": bytes of the body that the slowest connection received.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { PER_ADDRESS = 20000, TICKS = 20, BUFFER = 8192, SEGMENT = 1460, HEAD = 1024 };

typedef struct {
  int fd; /* -1: has ended */
  int in_head;
  int head_length;
  char head[HEAD];
  long at;
} Download;

static const unsigned char *content;
static long size;
static long wrong, ended;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void set(int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof value) < 0) fail("setsockopt");
}

static void finish(Download *d) {
  close(d->fd);
  d->fd = -1;
}

static void compare(Download *d, const char *bytes, long length) {
  if (d->at + length > size || memcmp(content + d->at, bytes, length) != 0) {
    wrong++;
    finish(d);
    return;
  }
  d->at += length;
}

static void take(Download *d, long most) {
  static char bytes[65536];
  if (most > (long)sizeof bytes) most = sizeof bytes;
  ssize_t got = recv(d->fd, bytes, most, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    ended++;
    finish(d);
    return;
  }
  if (!d->in_head) return compare(d, bytes, got);
  int used = got > HEAD - d->head_length ? HEAD - d->head_length : (int)got;
  memcpy(d->head + d->head_length, bytes, used);
  char *end = memmem(d->head, d->head_length + used, "\r\n\r\n", 4);
  if (!end) {
    d->head_length += used;
    if (d->head_length == HEAD) {
      fprintf(stderr, "no end of the head: %.200s\n", d->head);
      exit(1);
    }
    return;
  }
  if (strncmp(d->head, "HTTP/1.1 200 ", 13) != 0) {
    fprintf(stderr, "no 200: %.200s\n", d->head);
    exit(1);
  }
  d->in_head = 0;
  long of_head = end + 4 - d->head - d->head_length;
  if (got > of_head) compare(d, bytes + of_head, got - of_head);
}

static int begin(int i, int port, const char *request) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  set(fd, SOL_SOCKET, SO_RCVBUF, BUFFER);
  set(fd, IPPROTO_TCP, TCP_MAXSEG, SEGMENT);
  set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + i / PER_ADDRESS)};
  if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) fail("bind");
  struct sockaddr_in to = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
  if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) fail("send");
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: %s PORT PATH FILE CONNECTIONS RATE SECONDS\n", argv[0]);
    return 2;
  }
  int port = atoi(argv[1]), count = atoi(argv[4]);
  long rate = atol(argv[5]), seconds = atol(argv[6]);
  int file = open(argv[3], O_RDONLY);
  struct stat s;
  if (file < 0 || fstat(file, &s) < 0) fail(argv[3]);
  size = s.st_size;
  content = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
  if (content == MAP_FAILED) fail("mmap");
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  char request[1024];
  snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: hold\r\n\r\n", argv[2]);

  Download *all = calloc(count, sizeof *all);
  for (int i = 0; i < count; i++) {
    all[i].in_head = 1;
    all[i].fd = begin(i, port, request);
    /* A server that accepts one by one has a limited backlog. */
    if (i % 100 == 99) usleep(20000);
  }
  for (int open = 0; open < count; usleep(10000)) {
    open = 0;
    for (int i = 0; i < count; i++) {
      if (all[i].fd >= 0 && all[i].at == 0) take(&all[i], HEAD);
      if (all[i].fd < 0 || all[i].at > 0) open++;
    }
  }
  puts("open");
  fflush(stdout);

  /* Each tick serves a part of the connections, so that the server has an even load. */
  double began = now();
  for (long tick = 0; tick < seconds * TICKS; tick++) {
    double wait = began + (double)tick / TICKS - now();
    if (wait > 0) usleep(wait * 1e6);
    for (int i = tick % TICKS; i < count; i += TICKS) {
      if (all[i].fd >= 0) take(&all[i], rate);
    }
  }
  long least = count > 0 ? all[0].at : 0, bytes = 0;
  for (int i = 0; i < count; i++) {
    if (all[i].at < least) least = all[i].at;
    bytes += all[i].at;
  }
  printf("{\"connections\":%d,\"ended\":%ld,\"wrong\":%ld,\"least\":%ld,\"bytes\":%ld}\n", count, ended, wrong, least,
         bytes);
  fflush(stdout);
  getchar();
  return 0;
}
