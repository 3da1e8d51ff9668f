import { type BootId, bootId, DazzleError, type Disk, type Random, type StoreId, storeId } from "@dazzle/core";
import { VOLUMES_DIRECTORY } from "./volumes.ts";

export const STORE_FORMAT = 1;
const STORE_FILE = "store";
const ID_BYTES = 16;

/** The file `store`, JSON. */
interface Identity {
  readonly format: number;
  readonly store: string;
  readonly clusterId: string;
}

export function newBootId(random: Random): BootId {
  return bootId(newId(random));
}

function newId(random: Random): string {
  return Buffer.from(random.bytes(ID_BYTES)).toString("hex");
}

/** The store's id: made where the directory is empty, read where it is not. Rejects `wrongCluster` for a directory of another
 * cluster or of a newer format, `corrupt` for one whose id is lost. */
export async function openIdentity(disk: Disk, random: Random, clusterId: string): Promise<StoreId> {
  await disk.makeDirectory(VOLUMES_DIRECTORY);
  const bytes = await disk.readWhole(STORE_FILE);
  if (bytes !== undefined) return checked(parse(bytes), clusterId);
  if ((await disk.list(VOLUMES_DIRECTORY)).length > 0)
    throw new DazzleError(
      "corrupt",
      `the directory has volumes and no file "${STORE_FILE}": bring that back, or start with an empty directory`,
    );
  const identity: Identity = { format: STORE_FORMAT, store: newId(random), clusterId };
  await disk.syncDirectory(".");
  await disk.replace(STORE_FILE, Buffer.from(`${JSON.stringify(identity)}\n`));
  return storeId(identity.store);
}

function parse(bytes: Uint8Array): Partial<Identity> {
  try {
    return JSON.parse(Buffer.from(bytes).toString()) as Partial<Identity>;
  } catch (error) {
    throw new DazzleError("corrupt", `the file "${STORE_FILE}" can't be read: ${(error as Error).message}`);
  }
}

function checked(identity: Partial<Identity>, clusterId: string): StoreId {
  if (identity.format !== STORE_FORMAT)
    throw new DazzleError(
      "wrongCluster",
      `the store is of format ${String(identity.format)}, this program knows ${STORE_FORMAT}: is it newer?`,
    );
  if (identity.clusterId !== clusterId)
    throw new DazzleError("wrongCluster", `the store belongs to cluster ${String(identity.clusterId)}, not to ${clusterId}`);
  return storeId(String(identity.store));
}
