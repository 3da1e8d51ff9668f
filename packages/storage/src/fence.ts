import {
  type ClusterMap,
  currentVersion,
  DazzleError,
  type Disk,
  type FragmentHeader,
  type FragmentKey,
  findLog,
  type GroupVersionRow,
  type LogRow,
  MAP_FORMAT,
  placeOf,
  type StoreId,
} from "@dazzle/core";

const MAP_FILE = "map";

/** What of a fragment decides whether it may be restored. */
export type FencedFragment = FragmentKey & Pick<FragmentHeader, "trimmedTo" | "clusterId">;

/** The map that this server has adopted: kept durably, never an older one again (rule 9). The file `map` holds it as JSON. */
export class Fence {
  readonly #disk: Disk;
  readonly #store: StoreId;
  readonly #clusterId: string;
  #map: ClusterMap | null;
  #tail: Promise<void> = Promise.resolve();
  readonly #listeners: Array<(map: ClusterMap) => void> = [];

  private constructor(disk: Disk, store: StoreId, clusterId: string, map: ClusterMap | null) {
    this.#disk = disk;
    this.#store = store;
    this.#clusterId = clusterId;
    this.#map = map;
  }

  static async open(disk: Disk, store: StoreId, clusterId: string): Promise<Fence> {
    const bytes = await disk.readWhole(MAP_FILE);
    const map = bytes === undefined ? null : (JSON.parse(Buffer.from(bytes).toString()) as ClusterMap);
    if (map !== null && map.format !== MAP_FORMAT)
      throw new DazzleError("wrongCluster", `the adopted map is of format ${String(map.format)}, this program reads ${MAP_FORMAT}`);
    const fence = new Fence(disk, store, clusterId, map);
    if (map !== null) fence.#checkCluster(map.clusterId);
    return fence;
  }

  /** 0 before the first. */
  get version(): number {
    return this.#map?.version ?? 0;
  }

  get map(): ClusterMap | null {
    return this.#map;
  }

  /** The last log that may have stored something here. */
  get lastLog(): number {
    return this.#map === null ? Number.MAX_SAFE_INTEGER : this.#map.nextLog - 1;
  }

  /** Called with every map once it is durable here. */
  onAdopt(listener: (map: ClusterMap) => void): void {
    this.#listeners.push(listener);
  }

  /** Makes the map durable; it counts from then on. An older one changes nothing. */
  async adopt(map: ClusterMap): Promise<void> {
    this.#checkCluster(map.clusterId);
    if (map.version <= this.version) return;
    const turn = this.#tail.then(() => this.#write(map));
    this.#tail = turn.catch(() => {});
    await turn;
  }

  async #write(map: ClusterMap): Promise<void> {
    if (map.version <= this.version) return;
    await this.#disk.replace(MAP_FILE, Buffer.from(JSON.stringify(map)));
    this.#map = map;
    for (const listener of this.#listeners) listener(map);
  }

  #checkCluster(clusterId: string): void {
    if (clusterId !== this.#clusterId)
      throw new DazzleError("wrongCluster", `this is a store of cluster ${this.#clusterId}, not of ${clusterId}`);
  }

  /** Throws where the writer of a live log may not store this fragment here: `logSealed`, `versionReplaced`, `staleMap` where
   * this map does not know what the writer knows, `notReady` where the place is another store's. */
  checkStore(header: FragmentHeader): void {
    const log = this.#log(header.log);
    if (log.state !== "live") throw new DazzleError("logSealed", `log ${log.id} is ${log.state}`);
    this.#checkVersion(header);
    if (!log.groups.some((group) => group === header.group))
      throw new DazzleError("staleMap", `log ${log.id} has not registered group ${header.group}`);
  }

  /** Throws where nobody may restore this fragment here: as `checkStore`, `logSealed` past a decided end, `invalid` of a live log, but for what is trimmed, which
   * its writer never stores again, and for what a version of the group held when it was frozen: its writer has the same bytes, if it still writes that again. */
  checkRestore(header: FencedFragment): void {
    const log = this.#log(header.log);
    if (log.state === "live" && header.sequence > header.trimmedTo && !this.#wasFrozen(header))
      throw new DazzleError("invalid", `log ${log.id} is live: its writer stores, nobody restores`);
    if (log.end !== null && header.sequence > log.end)
      throw new DazzleError("logSealed", `sequence ${header.sequence} lies past the end of log ${log.id}, ${log.end}`);
    this.#checkVersion(header);
  }

  #wasFrozen({ log, sequence, group }: FragmentKey): boolean {
    const versions = this.#map?.groups.find((row) => row.id === group)?.versions ?? [];
    return versions.some(({ frozen }) => frozen !== null && sequence <= (frozen[log] ?? 0));
  }

  isLive(log: number): boolean {
    return this.#map !== null && findLog(this.#map, log)?.state === "live";
  }

  /** Whether a log is live no more, and its end is not decided yet. */
  isEnding(log: number): boolean {
    return this.#map !== null && findLog(this.#map, log)?.state === "expelled";
  }

  /** Whether a log was known once and has left the map. */
  isGone(log: number): boolean {
    return this.#map !== null && log < this.#map.nextLog && findLog(this.#map, log) === undefined;
  }

  /** The decided end of a log; null where there is none, or the log is unknown. */
  endOf(log: number): number | null {
    return this.#map === null ? null : (findLog(this.#map, log)?.end ?? null);
  }

  #log(id: number): LogRow {
    if (this.#map === null) throw new DazzleError("staleMap", "this server has adopted no map yet");
    const log = findLog(this.#map, id);
    if (log !== undefined) return log;
    if (this.isGone(id)) throw new DazzleError("logSealed", `log ${id} has left the map`);
    throw new DazzleError("staleMap", `log ${id} is not in the map's version ${this.version}`);
  }

  #checkVersion(header: FencedFragment): void {
    this.#checkCluster(header.clusterId);
    const group = this.#map?.groups.find((row) => row.id === header.group);
    if (group === undefined) throw new DazzleError("staleMap", `group ${header.group} is not in the map's version ${this.version}`);
    const current = currentVersion(group);
    if (header.groupVersion < current.version)
      throw new DazzleError("versionReplaced", `version ${header.groupVersion} of group ${group.id} was replaced by ${current.version}`);
    if (header.groupVersion > current.version)
      throw new DazzleError("staleMap", `group ${group.id} is at version ${current.version} here, not yet ${header.groupVersion}`);
    this.#checkPlace(header, current);
  }

  /** A version lists stores, not machines: an emptied directory under an old name must not pass for what it held (rule 27). */
  #checkPlace(header: FragmentKey, current: GroupVersionRow): void {
    const place = placeOf(header.sequence, header.index, current.servers.length);
    const listed = current.servers[place]?.store;
    if (listed !== this.#store)
      throw new DazzleError("notReady", `place ${place} of group ${header.group} is store ${String(listed)}'s, this is ${this.#store}`);
  }
}
