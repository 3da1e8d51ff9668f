/** One message, one row: its number, the first protocol version that has it, the order of its fields on the wire, whether
 * trying it again is safe. The type parameters are the shapes; the field lists must name each field once. */
export interface MessageRow<Request, Reply> {
  readonly id: number;
  readonly since: number;
  readonly request: readonly (keyof Request & string)[];
  readonly reply: readonly (keyof Reply & string)[];
  readonly idempotent: boolean;
  /** Fields of the reply that are lists of rows, each of these numbers: on the wire the numbers alone stand one after the other. */
  readonly tables?: { readonly [Field in keyof Reply & string]?: readonly string[] };
}

export function message<Request, Reply>(row: MessageRow<Request, Reply>): MessageRow<Request, Reply> {
  return row;
}

export type Empty = Record<never, never>;
