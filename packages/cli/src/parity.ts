export const PARITY_DEFAULT = 1;
/** With less than two slices a stripe, parities are copies. */
export const DOUBLE_PARITY_SERVERS = 4;
