/** What Node cannot ask of the operating system by itself. The process that has an addon for it hands it in. */
export interface Native {
  clockBoottimeMs(): number;
  punchHole(fd: number, offset: number, length: number): boolean;
  /** Bytes read from the page cache; negative where the disk would be waited for. */
  preadNowait(fd: number, buffer: Uint8Array, bufferOffset: number, length: number, position: number): number;
}

let injected: Native | undefined;

/** To be called once, before the first port is used. */
export function useNative(native: Native): void {
  injected = native;
}

export function native(): Native | undefined {
  return injected;
}
