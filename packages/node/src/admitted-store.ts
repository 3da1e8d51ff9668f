import {
  type ClusterMap,
  DazzleError,
  findMember,
  type Handlers,
  isDazzleError,
  type Logger,
  type MapCache,
  type MemberId,
  type StoreId,
} from "@dazzle/core";
import { isTakenOut } from "./leaving.ts";

/** Whether a member's groups list another store than it serves now. An emptied directory under an old name must not pass for the one that it was: `replace-server`
 * alone admits it (rule 27). */
export function isAnother(map: ClusterMap, member: MemberId, store: StoreId): boolean {
  const { store: listed } = findMember(map, member);
  if (listed === null || listed === store) return false;
  return map.groups.some(({ versions }) =>
    versions.some(({ servers }) => servers.some((row) => row.member === member && row.store === listed)),
  );
}

/** A storage server's answers, of which but `stat` is given while it serves another store: its silence about a fragment would prove nothing. */
export function admittedAlone(handlers: Handlers, map: MapCache, member: MemberId, store: StoreId): Handlers {
  const guarded = Object.entries(handlers).map(([name, handler]) => {
    if (name === "stat") return [name, handler];
    const answer = (...call: readonly unknown[]) => {
      if (isAnother(map.current, member, store))
        throw new DazzleError(
          "wrongStore",
          `${findMember(map.current, member).name} serves another storage directory than its group lists`,
        );
      return (handler as (...call: readonly unknown[]) => unknown)(...call);
    };
    return [name, answer];
  });
  return Object.fromEntries(guarded) as Handlers;
}

/** Has the map list the store that a member serves, unless its groups list another: at once, and whenever they don't any more. A store that is declared lost while its
 * process lives comes back when no version lists it any more, and only as long as `isWell`: nobody is to wait for it before. */
export async function registerStore(map: MapCache, member: MemberId, store: StoreId, logger: Logger, isWell: () => boolean): Promise<void> {
  if (isAnother(map.current, member, store)) {
    const { name } = findMember(map.current, member);
    logger("error", "the storage directory is not the one that the group lists: it stores nothing", {
      name,
      way: `put the directory back, or admit this one: dazzle group replace-server GROUP ${name} ${name}`,
    });
  }
  let wasListed = false;
  const register = (now: ClusterMap) => {
    wasListed ||= now.members.some((row) => row.id === member && row.store === store);
    return wasListed && (isNamed(now, store) || !isWell()) ? undefined : withStore(now, member, store);
  };
  map.onChange((now) => {
    if (register(now) === undefined) return;
    map.change(register).catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      logger("info", "the store is not registered yet", { reason: error.message });
    });
  });
  await map.change(register);
}

function isNamed({ groups }: ClusterMap, store: StoreId): boolean {
  return groups.some(({ versions }) => versions.some(({ servers }) => servers.some((row) => row.store === store)));
}

function withStore(map: ClusterMap, member: MemberId, store: StoreId): ClusterMap | undefined {
  const row = map.members.find(({ id }) => id === member);
  if (row === undefined || row.store === store || isTakenOut(row) || isAnother(map, member, store)) return undefined;
  return { ...map, members: map.members.map((one) => (one === row ? { ...row, store, incarnation: row.incarnation + 1 } : one)) };
}
