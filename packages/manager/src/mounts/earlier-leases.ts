import { type ChainLink, CLOCK_DRIFT, type Limits, type MemberId } from "@dazzle/core";

/** What a slot's new owner knows of those that had it before, on its own clock. */
export interface EarlierOwners {
  /** By then every lease that they gave to a mount has ended (rule 29). */
  readonly leasesEndMs: number;
  /** The last one's machine, where nobody heard of it since, and when the slot came here. */
  readonly silent: { readonly member: MemberId; readonly sinceMs: number; readonly cameMs: number } | null;
}

/** What is known of a slot's owners before the one that has it under `term` since `cameMs`. `ends`: by log, when the lease of its manager was over at the latest. */
export function earlierOwners(
  { term, links, cameMs }: { readonly term: number; readonly links: readonly ChainLink[]; readonly cameMs: number },
  known: {
    readonly limits: Limits;
    readonly nowMs: number;
    readonly ends: ReadonlyMap<number, number>;
    readonly memberOf: (log: number) => MemberId | undefined;
  },
): EarlierOwners {
  const { limits, nowMs, ends, memberOf } = known;
  const managerLeaseMs = limits.managerLeaseMs * (1 + CLOCK_DRIFT);
  // Of one that gave the slot away and goes on a mount may have had its lease until it learned of that.
  const leaseEnds = links.map(({ log, end }) => (end === null ? (ends.get(log) ?? nowMs + managerLeaseMs) : nowMs + managerLeaseMs));
  // One that logged nothing may have left the chain, and have given leases.
  if (links.length === 0 || hasGap(term, links)) leaseEnds.push(nowMs + managerLeaseMs);
  const last = links.at(-1);
  const endMs = last?.end === null && last.term === term - 1 ? ends.get(last.log) : undefined;
  const member = last === undefined ? undefined : memberOf(last.log);
  return {
    // None outlives its manager's by more (see `grantedLeaseMs`).
    leasesEndMs: Math.max(...leaseEnds) + (limits.mountLeaseMs - limits.managerLeaseMs) * (1 + CLOCK_DRIFT),
    silent: endMs === undefined || member === undefined ? null : { member, sinceMs: endMs - managerLeaseMs, cameMs },
  };
}

function hasGap(term: number, links: readonly ChainLink[]): boolean {
  return links.some((link, index) => link.term + 1 !== (links[index + 1]?.term ?? term));
}

/** How long a lease a manager gives to a mount, whose own lease runs for `leftMs`: both count from when the keepers were asked last, so that a
 * manager that vanishes together with a mount does not make others wait for the one lease after the other. */
export function grantedLeaseMs(limits: Limits, leftMs: number): number {
  return Math.max(0, Math.min(limits.mountLeaseMs, leftMs + limits.mountLeaseMs - limits.managerLeaseMs));
}

/** Since when a mount is taken to be silent that was never heard of here. A manager that is silent on the same machine tells of the mount as well;
 * only, the mount is given as long as a manager's lease to come here. */
export function awaitedSinceMs(limits: Limits, { silent }: EarlierOwners, member: MemberId, nowMs: number): number {
  if (silent?.member !== member) return nowMs;
  return Math.min(nowMs, Math.max(silent.sinceMs, silent.cameMs + limits.managerLeaseMs - limits.mountSilenceMs));
}
