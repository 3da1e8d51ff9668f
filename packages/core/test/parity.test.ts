import { AssertionError, PARITY_WASM, ParityMemory, xorBytes, xorInto } from "@dazzle/core";
import test from "ava";
// @ts-expect-error a build script without types
import { compileParity } from "../parity/build.mjs";

function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

test("the committed module is what parity.wat compiles to", async (t) => {
  t.is(PARITY_WASM, await compileParity());
});

test("WASM XOR equals plain XOR for every length mod 64 and every alignment mod 16, and touches nothing beside", (t) => {
  const memory = new ParityMemory(64 * 1024);
  for (let length = 0; length < 200; length++) {
    for (const [first, second] of [
      [0, 512],
      [1, 519],
      [length % 16, 512 + ((length * 7) % 16)],
    ] as const) {
      const a = pattern(length, length + 1);
      const b = pattern(length, length + 1000);
      memory.bytes.fill(0xaa, 0, 2048);
      memory.bytes.set(a, first);
      memory.bytes.set(b, second);
      const target = 1024 + (length % 5);
      memory.xor(target, first, second, length);
      const expected = Buffer.from(a);
      xorInto(expected, b);
      t.deepEqual(memory.bytes.subarray(target, target + length), expected);
      t.deepEqual(memory.bytes.subarray(first, first + length), a);
      t.is(memory.bytes[target - 1], 0xaa);
      t.is(memory.bytes[target + length], 0xaa);
    }
  }
});

test("parity of slices equals plain XOR, the last slice counting as if zeros followed", (t) => {
  const memory = new ParityMemory(64 * 1024);
  for (const payloadBytes of [1, 63, 64, 65, 4095, 4096, 4097, 8192, 9000, 12_288, 12_289, 16_384, 20_000]) {
    for (const sliceBytes of [4096, 8192]) {
      const payload = pattern(payloadBytes, payloadBytes);
      memory.bytes.fill(0x55);
      memory.bytes.set(payload, 8);
      const length = memory.parityOf(32_768, 8, sliceBytes, payloadBytes);
      const expected = Buffer.alloc(Math.min(sliceBytes, payloadBytes));
      for (let at = 0; at < payloadBytes; at += sliceBytes) xorInto(expected, payload.subarray(at, at + sliceBytes));
      t.is(length, expected.length);
      t.deepEqual(memory.bytes.subarray(32_768, 32_768 + length), expected);
      t.is(memory.bytes[32_768 + length], 0x55);
    }
  }
});

test("xorBytes works on any memory, longer than its chunks too", (t) => {
  for (const length of [0, 1, 77, 32_768, 32_769, 100_003]) {
    const target = pattern(length + 9, 3).subarray(3);
    const source = pattern(length, 4);
    const expected = Buffer.from(target);
    xorInto(expected, source);
    xorBytes(target, source);
    t.deepEqual(target, expected);
  }
});

test("XOR outside the memory is an assertion, not a trap", (t) => {
  const memory = new ParityMemory(64 * 1024);
  t.throws(() => memory.xor(65_000, 0, 0, 1000), { instanceOf: AssertionError });
});
