import { type Address, checksum, DazzleError, type Peers, type RpcPeer } from "@dazzle/core";
import test from "ava";
import { PeerCaches } from "../src/peer-caches.ts";

const ADDRESS = { log: 3, sequence: 7, offset: 4096, length: 8, group: 1, groupVersion: 1 };
const BYTES = Buffer.from("8 bytes!");
const PEER: Address = "sim:peer";

/** A mount that has one peer, which answers what `answer` says. */
function mountWith(answer: () => { checksum: number; tail: readonly Uint8Array[] }) {
  let asked = 0;
  const call = async () => {
    asked++;
    const { checksum: sum, tail } = answer();
    return { reply: { checksum: sum }, tail };
  };
  const peers = { openTo: () => ({ call }) as unknown as RpcPeer } as unknown as Peers;
  const caches = new PeerCaches({ peers, own: ({ length }) => (length === BYTES.length ? [BYTES] : undefined) });
  return { caches, asked: () => asked };
}

test("what a peer answers is taken where it is whole and matches its checksum, in however many pieces", async (t) => {
  const { caches } = mountWith(() => ({ checksum: checksum(BYTES), tail: [BYTES.subarray(0, 3), BYTES.subarray(3)] }));
  const pieces = await caches.read(ADDRESS, [PEER]);
  t.true(Buffer.concat(pieces ?? []).equals(BYTES));
  t.like(caches.counters, { asked: 1, hits: 1, bytes: 8, failed: 0 });
});

for (const [what, answer] of [
  ["other bytes", () => ({ checksum: checksum(BYTES), tail: [Buffer.from("8 bytes?")] })],
  ["too few bytes", () => ({ checksum: checksum(BYTES.subarray(1)), tail: [BYTES.subarray(1)] })],
  [
    "an error",
    () => {
      throw new DazzleError("timedOut", "");
    },
  ],
] as const) {
  test(`a peer that answers ${what} is passed by`, async (t) => {
    const { caches, asked } = mountWith(answer);
    for (let read = 0; read < 100; read++) t.is(await caches.read(ADDRESS, [PEER]), undefined);
    t.is(asked(), 1);
    t.like(caches.counters, { asked: 1, hits: 0, failed: 1 });
  });
}

test("a peer that has not what it was asked for is asked again after a while, and nobody is asked where nobody has anything", async (t) => {
  const { caches, asked } = mountWith(() => {
    throw new DazzleError("fragmentMissing", "");
  });
  for (let read = 0; read < 100; read++) await caches.read(ADDRESS, [PEER]);
  t.true(asked() > 1 && asked() < 10, `${asked()}`);
  t.is(caches.counters.failed, 0);
  t.is(await caches.read(ADDRESS, []), undefined);
});

test("who is asked answers with a checksum what is in memory, and refuses the rest", async (t) => {
  const { caches } = mountWith(() => ({ checksum: 0, tail: [] }));
  const context = { peer: undefined, signal: new AbortController().signal, tail: [] };
  const answered = await caches.handlers.peerRead?.(ADDRESS, context);
  t.is(answered?.reply.checksum, checksum(BYTES));
  t.throws(() => caches.handlers.peerRead?.({ ...ADDRESS, length: 9 }, context), { message: /fragmentMissing/ });
  t.like(caches.counters, { served: 1, servedBytes: 8, refused: 1 });
});
