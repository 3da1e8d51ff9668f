import { type ClusterMap, DazzleError, findMember, type Handlers, type MapCache, type MemberId, type StoreId } from "@dazzle/core";

/** Whether a member's groups list another store than it serves now. An emptied directory under an old name must not pass for the one that it was: `replace-server`
 * alone admits it (PROTOCOL rule 27). */
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
