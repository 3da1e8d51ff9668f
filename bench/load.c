/* The loops of the bench. Each prints one line of JSON; times in seconds, clocked around the calls named here.
 *   write FILE MIB                 1 MiB writes, one fsync, close
 *   read FILE                      1 MiB reads to the end
 *   half FILE MIB AT               1 MiB writes from AT MiB on of a file that is there, one fsync, close
 *   create DIRECTORY FOLDERS FILES BYTES   open, write, close each; no sync
 *   touch DIRECTORY TAG FILES      empty files in one directory, named by the tag
 *   random FILE THREADS READS      4 KiB preads, every block at most once, in random order
 *   append FILE COUNT              4 KiB writes at the end, an fsync after each; latencies in ms
 *   stream FILE MIB                as write, again and again over the same file until it is killed
 *   list DIRECTORY                 readdir and fstatat of everything below
 *   spin SECONDS                   the share of a CPU that the machine gives */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, BLOCK = 4096, THREADS_MAX = 64 };

static double seconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t randomState = 0x9e3779b97f4a7c15ULL;
static uint64_t randomNext(void) {
  randomState ^= randomState << 13;
  randomState ^= randomState >> 7;
  randomState ^= randomState << 17;
  return randomState;
}

static char *noise(size_t length) {
  char *bytes = aligned_alloc(BLOCK, length);
  if (!bytes) die("memory");
  for (size_t at = 0; at < length; at += 8) {
    uint64_t value = randomNext();
    memcpy(bytes + at, &value, 8);
  }
  return bytes;
}

static void writeAll(int fd, const char *bytes, size_t length) {
  while (length) {
    ssize_t done = write(fd, bytes, length);
    if (done <= 0) die("write");
    bytes += done;
    length -= done;
  }
}

static void writeFile(const char *path, long mib) {
  char *bytes = noise(MIB);
  int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  if (fd < 0) die(path);
  for (long index = 0; index < mib; index++) {
    for (int block = 0; block < MIB; block += BLOCK) memcpy(bytes + block, &index, 8);
    writeAll(fd, bytes, MIB);
  }
  if (fsync(fd) || close(fd)) die("fsync");
  free(bytes);
}

static void writeHalf(const char *path, long mib, long at) {
  char *bytes = noise(MIB);
  int fd = open(path, O_WRONLY);
  if (fd < 0 || lseek(fd, at * MIB, SEEK_SET) < 0) die(path);
  for (long index = 0; index < mib; index++) writeAll(fd, bytes, MIB);
  if (fsync(fd) || close(fd)) die("fsync");
  free(bytes);
}

static void touch(const char *root, const char *tag, long files) {
  char path[4096];
  for (long index = 0; index < files; index++) {
    snprintf(path, sizeof path, "%s/%s-%ld", root, tag, index);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0 || close(fd)) die(path);
  }
}

static long readFile(const char *path) {
  char *bytes = noise(MIB);
  long total = 0;
  ssize_t length;
  int fd = open(path, O_RDONLY);
  if (fd < 0) die(path);
  while ((length = read(fd, bytes, MIB)) > 0) total += length;
  if (length < 0) die("read");
  close(fd);
  free(bytes);
  return total;
}

static void create(const char *root, long folders, long files, long length) {
  char path[4096], *bytes = noise(length + 8);
  for (long folder = 0; folder < folders; folder++) {
    snprintf(path, sizeof path, "%s/folder-%ld", root, folder);
    if (mkdir(path, 0755)) die(path);
    for (long index = folder; index < files; index += folders) {
      snprintf(path, sizeof path, "%s/folder-%ld/file-%ld", root, folder, index);
      int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
      if (fd < 0) die(path);
      if (length) {
        memcpy(bytes, &index, 8);
        writeAll(fd, bytes, length);
      }
      if (close(fd)) die("close");
    }
  }
}

static struct { int fd; uint32_t *order; long count; atomic_long next; } randomReads;
static void *readRandomly(void *unused) {
  char *bytes = noise(BLOCK);
  long index;
  while ((index = atomic_fetch_add(&randomReads.next, 1)) < randomReads.count) {
    if (pread(randomReads.fd, bytes, BLOCK, (off_t)randomReads.order[index] * BLOCK) != BLOCK) die("pread");
  }
  free(bytes);
  return unused;
}

static long readRandom(const char *path, int threads, long count) {
  struct stat status;
  pthread_t running[THREADS_MAX];
  if ((randomReads.fd = open(path, O_RDONLY)) < 0 || fstat(randomReads.fd, &status)) die(path);
  posix_fadvise(randomReads.fd, 0, 0, POSIX_FADV_RANDOM);
  long blocks = status.st_size / BLOCK;
  uint32_t *order = malloc(blocks * sizeof *order);
  for (long index = 0; index < blocks; index++) order[index] = index;
  for (long index = blocks - 1; index > 0; index--) {
    long other = randomNext() % (index + 1);
    uint32_t swapped = order[index];
    order[index] = order[other];
    order[other] = swapped;
  }
  randomReads.order = order;
  randomReads.count = count < blocks ? count : blocks;
  if (threads > THREADS_MAX) threads = THREADS_MAX;
  for (int thread = 0; thread < threads; thread++) if (pthread_create(&running[thread], NULL, readRandomly, NULL)) die("thread");
  for (int thread = 0; thread < threads; thread++) pthread_join(running[thread], NULL);
  return randomReads.count;
}

static int ascending(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return a < b ? -1 : a > b;
}

static void append(const char *path, long count) {
  char *bytes = noise(BLOCK);
  double *took = malloc(count * sizeof *took), sum = 0;
  int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0644);
  if (fd < 0) die(path);
  for (long index = 0; index < count; index++) {
    double before = seconds(CLOCK_MONOTONIC);
    memcpy(bytes, &index, 8);
    writeAll(fd, bytes, BLOCK);
    if (fsync(fd)) die("fsync");
    sum += took[index] = (seconds(CLOCK_MONOTONIC) - before) * 1e3;
  }
  if (close(fd)) die("close");
  qsort(took, count, sizeof *took, ascending);
  printf("{\"count\":%ld,\"meanMs\":%.4f,\"medianMs\":%.4f,\"p99Ms\":%.4f,\"maxMs\":%.4f}\n", count, sum / count, took[count / 2],
    took[count * 99 / 100], took[count - 1]);
}

static long list(const char *root) {
  long total = 0;
  char path[4096];
  struct dirent *entry;
  struct stat status;
  DIR *directory = opendir(root);
  if (!directory) die(root);
  while ((entry = readdir(directory))) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW)) die(entry->d_name);
    total++;
    if (!S_ISDIR(status.st_mode)) continue;
    snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
    total += list(path);
  }
  closedir(directory);
  return total;
}

int main(int count, char **argument) {
  if (count < 3) return fprintf(stderr, "see the head of load.c\n"), 2;
  const char *verb = argument[1], *path = argument[2];
  long first = count > 3 ? atol(argument[3]) : 0, second = count > 4 ? atol(argument[4]) : 0, third = count > 5 ? atol(argument[5]) : 0, done = 0;
  double started = seconds(CLOCK_MONOTONIC);
  if (!strcmp(verb, "write")) { writeFile(path, first); done = first * MIB; }
  else if (!strcmp(verb, "half")) { writeHalf(path, first, second); done = first * MIB; }
  else if (!strcmp(verb, "touch")) { touch(path, argument[3], second); done = second; }
  else if (!strcmp(verb, "read")) done = readFile(path);
  else if (!strcmp(verb, "create")) { create(path, first, second, third); done = second; }
  else if (!strcmp(verb, "random")) done = readRandom(path, first, second);
  else if (!strcmp(verb, "list")) done = list(path);
  else if (!strcmp(verb, "append")) return append(path, first), 0;
  else if (!strcmp(verb, "stream")) for (;;) writeFile(path, first);
  else if (!strcmp(verb, "spin")) {
    double wanted = atof(path);
    while (seconds(CLOCK_MONOTONIC) - started < wanted) randomNext();
    printf("{\"share\":%.3f}\n", seconds(CLOCK_PROCESS_CPUTIME_ID) / wanted);
    return 0;
  } else return 2;
  printf("{\"done\":%ld,\"seconds\":%.6f}\n", done, seconds(CLOCK_MONOTONIC) - started);
  return 0;
}
