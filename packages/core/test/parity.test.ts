import { AssertionError, addMultiple, PARITY_WASM, ParityMemory } from "@dazzle/core";
import test from "ava";
// @ts-expect-error a build script without types
import { compileParity } from "../parity/build.mjs";
import { pattern, plainParities, plainProduct, xorInto } from "./support/plain-parity.ts";

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

test("parities of slices equal the plain ones, the last slice counting as if zeros followed, and nothing else is touched", (t) => {
  const memory = new ParityMemory(256 * 1024);
  for (const payloadBytes of [
    1, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 4111, 8192, 9000, 12_288, 12_289, 16_384, 20_000, 32_768, 36_850,
  ])
    for (const sliceBytes of [4096, 8192])
      for (const parities of [1, 2]) {
        const payload = pattern(payloadBytes, payloadBytes);
        memory.bytes.fill(0x55);
        memory.bytes.set(payload, 8);
        const length = memory.parityOf(65_536, 8, sliceBytes, payloadBytes, parities);
        t.is(length, Math.min(sliceBytes, payloadBytes));
        t.deepEqual(
          memory.bytes.subarray(65_536, 65_536 + parities * length),
          Buffer.concat(plainParities(payload, sliceBytes).slice(0, parities)),
        );
        t.deepEqual(memory.bytes.subarray(8, 8 + payloadBytes), payload);
        const besides = [
          memory.bytes[7],
          memory.bytes[8 + payloadBytes + 15],
          memory.bytes[65_535],
          memory.bytes[65_536 + parities * length],
        ];
        t.deepEqual(besides, [0x55, 0x55, 0x55, 0x55]);
      }
});

test("multiples are added in any memory, longer than a chunk too, for every factor and byte", (t) => {
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  for (let factor = 0; factor < 256; factor++) {
    const target = pattern(256, factor);
    const expected = target.map((byte, i) => byte ^ plainProduct(factor, every[i] as number));
    addMultiple(target, every, factor);
    t.deepEqual(target, Buffer.from(expected));
  }
  for (const length of [0, 1, 77, 32_768, 32_769, 100_003])
    for (const factor of [1, 2, 0x9d]) {
      const target = pattern(length + 9, 3).subarray(3);
      const source = pattern(length, 4);
      const expected = Buffer.from(target);
      for (const [i, byte] of source.entries()) expected[i] = (expected[i] as number) ^ plainProduct(factor, byte);
      addMultiple(target, source, factor);
      t.deepEqual(target, expected);
    }
});

test("what lies outside the memory is an assertion, not a trap", (t) => {
  const memory = new ParityMemory(64 * 1024);
  t.throws(() => memory.xor(65_000, 0, 0, 1000), { instanceOf: AssertionError });
  t.throws(() => memory.addMultiple(65_536, 0, 3, 16), { instanceOf: AssertionError });
  t.throws(() => memory.parityOf(57_345, 0, 4096, 8192, 2), { instanceOf: AssertionError });
});
