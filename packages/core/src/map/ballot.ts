/** Names one round of the map's register, for ever: no two rounds have the same one, because no two processes have the same proposer. */
export interface Ballot {
  readonly counter: number;
  /** Drawn at random by each process. */
  readonly proposer: string;
}

/** Before all others. */
export const NO_BALLOT: Ballot = { counter: 0, proposer: "" };

export function isSameBallot(one: Ballot | undefined, other: Ballot | undefined): boolean {
  return one?.counter === other?.counter && one?.proposer === other?.proposer;
}

export function isAfter(one: Ballot, other: Ballot): boolean {
  return one.counter > other.counter || (one.counter === other.counter && one.proposer > other.proposer);
}
