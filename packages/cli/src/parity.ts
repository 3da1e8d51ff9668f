export const PARITY_DEFAULT = 1;
