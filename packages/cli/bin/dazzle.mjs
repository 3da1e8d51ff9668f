#!/usr/bin/env -S UV_THREADPOOL_SIZE=8 node --initial-old-space-size=256
import "../dist/main.js";
