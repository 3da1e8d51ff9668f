import { CLOCK_DRIFT, type Limits, type MemberId } from "@dazzle/core";

/** What a slot's new owner knows of those that had it before, on its own clock. */
export interface EarlierOwners {
  /** By then every lease that they gave to a mount has ended (PROTOCOL rule 29). */
  readonly leasesEndMs: number;
  /** The last one's machine, where nobody heard of it since, and when the slot came here. */
  readonly silent: { readonly member: MemberId; readonly sinceMs: number; readonly cameMs: number } | null;
}

/** By when the leases have ended that a manager gave to mounts, whose own lease is over at `endMs`: none outlives that by more (see `grantedLeaseMs`). */
export function mountLeasesEndMs(limits: Limits, endMs: number): number {
  return endMs + (limits.mountLeaseMs - limits.managerLeaseMs) * (1 + CLOCK_DRIFT);
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
