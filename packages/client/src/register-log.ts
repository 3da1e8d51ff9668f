import {
  DazzleError,
  findLog,
  findMember,
  type LogId,
  type LogRow,
  type MapCache,
  type MemberId,
  NO_MEMBER,
  type Ports,
} from "@dazzle/core";

/** A new log of a mount on that member, registered with the first group. */
export async function registerLog(
  map: MapCache,
  options: { readonly member: MemberId; readonly label: string; readonly ports: Pick<Ports, "processes"> },
): Promise<LogRow> {
  let row: LogRow | undefined;
  await map.change((current) => {
    if (options.member !== NO_MEMBER) findMember(current, options.member);
    const group = current.groups[0];
    if (group === undefined) throw new DazzleError("notReady", "the cluster has no stripe group yet: are its storage nodes up?");
    if (row !== undefined && findLog(current, row.id)?.process === row.process) return undefined;
    row = {
      id: current.nextLog as LogId,
      kind: "mount",
      member: options.member,
      process: options.ports.processes.self,
      state: "live",
      groups: [group.id],
      end: null,
      label: options.label,
    };
    return { ...current, nextLog: current.nextLog + 1, logs: [...current.logs, row] };
  });
  return row as LogRow;
}
