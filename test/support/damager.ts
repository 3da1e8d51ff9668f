import { decodeInode, packInode, RpcPeer, readMapFrom, STRANGER, sayHello, slotOf } from "@dazzle/core";
import { EntryKind, idKey, nameKey, packEntry, RunBlock } from "@dazzle/manager";
import { realClock, webSocketNetwork } from "@dazzle/runtime";

/** `links ADDRESS INO COUNT`: a file's link count becomes this; `name ADDRESS DIRECTORY NAME CHILD`: a directory gets the name of a file, which knows nothing of it, or with
 * CHILD 0 loses it. What managers are asked for is what a repair asks for, so that it is logged; only it is wrong. */
const [, , what, address = "", id = "", ...rest] = process.argv;
const DEADLINE_MS = 60_000;
const NO_MAP = { version: 0, reach: async () => {} };
const REGULAR = 8;

const map = await readMapFrom(webSocketNetwork(), realClock, address, DEADLINE_MS);
const ino = Number(id);
const slot = slotOf(ino);
const manager = map.members.find((member) => member.id === map.slots[slot]?.manager);
const peer = new RpcPeer(await webSocketNetwork().connect(manager?.addresses[0] ?? "", DEADLINE_MS), realClock, {}, NO_MAP);
await sayHello(peer, STRANGER, DEADLINE_MS);

async function valueAt(key: Buffer): Promise<Buffer | undefined> {
  const text = key.toString("latin1");
  const request = { slot, after: text.slice(0, -1), to: `${text}\0`, limit: 1_000 };
  const { tail } = await peer.call("imapPage", request, { deadlineMs: DEADLINE_MS });
  const block = new RunBlock(Buffer.concat(tail));
  for (let index = 0; index < block.count; index++) if (block.key(index).equals(key)) return block.value(index) as Buffer;
  return undefined;
}

async function put(key: Buffer, value: Buffer | undefined): Promise<void> {
  const seen = await valueAt(key);
  const lengths = (of: Buffer | undefined) => [of?.length ?? -1];
  const request = { ino, slot, keys: [key.toString("latin1")], seen: lengths(seen), put: lengths(value) };
  const { reply } = await peer.call("amend", request, { deadlineMs: DEADLINE_MS, tail: [seen ?? [], value ?? []].flat() as Buffer[] });
  if (!reply.done) throw new Error("it changed meanwhile");
}

if (what === "links") {
  const key = idKey(EntryKind.inode, ino);
  const inode = decodeInode((await valueAt(key)) as Buffer);
  await put(key, packInode({ ...inode, nlink: Number(rest[0]) }));
} else {
  const [name = "", child = "0"] = rest;
  await put(nameKey(EntryKind.entry, ino, name), child === "0" ? undefined : packEntry({ child: Number(child), type: REGULAR }));
}
peer.close();
process.stdout.write("done\n");
