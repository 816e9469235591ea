/*
 * What glibc's build of the C++ library wants beside what musl has, so that Bun for musl runs with Debian's. In the
 * place of the one library that it asks for by name and musl does not know: ld-linux-x86-64.so.2.
 */
#include <locale.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

struct {
  unsigned vendor, type, subtype, features[1];
} __cpu_model;

char __libc_single_threaded = 0;

int __cpu_indicator_init(void) { return 0; }

/* No table of frames is found: a C++ exception ends the program. */
int _dl_find_object(void *address, void *result) { return -1; }

/* Destructors of threads do not run. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *handle) { return 0; }

size_t __strftime_l(char *text, size_t max, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(text, max, format, time, locale);
}

unsigned arc4random(void) {
  unsigned value;
  getrandom(&value, sizeof value, 0);
  return value;
}
