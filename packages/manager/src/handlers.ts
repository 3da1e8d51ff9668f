import {
  type Answer,
  DazzleError,
  decodeInode,
  type Handlers,
  type ListedEntry,
  packAttributes,
  packEntries,
  packExtents,
  type Reply,
  type SlotsProgress,
  slotOf,
} from "@dazzle/core";
import { checkHandlers } from "./check-handlers.ts";
import { cleaningHandlers } from "./cleaning/cleaning-handlers.ts";
import type { NamedEntry } from "./imap/imap.ts";
import { livenessHandlers } from "./liveness/liveness-handlers.ts";
import type { Manager, OpenManager } from "./manager.ts";
import { movingHandlers } from "./moving/handlers.ts";
import type { Grants } from "./tokens/grants.ts";

/** Entries of a directory in one answer. */
const ENTRIES_MAX = 4_096;
/** Mounts that a reader is told of who may have a file's bytes. */
const CACHES_MAX = 4;

/** What a manager answers to mounts and to other managers. `revoke` goes back over the connection on which `openMount` came. */
export function managerHandlers(manager: Manager): Handlers {
  const progressOf = ({ host }: OpenManager, mount: number): SlotsProgress => {
    const shards = [...host.shards];
    return {
      slots: shards.map(({ slot }) => slot),
      applied: shards.map((shard) => shard.appliedTo(mount)),
      stable: shards.map((shard) => host.stableIn(shard, mount)),
      terms: shards.map(({ term }) => term),
    };
  };

  /** The manager with that slot open, for a mount that is heard of by this. */
  const forMount = async (mount: number, slot: number): Promise<OpenManager> => {
    const parts = await manager.whenOpen(slot);
    parts.mounts.heard(mount);
    return parts;
  };

  /** Reads are answered under the object's token. One that is on its way to another mount must not be waited for: who asks may hold
   * what that mount waits for. */
  const underToken = ({ tokens }: OpenManager, mount: number, ino: number): void => {
    if (tokens.held(mount, ino) === undefined) throw new DazzleError("tokenLost", `mount ${mount} has no token of ${ino}`);
  };

  /** Takes a token, and answers the index node with it. */
  const acquire = async <T>(parts: OpenManager, mount: number, ino: number, take: (grants: Grants) => Answer<T>) => {
    const shard = parts.host.shardOf(ino);
    const heldBefore = parts.tokens.held(mount, ino) !== undefined;
    const granted = await take(parts.grants);
    const inode = await shard.imap.inode(ino);
    // It may have left meanwhile, with what was granted.
    parts.host.shardOf(ino);
    if (inode === undefined) {
      if (!heldBefore) parts.tokens.release(mount, ino);
      throw new DazzleError("notFound", `index number ${ino}`);
    }
    return { reply: { ...granted, open: parts.tokens.openers.others(mount, ino) }, tail: [inode] };
  };

  /** Shared tokens on those of one slot that are free; answers their index nodes. */
  const takeFree = async (parts: OpenManager, mount: number, inos: readonly number[]): Promise<readonly Uint8Array[]> => {
    const { granted } = parts.grants.acquireFree(mount, inos);
    const inodes: Uint8Array[] = [];
    for (const ino of granted) {
      const inode = await parts.host.shardOf(ino).imap.inode(ino);
      if (inode !== undefined) inodes.push(inode);
      else parts.tokens.release(mount, ino);
    }
    // They may have left meanwhile, with what was granted.
    for (const ino of granted) parts.host.shardOf(ino);
    return inodes;
  };

  return {
    ...livenessHandlers(manager),

    ...checkHandlers(manager),

    openMount: async ({ mount }, { peer }) => {
      const parts = await manager.whenLoaded();
      await parts.mounts.open(mount, peer);
      return { reply: { leaseMs: manager.grantedLeaseMs, ...progressOf(parts, mount) } };
    },

    acquire: async ({ mount, ino, exclusive }, context) =>
      acquire(await forMount(mount, slotOf(ino)), mount, ino, (grants) => grants.acquire(mount, ino, exclusive, context)),

    acquireRange: async ({ mount, ino, from, to }, context) =>
      acquire(await forMount(mount, slotOf(ino)), mount, ino, (grants) => grants.acquireRange(mount, ino, { from, to }, context)),

    peek: async ({ mount, ino }, context) => {
      const parts = await forMount(mount, slotOf(ino));
      const { inode, shared } = await parts.peeks.peek(mount, ino);
      const looked =
        inode === undefined
          ? await acquire(parts, mount, ino, (grants) => grants.acquire(mount, ino, false, context))
          : { reply: { exclusive: false, grant: parts.grants.count, open: false }, tail: inode };
      const ahead = await takeFree(
        parts,
        mount,
        shared.filter((other) => other !== ino),
      );
      return { reply: { ...looked.reply, granted: inode === undefined }, tail: [...looked.tail, ...ahead] };
    },

    release: async ({ mount, inos }) => {
      const parts = await manager.whenLoaded();
      parts.mounts.heard(mount);
      parts.grants.release(
        mount,
        inos.filter((ino) => parts.host.has(slotOf(ino))),
      );
      return { reply: {} };
    },

    closed: async ({ mount, inos }) => {
      for (const slot of new Set(inos.map(slotOf))) await manager.whenOpen(slot);
      const { parts } = manager;
      parts.mounts.heard(mount);
      for (const ino of inos) parts.tokens.openers.remove(mount, ino);
      parts.orphans.reclaim(inos);
      return { reply: {} };
    },

    lookup: async ({ mount, ino, name }) => {
      const parts = await forMount(mount, slotOf(ino));
      const { imap } = parts.host.shardOf(ino);
      underToken(parts, mount, ino);
      const entry = await imap.entry(ino, name);
      const grant = parts.grants.count;
      if (entry === undefined) return { reply: { child: 0, type: 0, exclusive: false, grant } };
      const { child, type } = entry;
      const here = parts.table.isOpen(slotOf(child)) ? [child] : [];
      const { granted, exclusive } = parts.grants.acquireFree(mount, here);
      const inode = granted.size === 0 ? undefined : await parts.host.shardOf(child).imap.inode(child);
      for (const used of [ino, ...granted]) parts.host.shardOf(used);
      return { reply: { child, type, exclusive, grant }, ...(inode === undefined ? {} : { tail: [inode] }) };
    },

    nameChanges: async ({ mount, ino, since }) => {
      const parts = await forMount(mount, slotOf(ino));
      underToken(parts, mount, ino);
      const changes = parts.names.since(ino, since, parts.grants.count);
      return { reply: { known: changes !== undefined }, tail: [packEntries((changes ?? []).map(withoutInode))] };
    },

    entries: async ({ mount, ino, after, limit, inodes }) => {
      const parts = await forMount(mount, slotOf(ino));
      const { imap } = parts.host.shardOf(ino);
      underToken(parts, mount, ino);
      const page = await imap.entries(ino, after, Math.max(1, Math.min(limit, ENTRIES_MAX)));
      const grant = parts.grants.count;
      if (!inodes) return { reply: { more: page.more, exclusive: false, grant }, tail: [packEntries(page.entries.map(withoutInode))] };
      const here = page.entries.map(({ child }) => child).filter((child) => parts.table.isOpen(slotOf(child)));
      const { granted, exclusive } = parts.grants.acquireFree(mount, here);
      const listed: ListedEntry[] = [];
      for (const entry of page.entries) {
        const inode = granted.has(entry.child) ? await parts.host.shardOf(entry.child).imap.inode(entry.child) : undefined;
        listed.push({ ...entry, inode: inode === undefined ? undefined : decodeInode(inode) });
      }
      for (const used of [ino, ...granted]) parts.host.shardOf(used);
      return { reply: { more: page.more, exclusive, grant }, tail: [packEntries(listed)] };
    },

    extents: async ({ mount, ino, from, to }) => {
      const parts = await forMount(mount, slotOf(ino));
      const { imap } = parts.host.shardOf(ino);
      underToken(parts, mount, ino);
      const caches = parts.tokens
        .holders(ino, CACHES_MAX + 1)
        .flatMap((holder) => (holder === mount ? [] : (parts.mounts.session(holder)?.address ?? [])));
      if (from >= to) return { reply: { caches } };
      return { reply: { caches }, tail: [packExtents(await imap.extents(ino, from, to))] };
    },

    answersAt: async ({ mount, address }) => {
      const parts = await manager.whenLoaded();
      parts.mounts.heard(mount).address = address;
      return { reply: {} };
    },

    attributes: async ({ mount, ino }) => {
      const parts = await forMount(mount, slotOf(ino));
      const { imap } = parts.host.shardOf(ino);
      underToken(parts, mount, ino);
      return { reply: {}, tail: [packAttributes(await imap.attributes(ino))] };
    },

    claims: async ({ mount, slot, term, page, more, exclusive, shared, ranges, opens, numbers }) => {
      const { mounts, tokens, claims, host } = await manager.whenSlotLoaded(slot);
      const session = mounts.heard(mount);
      if (host.shard(slot).term !== term) throw new DazzleError("staleMap", `slot ${slot} is here under term ${host.shard(slot).term}`);
      // Asked again because an answer was lost: it is known.
      if (!claims.awaits(mount, slot, term)) return { reply: {} };
      const before = claims.came(mount, slot, page);
      if (page === 0 && before !== undefined) tokens.dropClaims(mount, slot);
      for (let at = 0; at + 1 < numbers.length; at += 2) tokens.lease(mount, numbers[at] as number, numbers[at + 1] as number);
      for (const ino of exclusive) tokens.claim(mount, ino, true);
      for (const ino of shared) tokens.claim(mount, ino, false);
      for (let at = 0; at + 2 < ranges.length; at += 3)
        tokens.claimRange(mount, ranges[at] as number, { from: ranges[at + 1] as number, to: ranges[at + 2] as number });
      for (const ino of opens) tokens.openers.add(mount, ino);
      if (!more) claims.claimed(mount, slot, term);
      if (!more || before === undefined || page > before) session.claims();
      return { reply: {} };
    },

    numbers: async ({ mount, slot, count }) => {
      const parts = await forMount(mount, slot);
      return { reply: await parts.numbers.lease(mount, slot, count) };
    },

    lock: async (request, context) => {
      const parts = await forMount(request.mount, slotOf(request.ino));
      return { reply: await parts.locks.lock(request, context) };
    },

    testLock: async (request, context) => {
      const parts = await forMount(request.mount, slotOf(request.ino));
      return { reply: await parts.locks.test(request, context) };
    },

    declareLocks: async ({ mount, files }, { peer, signal }) => {
      const parts = await manager.whenLoaded();
      if (signal.aborted) throw new DazzleError("cancelled", "a declaration of locks");
      if (parts.mounts.heard(mount).peer !== peer) throw new DazzleError("notReady", `mount ${mount} has opened anew`);
      parts.locks.declare(mount, files);
      return { reply: {} };
    },

    ship: async ({ mount, sequence, slots, previous, touchedLow, touchedHigh, group, groupVersion, trimmedTo }, { tail }) => {
      const parts = await manager.whenLoaded();
      const { host, mounts } = parts;
      mounts.heard(mount);
      const before = new Map(slots.map((slot, index) => [slot, previous[index] ?? 0]));
      const touched = { low: touchedLow, high: touchedHigh };
      await host.apply({ log: mount, sequence, previous: before, group, groupVersion, touched, sections: tail });
      // What others wait for must be stable before they get it.
      if (mounts.heard(mount).wanted > 0) manager.journal.settleSoon();
      parts.liveness.trimmed(mount, trimmedTo);
      const shards = slots.map((slot) => host.shard(slot));
      return {
        reply: { applied: shards.map((shard) => shard.appliedTo(mount)), stable: shards.map((shard) => host.stableIn(shard, mount)) },
      };
    },

    renew: async ({ mount, trimmedTo, settle }, { peer }): Promise<{ reply: Reply<"renew"> }> => {
      const parts = await manager.whenLoaded();
      // An opening that was asked for on a connection that has ended since may have come last.
      if (parts.mounts.heard(mount).peer !== peer) await parts.mounts.open(mount, peer);
      parts.liveness.trimmed(mount, trimmedTo);
      if (settle) await manager.journal.settle();
      return { reply: { leaseMs: manager.grantedLeaseMs, ...progressOf(parts, mount) } };
    },

    closeMount: async ({ mount, end }) => {
      const parts = await manager.whenLoaded();
      await parts.mounts.close(mount, end);
      return { reply: {} };
    },

    ...movingHandlers(manager),
    ...cleaningHandlers(manager),

    report: async ({ mount, counters }) => {
      const parts = await manager.whenLoaded();
      parts.mounts.heard(mount).counters = counters;
      return { reply: {} };
    },
  };
}

function withoutInode(entry: NamedEntry): ListedEntry {
  return { ...entry, inode: undefined };
}
