interface FsckReport {
  readonly findings: readonly { readonly problem: string }[];
  readonly unchecked: readonly string[];
}

/** Whether `fsck --json` told only of what may be otherwise in a moment: fragments that are deleted yet, and who did not answer in time. */
export function isPassing(stdout: string): boolean {
  let report: FsckReport;
  try {
    report = JSON.parse(stdout) as FsckReport;
  } catch {
    return false;
  }
  const { findings, unchecked } = report;
  return findings.length + unchecked.length > 0 && findings.every(({ problem }) => problem === "strayFragments");
}
