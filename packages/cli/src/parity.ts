export const PARITY_DEFAULT = 1;
/** XOR parity alone, for now. */
export const PARITY_MAX = 1;
