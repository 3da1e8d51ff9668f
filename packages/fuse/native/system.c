/*
 * The system calls that Node does not offer: mounting, receiving a descriptor from fusermount3, and some of files and
 * clocks; and what the addon exports.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "napi_values.h"

/* Not in the kernel's exported headers. Flag 2 neither flushes the journal nor the data: what a power cut does. */
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define EXT4_GOING_FLAGS_NOLOGFLUSH 0x2

/* ---- Mounting ---- */

static bool text_of(napi_env env, napi_value value, char *text, size_t size) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok || length >= size) {
    napi_throw_type_error(env, NULL, "a shorter string is expected");
    return false;
  }
  napi_get_value_string_utf8(env, value, text, size, &length);
  return true;
}

/* mount(source, target, type, readOnly, data): mount(2), nosuid and nodev. */
static napi_value do_mount(napi_env env, napi_callback_info info) {
  napi_value argv[5];
  size_t argc = 5;
  char source[256], target[PATH_MAX], type[64], data[512];
  bool read_only = false;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_bool(env, argv[3], &read_only);
  if (!text_of(env, argv[0], source, sizeof source) || !text_of(env, argv[1], target, sizeof target) ||
      !text_of(env, argv[2], type, sizeof type) || !text_of(env, argv[4], data, sizeof data))
    return NULL;
  unsigned long flags = MS_NODEV | MS_NOSUID | (read_only ? MS_RDONLY : 0);
  if (mount(source, target, type, flags, data) != 0) return throw_errno(env, "mount", errno);
  return NULL;
}

/* socketPair(): two connected descriptors; the second is for a child. */
static napi_value socket_pair(napi_env env, napi_callback_info info) {
  int pair[2];
  napi_value result;
  (void)info;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return throw_errno(env, "socketpair", errno);
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number(env, pair[0]));
  napi_set_element(env, result, 1, number(env, pair[1]));
  return result;
}

/* receiveDescriptor(socket): the descriptor that was sent, or -1 where none was. Does not wait. */
static napi_value receive_descriptor(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1;
  int32_t socket;
  char byte;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec vector = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  int fd = -1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &socket);
  ssize_t length;
  do length = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (length < 0 && errno == EINTR);
  if (length > 0) {
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);
  }
  return number(env, fd);
}

/* ---- System calls that Node lacks ---- */

/* punchHole(fd, offset, length): false where the filesystem cannot. */
static napi_value punch_hole(napi_env env, napi_callback_info info) {
  napi_value argv[3], result;
  size_t argc = 3;
  int32_t fd;
  int64_t offset, length;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &fd);
  napi_get_value_int64(env, argv[1], &offset);
  napi_get_value_int64(env, argv[2], &length);
  int done;
  do done = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  while (done != 0 && errno == EINTR);
  if (done != 0 && errno != EOPNOTSUPP && errno != ENOSYS) return throw_errno(env, "fallocate", errno);
  napi_get_boolean(env, done == 0, &result);
  return result;
}

/* preadNowait(fd, buffer, bufferOffset, length, position): bytes read, or -1 where it would have to wait for the disk. */
static napi_value pread_nowait(napi_env env, napi_callback_info info) {
  napi_value argv[5];
  size_t argc = 5, size;
  uint8_t *bytes;
  int32_t fd;
  int64_t offset, length, position;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &fd);
  napi_get_value_int64(env, argv[2], &offset);
  napi_get_value_int64(env, argv[3], &length);
  napi_get_value_int64(env, argv[4], &position);
  if (!bytes_of(env, argv[1], &bytes, &size)) return NULL;
  if (offset < 0 || length < 0 || (uint64_t)offset + (uint64_t)length > size) {
    napi_throw_range_error(env, NULL, "the range lies outside the buffer");
    return NULL;
  }
  struct iovec vector = {.iov_base = bytes + offset, .iov_len = (size_t)length};
  ssize_t count;
  do count = preadv2(fd, &vector, 1, position, RWF_NOWAIT);
  while (count < 0 && errno == EINTR);
  if (count < 0 && errno != EAGAIN && errno != EOPNOTSUPP && errno != ENOSYS) return throw_errno(env, "preadv2", errno);
  return number(env, count < 0 ? -1 : (double)count);
}

/* shutdownFilesystem(path): as if the power failed, for tests on a filesystem made for them. The path must be a mountpoint: were the
 * test's mount missing, this would take down the filesystem the directory stands on. */
static napi_value shutdown_filesystem(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1;
  char path[PATH_MAX];
  struct stat root, parent, target;
  uint32_t flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (!text_of(env, argv[0], path, sizeof path)) return NULL;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return throw_errno(env, path, errno);
  int error = 0;
  if (stat("/", &root) != 0 || fstatat(fd, "..", &parent, 0) != 0 || fstat(fd, &target) != 0) error = errno;
  else if (root.st_dev == target.st_dev || parent.st_dev == target.st_dev) error = EPERM;
  else if (ioctl(fd, EXT4_IOC_SHUTDOWN, &flags) != 0) error = errno;
  close(fd);
  return error != 0 ? throw_errno(env, path, error) : NULL;
}

static napi_value clock_boottime_ms(napi_env env, napi_callback_info info) {
  struct timespec now;
  (void)info;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return number(env, (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6);
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  method(env, exports, "openDevice", open_device, NULL);
  method(env, exports, "mount", do_mount, NULL);
  method(env, exports, "socketPair", socket_pair, NULL);
  method(env, exports, "receiveDescriptor", receive_descriptor, NULL);
  method(env, exports, "punchHole", punch_hole, NULL);
  method(env, exports, "preadNowait", pread_nowait, NULL);
  method(env, exports, "shutdownFilesystem", shutdown_filesystem, NULL);
  method(env, exports, "clockBoottimeMs", clock_boottime_ms, NULL);
  return exports;
}
