import { readFileSync } from "node:fs";
import type { Clock } from "@dazzle/core";
import { native } from "./native.ts";

/** setTimeout takes longer delays for 1 ms. */
const TIMER_MAX_MS = 2 ** 31 - 1;
/** Without the addon, how often the time that the machine was suspended is looked up, and what is taken for rounding. */
const SUSPENSION_CHECK_MS = 1_000;
const SUSPENSION_LEAST_MS = 100;
/** A wall clock that was set back by more than this is followed; by less, time stands still instead. */
const WALL_BACK_MAX_NS = 1_000_000_000n;
/** How far the interpolated wall clock may be off the real one. */
const WALL_DRIFT_MAX_NS = 2_000_000n;

/** CLOCK_BOOTTIME where the addon is at hand; else CLOCK_MONOTONIC, and what `/proc/uptime` says beyond it. */
class BootClock {
  #suspendedMs = 0;
  #checkAtMs = 0;
  #baseMs: number | undefined;

  nowMs(): number {
    const addon = native();
    if (addon !== undefined) return addon.clockBoottimeMs();
    const monotonicMs = performance.now();
    if (monotonicMs >= this.#checkAtMs) this.#lookUpSuspension(monotonicMs);
    return (this.#baseMs ?? 0) + monotonicMs + this.#suspendedMs;
  }

  #lookUpSuspension(monotonicMs: number): void {
    this.#checkAtMs = monotonicMs + SUSPENSION_CHECK_MS;
    const upMs = Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1_000;
    this.#baseMs ??= upMs - monotonicMs;
    const suspendedMs = upMs - this.#baseMs - monotonicMs;
    if (suspendedMs > this.#suspendedMs + SUSPENSION_LEAST_MS) this.#suspendedMs = suspendedMs;
  }
}

/** Date.now() in milliseconds, interpolated by the monotonic clock, so that two changes in a row differ in time. */
class WallClock {
  #anchorWallNs = 0n;
  #anchorNs = 0n;
  #lastNs = 0n;

  nowNs(): bigint {
    const monotonicNs = process.hrtime.bigint();
    const wallNs = BigInt(Date.now()) * 1_000_000n;
    let nowNs = this.#anchorWallNs + (monotonicNs - this.#anchorNs);
    if (nowNs < wallNs - WALL_DRIFT_MAX_NS || nowNs > wallNs + WALL_DRIFT_MAX_NS) {
      this.#anchorWallNs = wallNs;
      this.#anchorNs = monotonicNs;
      nowNs = wallNs;
    }
    if (nowNs <= this.#lastNs && this.#lastNs - nowNs < WALL_BACK_MAX_NS) nowNs = this.#lastNs + 1n;
    this.#lastNs = nowNs;
    return nowNs;
  }
}

const boot = new BootClock();
const wall = new WallClock();

/** The machine's clocks. Timers keep the process alive until they have fired or were cancelled. */
export const realClock: Clock = {
  nowMs: () => boot.nowMs(),
  wallTimeNs: () => wall.nowNs(),
  after: (delayMs, action) => {
    const timer = setTimeout(action, Math.min(delayMs, TIMER_MAX_MS));
    return { cancel: () => clearTimeout(timer) };
  },
  soon: (action) => {
    setImmediate(action);
  },
};
