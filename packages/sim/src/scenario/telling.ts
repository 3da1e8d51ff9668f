/** What the parts of a scenario tell it. */
export interface Telling {
  /** A line of the trace. */
  note(what: string): void;
  count(what: string, times?: number): void;
  /** Ends the scenario. */
  failed(error: unknown): void;
}
