import {
  BLOCK_BYTES,
  type Clock,
  DazzleError,
  type Deferred,
  deferred,
  type Extent,
  type Limits,
  type LogAddress,
  packExtents,
} from "@dazzle/core";
import test from "ava";
import { ExtentMap } from "../src/extent-map.ts";
import { FileData } from "../src/file-data.ts";
import type { Node } from "../src/node.ts";
import { SegmentCache } from "../src/segment-cache.ts";

const OWN = 7;
const OTHER = 2;
const CLEANERS = 9;
/** More than anybody should ask without a pause. */
const READS_MAX = 1_000;

const blockAt = (block: number, log: number, sequence: number): Extent => ({
  ...{ block, log, sequence, offset: block * BLOCK_BYTES, length: BLOCK_BYTES },
  ...{ group: 1, groupVersion: 1 },
});
const addressOf = ({ log, sequence, offset, length, group, groupVersion }: Extent): LogAddress => ({
  ...{ log, sequence, offset, length, group, groupVersion },
});

/** A mount whose log is trimmed up to 5; `read` is what storage servers answer. */
function make(read: () => Promise<Buffer[]>) {
  let nowMs = 0;
  const timers: Array<() => void> = [];
  const questions: Deferred<{ reply: { caches: string[] }; tail: Buffer[] }>[] = [];
  const extents = new ExtentMap(false);
  const node = { ino: 64, extents, inode: { size: 2 * BLOCK_BYTES }, caches: [] } as unknown as Node;
  const clock = {
    nowMs: () => nowMs,
    after: (delayMs: number, action: () => void) => {
      timers.push(() => {
        nowMs += delayMs;
        action();
      });
      return { cancel: () => {} };
    },
  } as unknown as Clock;
  const data = new FileData({
    mount: OWN,
    journal: { writer: { log: OWN, trimmedTo: 5 } },
    reader: { read },
    cache: new SegmentCache(1024 * 1024),
    peerCaches: { read: async () => undefined },
    objects: { settle: async () => {}, underToken: (_node: Node, question: () => Promise<void>) => question() },
    links: () => ({
      call: () => {
        const question: (typeof questions)[number] = deferred();
        questions.push(question);
        return question.promise;
      },
    }),
    clock,
    limits: { writeDeadlineMs: 30_000 } as Limits,
  } as unknown as ConstructorParameters<typeof FileData>[0]);
  const answer = (index: number, ...told: Extent[]) => questions[index]?.resolve({ reply: { caches: [] }, tail: [packExtents(told)] });
  return { data, node, extents, questions, timers, answer };
}

/** Everything that needs no clock is done. */
const still = () => new Promise<void>((resolve) => setImmediate(resolve));

test("servers that are silent are asked again after a pause each time, also once the manager has said that the address is right", async (t) => {
  const held = blockAt(0, OTHER, 1);
  let reads = 0;
  const { data, node, extents, timers, answer } = make(async () => {
    if (++reads > READS_MAX) return [Buffer.alloc(BLOCK_BYTES)];
    throw new DazzleError("unreachable", "nobody is there");
  });
  extents.put(held);
  const overcome = data.overcome(node, { kind: "bytes", addresses: [addressOf(held)] });
  await still();
  answer(0, held);
  for (let pauses = 0; pauses < 5; pauses++) {
    await still();
    t.is(reads, 1 + pauses);
    for (const fire of timers.splice(0)) fire();
  }
  await still();
  reads = READS_MAX;
  for (const fire of timers.splice(0)) fire();
  await overcome;
});

test("an answer that was on its way when extents were forgotten does not cover what was written since", async (t) => {
  const written = blockAt(0, OWN, 3);
  const gone = blockAt(1, OTHER, 1);
  const { data, node, extents, questions, answer } = make(async () => {
    throw new DazzleError("fragmentMissing", "it was moved");
  });
  const early = data.overcome(node, { kind: "extents", block: 0 });
  await still();
  extents.put(written);
  extents.put(gone);
  const late = data.overcome(node, { kind: "bytes", addresses: [addressOf(gone)] });
  await still();
  t.is(questions.length, 2);
  answer(0, blockAt(0, OTHER, 1));
  await early;
  answer(1, written, blockAt(1, CLEANERS, 1));
  await late;
  t.deepEqual([extents.at(0), extents.at(1)], [written, blockAt(1, CLEANERS, 1)]);
});
