/* LD_PRELOAD: a machine that says "on disk" and lies. Takes every way of making data durable out of a process, so that a test
 * for lost data can be seen to fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/types.h>

int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int msync(void *at, size_t length, int flags) { (void)at; (void)length; (void)flags; return 0; }
int sync_file_range(int fd, off64_t at, off64_t length, unsigned int flags) {
  (void)fd; (void)at; (void)length; (void)flags; return 0;
}

#define OPEN(NAME, REAL) \
  int NAME(const char *path, int flags, ...) { \
    static int (*real)(const char *, int, ...); \
    va_list list; mode_t mode; \
    va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); \
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, REAL); \
    return real(path, flags & ~(O_SYNC | O_DSYNC), mode); \
  }
OPEN(open, "open")
OPEN(open64, "open64")
