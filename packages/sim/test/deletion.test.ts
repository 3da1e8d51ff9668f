import { memberId } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, ROOT, writeFile } from "./support/files.ts";
import { SentMessages } from "./support/sent-messages.ts";

const LIMIT_MS = 600_000;
const BACK_MS = 60_000;
const FILE_BYTES = 6_000;
/** Of what deletes segments: who asks whether they are needed, and who has them deleted. */
const OF_DELETION = ["liveAmong", "list", "listLogs", "delete"];

/** One file in so many stays. */
const STAYS = 10;

/** So many small files, each in a segment of its own, of which nearly all are removed at once. Answers what that took. */
async function removed(files: number) {
  const sent = new SentMessages();
  const world = new World(files);
  const cluster = new SimCluster(world, {
    limits: SMALL_LIMITS,
    nodes: 4,
    parity: 1,
    managers: 2,
    cleaners: 1,
    disguise: sent.disguise,
  });
  await cluster.startAll();
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const { client } = await cluster.mount(4);
  const { fileSystem } = client;
  for (let file = 0; file < files; file++) await run(() => writeFile(fileSystem, `f${file}`, Buffer.alloc(FILE_BYTES, file)));
  const [log] = cluster.node(1).map.current.logs.filter(({ kind }) => kind === "mount");
  const stored = async () => {
    const pages = await Promise.all(
      cluster.numbers.map((number) =>
        cluster.node(number).peers.call(memberId(number), "list", { log: log?.id ?? 0, after: 0, limit: 4_096 }),
      ),
    );
    return new Set(pages.flatMap(({ reply }) => reply.fragments.map(({ sequence }) => sequence))).size;
  };
  const before = await run(stored);
  sent.clear();
  for (let file = 0; file < files; file++) if (file % STAYS > 0) await run(() => fileSystem.unlink(CALLER, ROOT, `f${file}`));
  await run(() => client.sync());
  const beganMs = world.nowMs;
  await run(async () => {
    // What the mount wrote last, to remove the files, stays until it writes again.
    while ((await stored()) > before / 5) await new Promise<void>((resolve) => world.after(1_000, resolve));
  });
  return { before, tookMs: world.nowMs - beganMs, messages: sent.of(...OF_DELETION), reads: sent.of(`read ${log?.id}`), sent };
}

test("many small segments that die at once are gone within a minute, unread, for as many messages as few of them", async (t) => {
  const few = await removed(100);
  const many = await removed(800);
  t.log(`${few.before} segments: ${few.messages} messages, ${few.tookMs} ms; ${many.before}: ${many.messages}, ${many.tookMs} ms`);
  t.log(`${few.sent}\n${many.sent}`);
  t.true(many.before >= 7 * few.before);
  for (const { reads, tookMs } of [few, many]) {
    t.is(reads, 0);
    t.true(tookMs < BACK_MS);
  }
  t.true(many.messages <= 2 * few.messages + 20, "they are asked about, and deleted, together");
});
