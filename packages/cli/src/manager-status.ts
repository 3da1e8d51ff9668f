import type { ClusterMap, Member } from "@dazzle/core";
import type { ManagerStatus as ToldStatus } from "@dazzle/manager";
import { ranges } from "./figures.ts";

/** `idle`: it has no slot to manage. */
export type ManagerState = "open" | "opening" | "idle" | "down";

export interface ManagerStatus {
  readonly name: string;
  /** How many, and which. */
  readonly slots: number;
  readonly slotList: readonly number[];
  readonly state: ManagerState;
  /** Of those that are not served yet, why. */
  readonly waiting: ReportedManager["slotsWaiting"];
}

/** What a node tells of its manager. */
export type ReportedManager = Pick<ToldStatus, "state" | "slotsWaiting">;

interface Told {
  readonly member: Member;
  readonly document: { readonly manager: ReportedManager | null } | undefined;
}

export function managerStatus(map: ClusterMap, told: readonly Told[]): readonly ManagerStatus[] {
  return told.flatMap(({ member, document }) => {
    const slotList = map.slots.flatMap(({ manager }, slot) => (manager === member.id ? [slot] : []));
    const slots = slotList.length;
    if (slots === 0 && !member.roles.includes("manager")) return [];
    const open = document?.manager?.state === "open";
    const state = document === undefined ? "down" : open ? "open" : slots === 0 ? "idle" : "opening";
    const waiting = document?.manager?.slotsWaiting ?? [];
    return [{ name: member.name, slots, slotList, state, waiting }] as const;
  });
}

export function managerWarnings({ name, state, waiting }: ManagerStatus): string[] {
  return [
    ...(state === "opening" ? [`the manager on ${name} is opening its shards`] : []),
    ...waiting.map(({ slots, reason }) => {
      const [what, wait] = slots.length === 1 ? ["slot", "waits"] : ["slots", "wait"];
      return `${what} ${ranges(slots)} of the manager on ${name} ${wait}: ${reason}`;
    }),
  ];
}
