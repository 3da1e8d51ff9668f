import { assert } from "./assert.ts";

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The log of one writer: a mount, a manager incarnation, a cleaner. Never reused. */
export type LogId = Brand<number, "LogId">;
/** A segment's place in its log, from 1. */
export type Sequence = Brand<number, "Sequence">;
/** A file's number (an inode number), never reused; the root is 1. */
export type IndexNumber = Brand<number, "IndexNumber">;
/** `index number mod SLOTS`. */
export type Slot = Brand<number, "Slot">;
/** A member of the cluster map, from 1. Never reused. */
export type MemberId = Brand<number, "MemberId">;
export type GroupId = Brand<number, "GroupId">;
export type GroupVersion = Brand<number, "GroupVersion">;
/** Made when a storage directory is created empty: 32 hexadecimal digits. */
export type StoreId = Brand<string, "StoreId">;
/** Made each time a storage process starts: 32 hexadecimal digits. */
export type BootId = Brand<string, "BootId">;

function positive(value: number, what: string): number {
  assert(Number.isSafeInteger(value) && value > 0, `${what} is a positive safe integer, not ${value}`);
  return value;
}

function hexadecimal(value: string, what: string): string {
  assert(/^[0-9a-f]{32}$/.test(value), `${what} is 32 hexadecimal digits, not ${value}`);
  return value;
}

export const SLOTS = 64;
export const ROOT = 1 as IndexNumber;

export const logId = (value: number): LogId => positive(value, "a log id") as LogId;
export const sequence = (value: number): Sequence => positive(value, "a sequence") as Sequence;
export const indexNumber = (value: number): IndexNumber => positive(value, "an index number") as IndexNumber;
/** Stands for the member where a process runs on a machine that is none. Nobody vouches for it. */
export const NO_MEMBER = 0 as MemberId;

export const memberId = (value: number): MemberId => positive(value, "a member id") as MemberId;
export const groupId = (value: number): GroupId => positive(value, "a group id") as GroupId;
export const groupVersion = (value: number): GroupVersion => positive(value, "a group version") as GroupVersion;
export const storeId = (value: string): StoreId => hexadecimal(value, "a store id") as StoreId;
export const bootId = (value: string): BootId => hexadecimal(value, "a boot id") as BootId;

export function slotOf(ino: number): Slot {
  return (ino % SLOTS) as Slot;
}
