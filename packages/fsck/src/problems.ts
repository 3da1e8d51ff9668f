/** Everything that can be wrong: what it is called in JSON, and what it means. */
export const Problem = {
  map: "the cluster map contradicts itself, or what is there",
  missingFile: "a name leads to an index number that does not exist",
  nameless: "no name leads to a file or directory that has links",
  linkCount: "the link count is not the number of names",
  entryType: "a name says another type than the file has",
  strayEntries: "names are kept for what is no directory",
  severalNames: "a directory has several names",
  wrongParent: "a directory says that another directory holds it",
  loop: "directories lie within one another, and not below the root",
  noRoot: "there is no root directory",
  orphan: "a file without links is not known to be open, or one that has links is",
  strayExtents: "extents are kept for a file that does not exist",
  badExtents: "a file's extents overlap, are out of place, or lie behind its end",
  strayAttributes: "extended attributes are kept for a file that does not exist",
  hiddenAttributes: "extended attributes are kept for a file that says it never had any",
  liveBytes: "a segment's live bytes are not the sum of what refers to it",
  notAsLogged: "a manager does not have what the logs say",
  segmentLost: "a segment that is needed can't be read any more",
  fragmentMissing: "a fragment of a segment that is needed is not where it should be",
  fragmentDamaged: "a fragment does not match its checksums",
  contradiction: "the fragments of a segment contradict one another",
  strayFragments: "nobody needs what a server holds, and it is not deleted",
} as const;
export type Problem = keyof typeof Problem;

/** Something that looks wrong. It may only be on its way: two looks that see the same evidence, between which everything was applied, tell. */
export interface Suspicion {
  readonly problem: Problem;
  /** What it is about: names it among all suspicions of its problem. */
  readonly subject: Subject;
  /** What was seen, for people. */
  readonly seen: string;
  /** Of a count: what it is, and what it should be. */
  readonly count?: { readonly is: number; readonly should: number };
  /** Of names: the `traceOf` what was judged. */
  readonly trace?: number;
  /** All that was seen: changes with everything that the suspicion rests on. */
  readonly evidence: string;
}

export interface Subject {
  readonly ino?: number;
  readonly slot?: number;
  readonly log?: number;
  readonly sequence?: number;
  readonly server?: string;
  readonly index?: number;
  /** Of an entry of an imap, hexadecimal. */
  readonly key?: string;
}

/** What is wrong for certain. */
export interface Finding {
  readonly problem: Problem;
  readonly subject: Subject;
  readonly seen: string;
  readonly count?: Suspicion["count"];
  readonly trace?: number;
  /** Of a file, as far as it can be told. */
  readonly path?: string;
}

export function suspicionKey({ problem, subject }: Pick<Suspicion, "problem" | "subject">): string {
  const { ino, slot, log, sequence, server, index, key } = subject;
  return `${problem} ${[ino, slot, log, sequence, server, index, key].map((part) => part ?? "").join(" ")}`;
}
