/* Values of JavaScript, as both parts of the addon take and make them. */
#ifndef DAZZLE_NAPI_VALUES_H
#define DAZZLE_NAPI_VALUES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <node_api.h>
#include <uv.h>

static inline napi_value throw_errno(napi_env env, const char *what, int error) {
  char message[PATH_MAX + 128];
  snprintf(message, sizeof message, "%s: %s", what, strerror(error));
  napi_throw_error(env, uv_err_name(-error), message);
  return NULL;
}

static inline napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

static inline bool bytes_of(napi_env env, napi_value value, uint8_t **bytes, size_t *length) {
  bool is_typed_array = false;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array) {
    napi_throw_type_error(env, NULL, "a Uint8Array is expected");
    return false;
  }
  napi_typedarray_type type;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL) != napi_ok || (type != napi_uint8_array && type != napi_uint32_array)) {
    napi_throw_type_error(env, NULL, "a Uint8Array is expected");
    return false;
  }
  *bytes = data;
  return true;
}

static inline void method(napi_env env, napi_value object, const char *name, napi_callback callback, void *data) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, data, &function);
  napi_set_named_property(env, object, name, function);
}

/* In device.c. */
napi_value open_device(napi_env env, napi_callback_info info);

#endif
