/*
 * A mount's device: /dev/fuse is read in batches from the event loop and answered with one system call, and notifications
 * are written from threads of their own. Everything that can be decided in TypeScript is decided there; this file only
 * moves bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "napi_values.h"

#define CHUNKS_MAX 64
#define BATCH_MAX 32
#define REPLY_PIECES_MAX 512
/* How long the device is looked at for a next request, and how long one turn of the event loop may take by that. */
#define SPIN_NS (40 * 1000)
/* After more bytes than this the caller is busy filling the next request, and the servers want the processor. */
#define SPIN_BATCH_BYTES (16 * 1024)
#define TURN_NS (1000 * 1000)
/* Looks in vain in a row, before it is left to the event loop; one more is granted after a pause. */
#define SPINS_MAX 16
#define SPIN_PAUSE_NS (10 * 1000 * 1000)
#define NOTIFY_THREADS_MAX 64
#define NOTIFY_THREAD_IDLE_SECONDS 10
#define NOTIFY_STACK_BYTES (128 * 1024)

/* The control block shared with addon-engine.ts, in 32-bit words: chunk to read into, offset in it, bytes one request
 * may take, then the length of each request of the last batch. */
enum { CONTROL_CHUNK = 0, CONTROL_OFFSET = 1, CONTROL_REQUEST_BYTES = 2, CONTROL_LENGTHS = 3 };

struct notification {
  struct notification *next;
  uint32_t id;
  size_t length;
  uint8_t bytes[];
};

struct notified {
  uint32_t id;
  int error;
};

/* One mount. Never freed, only its descriptor and handles are: a JS function that outlives the mount may still call in. */
struct device {
  napi_env env;
  int fd;
  bool open;
  bool polling;
  uint32_t batch_limit;
  size_t batch_bytes; /* Of the last batch. */
  uint32_t spins_left; /* How many looks in vain are left before it sleeps at once. */
  uint64_t spins_again; /* When a look was last granted again. */
  uv_poll_t poll;
  napi_async_context context;
  napi_ref receiver;
  napi_ref on_batch;
  napi_ref memory; /* Keeps `control`, `out` and the chunks alive. */
  uint32_t memory_count;
  uint32_t *control;
  uint8_t *out;
  size_t out_bytes;
  struct {
    uint8_t *bytes;
    size_t length;
  } chunks[CHUNKS_MAX];
  uint32_t chunk_count;

  napi_threadsafe_function on_notified;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  struct notification *first;
  struct notification *last;
  uint32_t threads;
  uint32_t idle;
  uint32_t queued;
  bool closing;
};

/* ---- Requests ---- */

static void call_on_batch(struct device *device, int32_t count) {
  napi_env env = device->env;
  napi_handle_scope scope;
  napi_value receiver, callback, argument;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_get_reference_value(env, device->receiver, &receiver);
  napi_get_reference_value(env, device->on_batch, &callback);
  napi_create_int32(env, count, &argument);
  /* Opens a callback scope, so that promises settled by the handler run before the loop goes on. */
  if (napi_make_callback(env, device->context, receiver, callback, 1, &argument, NULL) == napi_pending_exception) {
    napi_value exception;
    napi_get_and_clear_last_exception(env, &exception);
    napi_fatal_exception(env, exception);
  }
  napi_close_handle_scope(env, scope);
}

/* Reads what waits, at most up to the batch's limit, and hands it over. Answers how many requests that were; -1 where the device has ended. */
static int serve_batch(struct device *device) {
  uint8_t *chunk = device->chunks[device->control[CONTROL_CHUNK]].bytes;
  size_t end = device->chunks[device->control[CONTROL_CHUNK]].length;
  size_t request_bytes = device->control[CONTROL_REQUEST_BYTES];
  size_t offset = device->control[CONTROL_OFFSET];
  uint32_t count = 0;
  int error = 0;
  while (count < device->batch_limit && offset + request_bytes <= end) {
    ssize_t length = read(device->fd, chunk + offset, end - offset);
    if (length > 0) {
      device->control[CONTROL_LENGTHS + count++] = (uint32_t)length;
      offset += ((size_t)length + 7) & ~(size_t)7;
      continue;
    }
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) break;
    error = length == 0 ? ENODEV : errno;
    break;
  }
  device->batch_bytes = offset - device->control[CONTROL_OFFSET];
  if (count > 0) {
    /* One read more than there are requests is a system call for nothing: the limit follows what came last time. */
    if (count == device->batch_limit) {
      if (device->batch_limit < BATCH_MAX) device->batch_limit *= 2;
    } else {
      device->batch_limit = count;
    }
    call_on_batch(device, (int32_t)count);
  }
  if (error == 0) return (int)count;
  if (device->open) {
    uv_poll_stop(&device->poll);
    device->polling = false;
    call_on_batch(device, -error);
  }
  return -1;
}

/* A caller that works through many small operations sends the next request some microseconds after the last answer. Going to
 * sleep in between costs more than the operation: so the device is looked at for a little longer, as long as that pays. */
static void on_readable(uv_poll_t *handle, int status, int events) {
  struct device *device = handle->data;
  (void)status; /* An error condition shows as the errno of the read, which says more. */
  (void)events;
  uint64_t start = uv_hrtime();
  while (serve_batch(device) > 0) {
    uint64_t idle = uv_hrtime();
    if (idle - start > TURN_NS || device->spins_left == 0 || device->batch_bytes > SPIN_BATCH_BYTES) break;
    int served = 0;
    do {
      if (!device->open || !device->polling) return;
      struct pollfd ready = {.fd = device->fd, .events = POLLIN};
      served = poll(&ready, 1, 0);
    } while (served == 0 && uv_hrtime() - idle < SPIN_NS);
    if (served > 0) {
      if (device->spins_left < SPINS_MAX) device->spins_left++;
      continue;
    }
    device->spins_left--;
    return;
  }
  if (device->spins_left == 0 && start - device->spins_again > SPIN_PAUSE_NS) {
    device->spins_again = start;
    device->spins_left = 1;
  }
}

static struct device *device_of(napi_env env, napi_callback_info info, size_t *argc, napi_value *argv) {
  void *data;
  if (napi_get_cb_info(env, info, argc, argv, NULL, &data) != napi_ok) return NULL;
  return data;
}

/* send(length): answers with `length` bytes of `out`. Returns 0 or an errno. */
static napi_value device_send(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1;
  struct device *device = device_of(env, info, &argc, argv);
  uint32_t length = 0;
  napi_get_value_uint32(env, argv[0], &length);
  int error = ENODEV;
  if (length > device->out_bytes) error = EINVAL;
  else if (device->open) error = write(device->fd, device->out, length) < 0 ? errno : 0;
  return number(env, error);
}

/* sendPieces(length, pieces): `length` bytes of `out`, then the pieces, in one write. Returns 0 or an errno. */
static napi_value device_send_pieces(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  size_t argc = 2;
  struct device *device = device_of(env, info, &argc, argv);
  uint32_t length = 0, pieces = 0;
  struct iovec vector[REPLY_PIECES_MAX + 1];
  napi_get_value_uint32(env, argv[0], &length);
  napi_get_array_length(env, argv[1], &pieces);
  if (!device->open) return number(env, ENODEV);
  if (length > device->out_bytes || pieces > REPLY_PIECES_MAX) return number(env, EINVAL);
  vector[0] = (struct iovec){.iov_base = device->out, .iov_len = length};
  for (uint32_t index = 0; index < pieces; index++) {
    napi_value piece;
    uint8_t *bytes;
    size_t piece_length;
    napi_get_element(env, argv[1], index, &piece);
    if (!bytes_of(env, piece, &bytes, &piece_length)) return NULL;
    vector[index + 1] = (struct iovec){.iov_base = bytes, .iov_len = piece_length};
  }
  int error = writev(device->fd, vector, (int)pieces + 1) < 0 ? errno : 0;
  return number(env, error);
}

static bool keep(napi_env env, struct device *device, napi_value value) {
  napi_value memory;
  return napi_get_reference_value(env, device->memory, &memory) == napi_ok &&
         napi_set_element(env, memory, device->memory_count++, value) == napi_ok;
}

/* addChunk(buffer): makes the buffer the chunk of the next index, which it returns. */
static napi_value device_add_chunk(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1;
  struct device *device = device_of(env, info, &argc, argv);
  uint8_t *bytes;
  size_t length;
  if (device->chunk_count == CHUNKS_MAX) return throw_errno(env, "addChunk", ENOBUFS);
  if (!bytes_of(env, argv[0], &bytes, &length) || !keep(env, device, argv[0])) return NULL;
  device->chunks[device->chunk_count].bytes = bytes;
  device->chunks[device->chunk_count].length = length;
  return number(env, device->chunk_count++);
}

static napi_value device_resume(napi_env env, napi_callback_info info) {
  size_t argc = 0;
  struct device *device = device_of(env, info, &argc, NULL);
  if (device->open && !device->polling) {
    int error = uv_poll_start(&device->poll, UV_READABLE, on_readable);
    if (error != 0) return throw_errno(env, "epoll", -error);
    device->polling = true;
  }
  return NULL;
}

static napi_value device_pause(napi_env env, napi_callback_info info) {
  size_t argc = 0;
  struct device *device = device_of(env, info, &argc, NULL);
  if (device->open && device->polling) {
    uv_poll_stop(&device->poll);
    device->polling = false;
  }
  return NULL;
}

/* ---- Notifications: a write of one may wait for a request that the event loop has yet to answer ---- */

static void *notify_thread(void *argument) {
  struct device *device = argument;
  pthread_mutex_lock(&device->lock);
  for (;;) {
    while (device->first == NULL && !device->closing) {
      struct timespec until;
      clock_gettime(CLOCK_REALTIME, &until);
      until.tv_sec += NOTIFY_THREAD_IDLE_SECONDS;
      device->idle++;
      int timed_out = pthread_cond_timedwait(&device->wake, &device->lock, &until);
      device->idle--;
      if (timed_out == ETIMEDOUT && device->first == NULL) goto leave;
    }
    struct notification *notification = device->first;
    if (notification == NULL) goto leave;
    device->first = notification->next;
    if (device->first == NULL) device->last = NULL;
    device->queued--;
    pthread_mutex_unlock(&device->lock);

    ssize_t written;
    do written = write(device->fd, notification->bytes, notification->length);
    while (written < 0 && errno == EINTR);
    struct notified *notified = malloc(sizeof *notified);
    if (notified != NULL) {
      *notified = (struct notified){.id = notification->id, .error = written < 0 ? errno : 0};
      if (napi_call_threadsafe_function(device->on_notified, notified, napi_tsfn_blocking) != napi_ok) free(notified);
    }
    free(notification);
    pthread_mutex_lock(&device->lock);
  }
leave:
  device->threads--;
  pthread_mutex_unlock(&device->lock);
  return NULL;
}

static void deliver_notified(napi_env env, napi_value callback, void *context, void *data) {
  struct notified *notified = data;
  (void)context;
  if (env != NULL) {
    napi_value argv[2], receiver;
    napi_get_undefined(env, &receiver);
    napi_create_uint32(env, notified->id, &argv[0]);
    napi_create_int32(env, notified->error, &argv[1]);
    napi_call_function(env, receiver, callback, 2, argv, NULL);
  }
  free(notified);
}

/* notify(id, message): writes a copy of the message from another thread, then calls onNotified(id, errno). */
static napi_value device_notify(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  size_t argc = 2;
  struct device *device = device_of(env, info, &argc, argv);
  uint32_t id;
  uint8_t *bytes;
  size_t length;
  napi_get_value_uint32(env, argv[0], &id);
  if (!bytes_of(env, argv[1], &bytes, &length)) return NULL;
  if (!device->open) return throw_errno(env, "notify", ENODEV);
  struct notification *notification = malloc(sizeof *notification + length);
  if (notification == NULL) return throw_errno(env, "notify", ENOMEM);
  *notification = (struct notification){.id = id, .length = length};
  memcpy(notification->bytes, bytes, length);

  pthread_mutex_lock(&device->lock);
  if (device->last != NULL) device->last->next = notification;
  else device->first = notification;
  device->last = notification;
  device->queued++;
  bool start = device->queued > device->idle && device->threads < NOTIFY_THREADS_MAX;
  if (start) device->threads++;
  pthread_cond_signal(&device->wake);
  pthread_mutex_unlock(&device->lock);

  if (start) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, NOTIFY_STACK_BYTES);
    int error = pthread_create(&thread, &attributes, notify_thread, device);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      /* Where a thread is left it takes the message later; where none is, nobody would. */
      pthread_mutex_lock(&device->lock);
      uint32_t left = --device->threads;
      pthread_mutex_unlock(&device->lock);
      if (left == 0) return throw_errno(env, "a thread for notifications", error);
    }
  }
  return NULL;
}

static void shut(struct device *device) {
  if (!device->open) return;
  device->open = false;
  device->polling = false;
  uv_poll_stop(&device->poll);
  uv_close((uv_handle_t *)&device->poll, NULL);
  pthread_mutex_lock(&device->lock);
  device->closing = true;
  pthread_cond_broadcast(&device->wake);
  pthread_mutex_unlock(&device->lock);
}

static void on_environment_exit(void *argument) { shut(argument); }

/* close(): the caller has waited for its notifications. */
static napi_value device_close(napi_env env, napi_callback_info info) {
  size_t argc = 0;
  struct device *device = device_of(env, info, &argc, NULL);
  if (!device->open) return NULL;
  napi_remove_env_cleanup_hook(env, on_environment_exit, device);
  shut(device);
  close(device->fd);
  napi_release_threadsafe_function(device->on_notified, napi_tsfn_release);
  napi_delete_reference(env, device->receiver);
  napi_delete_reference(env, device->on_batch);
  napi_delete_reference(env, device->memory);
  device->control = NULL;
  device->out = NULL;
  device->out_bytes = 0;
  return NULL;
}

/* openDevice(fd, control, out, onBatch, onNotified): the descriptor is the device's from now on. Polling starts with resume(). */
napi_value open_device(napi_env env, napi_callback_info info) {
  napi_value argv[5], object, memory, name;
  size_t argc = 5;
  int32_t fd;
  uint8_t *control;
  size_t control_length;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  struct device *device = calloc(1, sizeof *device);
  if (device == NULL) return throw_errno(env, "openDevice", ENOMEM);
  napi_get_value_int32(env, argv[0], &fd);
  if (!bytes_of(env, argv[1], &control, &control_length) || !bytes_of(env, argv[2], &device->out, &device->out_bytes)) return NULL;
  if (control_length < CONTROL_LENGTHS + BATCH_MAX) return throw_errno(env, "control block", EINVAL);
  device->env = env;
  device->fd = fd;
  device->batch_limit = 1;
  device->control = (uint32_t *)(void *)control;
  pthread_mutex_init(&device->lock, NULL);
  pthread_cond_init(&device->wake, NULL);

  uv_loop_t *loop;
  napi_get_uv_event_loop(env, &loop);
  int error = uv_poll_init(loop, &device->poll, fd); /* Also makes the descriptor non-blocking. */
  if (error != 0) return throw_errno(env, "epoll on /dev/fuse", -error);
  device->poll.data = device;
  device->open = true;

  napi_create_object(env, &object);
  napi_create_array(env, &memory);
  napi_create_reference(env, memory, 1, &device->memory);
  keep(env, device, argv[1]);
  keep(env, device, argv[2]);
  napi_create_reference(env, object, 1, &device->receiver);
  napi_create_reference(env, argv[3], 1, &device->on_batch);
  napi_create_string_utf8(env, "dazzle fuse", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, object, name, &device->context);
  napi_create_threadsafe_function(env, argv[4], NULL, name, 0, 1, NULL, NULL, NULL, deliver_notified, &device->on_notified);
  napi_unref_threadsafe_function(env, device->on_notified);
  napi_add_env_cleanup_hook(env, on_environment_exit, device);

  method(env, object, "send", device_send, device);
  method(env, object, "sendPieces", device_send_pieces, device);
  method(env, object, "addChunk", device_add_chunk, device);
  method(env, object, "resume", device_resume, device);
  method(env, object, "pause", device_pause, device);
  method(env, object, "notify", device_notify, device);
  method(env, object, "close", device_close, device);
  return object;
}
