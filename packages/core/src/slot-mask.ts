/** A set of slots, a bit each. */
export interface SlotMask {
  readonly low: number;
  readonly high: number;
}

export const ALL_SLOTS: SlotMask = { low: 0xffffffff, high: 0xffffffff };
export const NO_SLOTS: SlotMask = { low: 0, high: 0 };

export function withSlot(mask: SlotMask, slot: number): SlotMask {
  return slot < 32
    ? { low: (mask.low | (1 << slot)) >>> 0, high: mask.high }
    : { low: mask.low, high: (mask.high | (1 << (slot - 32))) >>> 0 };
}

export function hasSlot(mask: SlotMask, slot: number): boolean {
  return slot < 32 ? (mask.low & (1 << slot)) !== 0 : (mask.high & (1 << (slot - 32))) !== 0;
}
