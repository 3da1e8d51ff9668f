/* What the tests need and Node does not offer. Prints what it saw; exits 0 where the calls went well, else 1 with the errno's name
 * on standard error.
 *   cut PID... -- DIRECTORY...     power cut: EXT4_IOC_SHUTDOWN without flushing the journal on every directory's filesystem, SIGKILL
 *   xattr set|get|list|remove|create|replace PATH [NAME [VALUE]]
 *   mmap FILE                      a file of 64 KiB through private and shared mappings
 *   lock flock|posix FILE sh|ex    tries once, prints locked or busy, holds it until standard input ends
 *   lockwait flock|posix FILE sh|ex   the same, waiting for it
 *   locks                          one request a line, one answer each: KIND sh|ex|un wait|try FILE [START LENGTH], KIND get sh|ex FILE
 *                                  START LENGTH, close FILE; KIND is flock, posix or ofd. SIGUSR1 interrupts a wait.
 *   view FILE                      holds it open and mapped; for each line of input prints its size, links, mode, and its bytes in hexadecimal,
 *                                  once by pread and once by the mapping
 *   append FILE TAG COUNT          COUNT lines of different lengths, each by one write, with O_APPEND
 *   seek FILE                      its data and its holes, as "data A B" and "hole A B"
 *   allocate keep|extend|punch|zero FILE OFFSET LENGTH
 *   rename noreplace|exchange FROM TO
 *   statfs PATH                    block size, blocks, free, available, files, free files, name length
 *   node fifo|socket PATH          mknod
 *   errno CALL PATH [PATH]         one call, prints its errno's name or "ok" */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define SHUTDOWN_WITHOUT_FLUSHING_LOG 2

static int fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerrorname_np(errno));
  return 1;
}

static int cut(int count, char **argument) {
  int fds[64], pids[256], fdCount = 0, pidCount = 0, i = 0, behind = 0;
  for (; i < count; i++) {
    if (!strcmp(argument[i], "--")) behind = 1;
    else if (!behind) pids[pidCount++] = atoi(argument[i]);
    else if ((fds[fdCount++] = open(argument[i], O_RDONLY)) < 0) return fail(argument[i]);
  }
  for (i = 0; i < fdCount; i++) {
    __u32 how = SHUTDOWN_WITHOUT_FLUSHING_LOG;
    if (ioctl(fds[i], EXT4_IOC_SHUTDOWN, &how)) return fail("EXT4_IOC_SHUTDOWN");
  }
  for (i = 0; i < pidCount; i++) kill(pids[i], SIGKILL);
  return 0;
}

static int xattr(int count, char **argument) {
  static char buffer[1 << 17];
  const char *verb = argument[0], *path = argument[1];
  ssize_t length;
  if (!strcmp(verb, "list")) {
    if ((length = llistxattr(path, buffer, sizeof buffer)) < 0) return fail("list");
    for (char *at = buffer; at < buffer + length; at += strlen(at) + 1) puts(at);
    return 0;
  }
  if (count < 3) return 2;
  if (!strcmp(verb, "get")) {
    if ((length = lgetxattr(path, argument[2], buffer, sizeof buffer)) < 0) return fail("get");
    fwrite(buffer, 1, length, stdout);
    return 0;
  }
  if (!strcmp(verb, "remove")) return lremovexattr(path, argument[2]) ? fail("remove") : 0;
  int flags = !strcmp(verb, "create") ? XATTR_CREATE : !strcmp(verb, "replace") ? XATTR_REPLACE : 0;
  const char *value = argument[3];
  length = strlen(value);
  if (!strncmp(value, "bytes:", 6)) {
    length = atol(value + 6);
    memset(buffer, 'v', length);
    value = buffer;
  }
  return lsetxattr(path, argument[2], value, length, flags) ? fail(verb) : 0;
}

static int mapping(const char *path) {
  enum { LENGTH = 65536 };
  static char expected[LENGTH], seen[LENGTH];
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) return fail("open");
  for (int i = 0; i < LENGTH; i++) expected[i] = (char)(i * 7 + i / 4096);
  if (pwrite(fd, expected, LENGTH, 0) != LENGTH) return fail("write");
  char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (private == MAP_FAILED) return fail("mmap private");
  if (memcmp(private, expected, LENGTH)) return puts("private: wrong bytes"), 1;
  private[5000] ^= 1;
  if (pread(fd, seen, LENGTH, 0) != LENGTH || memcmp(seen, expected, LENGTH)) return puts("private: the change leaked"), 1;
  char *shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return fail("mmap shared");
  if (memcmp(shared, expected, LENGTH)) return puts("shared: wrong bytes"), 1;
  for (int i = 100; i < LENGTH; i += 5000) shared[i] = expected[i] = 'M';
  if (pread(fd, seen, LENGTH, 0) != LENGTH || memcmp(seen, expected, LENGTH)) return puts("shared: read does not see the mapping"), 1;
  if (pwrite(fd, "written", 7, 30000) != 7) return fail("write");
  memcpy(expected + 30000, "written", 7);
  if (memcmp(shared, expected, LENGTH)) return puts("shared: the mapping does not see the write"), 1;
  if (msync(shared, LENGTH, MS_SYNC)) return fail("msync");
  munmap(shared, LENGTH);
  if (close(fd) || (fd = open(path, O_RDONLY)) < 0) return fail("open again");
  if (pread(fd, seen, LENGTH, 0) != LENGTH || memcmp(seen, expected, LENGTH)) return puts("shared: lost after close"), 1;
  puts("ok");
  return 0;
}

static int lock(char **argument, int wait) {
  int fd = open(argument[1], O_RDWR), exclusive = !strcmp(argument[2], "ex"), result;
  if (fd < 0) return fail("open");
  if (!strcmp(argument[0], "flock")) result = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
  else {
    struct flock range = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    result = fcntl(fd, wait ? F_SETLKW : F_SETLK, &range);
  }
  if (result && errno != EAGAIN && errno != EACCES) return fail("lock");
  puts(result ? "busy" : "locked");
  fflush(stdout);
  while (!result && getchar() != EOF) {}
  return 0;
}

static struct { char path[512]; int fd; } opened[16];

static int fileOf(const char *path, int closes) {
  int free = -1;
  for (int i = 0; i < 16; i++) {
    if (opened[i].path[0] == 0) free = i;
    else if (!strcmp(opened[i].path, path)) {
      if (!closes) return opened[i].fd;
      opened[i].path[0] = 0;
      return close(opened[i].fd);
    }
  }
  if (closes || free < 0) return -1;
  snprintf(opened[free].path, sizeof opened[free].path, "%s", path);
  return opened[free].fd = open(path, O_RDWR);
}

static void interrupted(int number) { (void)number; }

static int locks(void) {
  char line[1024], kind[16], type[16], how[16], path[512];
  struct sigaction action = {.sa_handler = interrupted};
  sigaction(SIGUSR1, &action, NULL);
  while (fgets(line, sizeof line, stdin)) {
    long start = 0, length = 0;
    int result = -1;
    if (sscanf(line, "close %511s", path) == 1) {
      puts(fileOf(path, 1) ? strerrorname_np(errno) : "closed");
    } else if (sscanf(line, "%15s %15s %15s %511s %ld %ld", kind, type, how, path, &start, &length) >= 4) {
      int get = !strcmp(type, "get"), wait = !strcmp(how, "wait"), fd = fileOf(path, 0);
      const char *wanted = get ? how : type;
      struct flock range = {.l_type = !strcmp(wanted, "ex") ? F_WRLCK : !strcmp(wanted, "sh") ? F_RDLCK : F_UNLCK,
        .l_whence = SEEK_SET, .l_start = start, .l_len = length};
      if (fd < 0) ;
      else if (!strcmp(kind, "flock"))
        result = flock(fd, (range.l_type == F_WRLCK ? LOCK_EX : range.l_type == F_RDLCK ? LOCK_SH : LOCK_UN) | (wait ? 0 : LOCK_NB));
      else if (!strcmp(kind, "posix")) result = fcntl(fd, get ? F_GETLK : wait ? F_SETLKW : F_SETLK, &range);
      else result = fcntl(fd, get ? F_OFD_GETLK : wait ? F_OFD_SETLKW : F_OFD_SETLK, &range);
      if (result) puts(errno == EACCES ? "EAGAIN" : strerrorname_np(errno));
      else if (!get) puts("ok");
      else if (range.l_type == F_UNLCK) puts("free");
      else printf("%s %ld %ld\n", range.l_type == F_WRLCK ? "ex" : "sh", (long)range.l_start, (long)range.l_len);
    } else return 2;
    fflush(stdout);
  }
  return 0;
}

static void hexadecimal(const char *bytes, long length) {
  putchar(' ');
  for (long i = 0; i < length; i++) printf("%02x", (unsigned char)bytes[i]);
}

static int view(const char *path) {
  enum { LENGTH = 1 << 20 };
  static char bytes[LENGTH], line[16];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return fail("open");
  char *shared = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return fail("mmap");
  while (fgets(line, sizeof line, stdin)) {
    struct stat status;
    long length = pread(fd, bytes, LENGTH, 0);
    if (length < 0 || fstat(fd, &status)) return fail("view");
    printf("%ld %ld %o", (long)status.st_size, (long)status.st_nlink, status.st_mode & 07777);
    hexadecimal(bytes, length);
    hexadecimal(shared, length);
    putchar('\n');
    fflush(stdout);
  }
  return 0;
}

static int append(char **argument) {
  int fd = open(argument[0], O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (fd < 0) return fail("open");
  char line[512];
  for (int i = 0, count = atoi(argument[2]); i < count; i++) {
    int length = snprintf(line, sizeof line, "%s %d %.*s\n", argument[1], i, i % 300,
      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    if (write(fd, line, length) != length) return fail("write");
  }
  return close(fd) ? fail("close") : 0;
}

static int seek(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return fail("open");
  off_t end = lseek(fd, 0, SEEK_END), at = 0;
  while (at < end) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return fail("SEEK_DATA");
    if (data < 0) data = end;
    if (data > at) printf("hole %ld %ld\n", (long)at, (long)data);
    if (data >= end) break;
    if ((at = lseek(fd, data, SEEK_HOLE)) < 0) return fail("SEEK_HOLE");
    printf("data %ld %ld\n", (long)data, (long)at);
  }
  return 0;
}

static int allocate(char **argument) {
  int fd = open(argument[1], O_RDWR), mode = 0;
  if (fd < 0) return fail("open");
  if (!strcmp(argument[0], "keep")) mode = FALLOC_FL_KEEP_SIZE;
  if (!strcmp(argument[0], "punch")) mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (!strcmp(argument[0], "zero")) mode = FALLOC_FL_ZERO_RANGE;
  return fallocate(fd, mode, atol(argument[2]), atol(argument[3])) ? fail("fallocate") : 0;
}

static int call(int count, char **argument) {
  const char *name = argument[0], *path = argument[1], *other = count > 2 ? argument[2] : "";
  struct stat status;
  int result = -1;
  if (!strcmp(name, "stat")) result = stat(path, &status);
  else if (!strcmp(name, "open")) result = open(path, O_RDONLY);
  else if (!strcmp(name, "openw")) result = open(path, O_WRONLY);
  else if (!strcmp(name, "opendir")) result = open(path, O_RDONLY | O_DIRECTORY);
  else if (!strcmp(name, "nofollow")) result = open(path, O_RDONLY | O_NOFOLLOW);
  else if (!strcmp(name, "creat")) result = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
  else if (!strcmp(name, "mkdir")) result = mkdir(path, 0755);
  else if (!strcmp(name, "rmdir")) result = rmdir(path);
  else if (!strcmp(name, "unlink")) result = unlink(path);
  else if (!strcmp(name, "rename")) result = rename(path, other);
  else if (!strcmp(name, "link")) result = link(path, other);
  else if (!strcmp(name, "symlink")) result = symlink(path, other);
  else if (!strcmp(name, "truncate")) result = truncate(path, atol(other));
  else if (!strcmp(name, "readlink")) { char target[16]; result = readlink(path, target, sizeof target); }
  else return 2;
  puts(result < 0 ? strerrorname_np(errno) : "ok");
  return 0;
}

int main(int count, char **argument) {
  const char *verb = count > 1 ? argument[1] : "";
  char **rest = argument + 2;
  int left = count - 2;
  if (!strcmp(verb, "cut") && left >= 2) return cut(left, rest);
  if (!strcmp(verb, "xattr") && left >= 2) return xattr(left, rest);
  if (!strcmp(verb, "mmap") && left == 1) return mapping(rest[0]);
  if (!strcmp(verb, "lock") && left == 3) return lock(rest, 0);
  if (!strcmp(verb, "lockwait") && left == 3) return lock(rest, 1);
  if (!strcmp(verb, "locks") && left == 0) return locks();
  if (!strcmp(verb, "view") && left == 1) return view(rest[0]);
  if (!strcmp(verb, "append") && left == 3) return append(rest);
  if (!strcmp(verb, "seek") && left == 1) return seek(rest[0]);
  if (!strcmp(verb, "allocate") && left == 4) return allocate(rest);
  if (!strcmp(verb, "rename") && left == 3)
    return renameat2(AT_FDCWD, rest[1], AT_FDCWD, rest[2], !strcmp(rest[0], "exchange") ? RENAME_EXCHANGE : RENAME_NOREPLACE) ? fail("rename") : 0;
  if (!strcmp(verb, "node") && left == 2) return mknod(rest[1], (!strcmp(rest[0], "fifo") ? S_IFIFO : S_IFSOCK) | 0600, 0) ? fail("mknod") : 0;
  if (!strcmp(verb, "statfs") && left == 1) {
    struct statvfs s;
    if (statvfs(rest[0], &s)) return fail("statvfs");
    printf("%lu %lu %lu %lu %lu %lu %lu\n", s.f_frsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namemax);
    return 0;
  }
  if (!strcmp(verb, "errno") && left >= 2) return call(left, rest);
  fprintf(stderr, "see the head of tool.c\n");
  return 2;
}
