import { DazzleError } from "../errors.ts";
import { type GroupId, type LogId, type MemberId, NO_MEMBER } from "../ids.ts";
import type { Ports } from "../ports.ts";
import { findGroup, findLog, findMember, type LogRow } from "./cluster-map.ts";
import type { MapCache } from "./map-cache.ts";

/** A new log of a mount or a cleaner on that member, registered with `group`; with the first one where nothing is said. Of one kind and label a process
 * registers one at a time. */
export async function registerLog(
  map: MapCache,
  options: {
    readonly kind: "mount" | "cleaner";
    readonly member: MemberId;
    readonly label: string;
    readonly group?: GroupId;
    readonly ports: Pick<Ports, "processes">;
  },
): Promise<LogRow> {
  const { kind, member, label } = options;
  // Whoever told of the map may not have heard yet that there is a group.
  if (map.current.groups.length === 0) await map.refresh();
  let row: LogRow | undefined;
  await map.change((current) => {
    if (member !== NO_MEMBER) findMember(current, member);
    const group = options.group === undefined ? current.groups[0] : findGroup(current, options.group);
    if (group === undefined) throw new DazzleError("notReady", "the cluster has no stripe group yet: are its storage nodes up?");
    if (row !== undefined && isSame(findLog(current, row.id), row)) return undefined;
    row = {
      id: current.nextLog as LogId,
      kind,
      member,
      process: options.ports.processes.self,
      state: "live",
      groups: [group.id],
      end: null,
      label,
    };
    return { ...current, nextLog: current.nextLog + 1, logs: [...current.logs, row] };
  });
  return row as LogRow;
}

/** An answer may have got lost: the log is there already. */
function isSame(found: LogRow | undefined, { kind, process, label }: LogRow): boolean {
  return found?.kind === kind && found.process === process && found.label === label;
}
