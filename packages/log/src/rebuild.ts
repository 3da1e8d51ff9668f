import { DazzleError, type FragmentKey, findGroupVersion, fragmentRanges, joined, type Stripe } from "@dazzle/core";
import { FragmentReader, failuresOf } from "./fragment-reader.ts";
import { locateSegment } from "./locate.ts";
import type { LogOptions } from "./options.ts";
import { fragmentData } from "./payload-cut.ts";
import { verdict } from "./reader.ts";
import { geometryFrom, placementName, type SegmentGeometry } from "./segment-geometry.ts";

/** A fragment that its server can't read. */
export interface LostFragment extends FragmentKey, Stripe {
  readonly summaryOffset: number;
}

/** Computes what a fragment held from anything but that fragment. */
export class FragmentRebuilder {
  readonly #options: LogOptions;
  readonly #fragments: FragmentReader;

  constructor(options: LogOptions) {
    this.#options = options;
    this.#fragments = new FragmentReader(options);
  }

  /** Bytes `offset … offset + length` of the fragment's data, from the others of its stripe, or from the segment as it lies under another version; every byte of those is verified.
   * Rejects `fragmentMissing` where nothing else of the segment is stored, else as `LogReader.read`. */
  async rebuild(fragment: LostFragment, offset: number, length: number): Promise<Buffer> {
    const { map } = this.#options;
    const { log, sequence, group, groupVersion, index } = fragment;
    const row = findGroupVersion(map.current, group, groupVersion);
    const failures: DazzleError[] = [];
    if (row === undefined) failures.push(new DazzleError("fragmentMissing", `the map has no version ${groupVersion} of group ${group}`));
    else {
      const geometry = geometryFrom(fragment, fragment, row);
      try {
        return joined(await this.#fragments.others(geometry, index, offset, length));
      } catch (error) {
        failures.push(...failuresOf(error));
      }
    }
    const tried = new Set([placementName(fragment)]);
    // An older version may be whole where a newer one was begun.
    for (const isThorough of [false, true]) {
      const { geometries, isThere, silent } = await locateSegment(
        this.#options,
        this.#fragments,
        fragment,
        undefined,
        isThorough ? tried : undefined,
      );
      for (const other of geometries) {
        if (tried.has(placementName(other))) continue;
        tried.add(placementName(other));
        try {
          return fragmentData(await this.#payload(other), fragment, index).subarray(offset, offset + length);
        } catch (error) {
          failures.push(...failuresOf(error));
        }
      }
      failures.push(...silent);
      if (!isThere) break;
    }
    if (failures.every(({ code }) => code === "fragmentMissing"))
      throw new DazzleError("fragmentMissing", `log ${log} segment ${sequence}: nothing else of it is stored anywhere`);
    throw verdict({ log, sequence }, failures);
  }

  async #payload(geometry: SegmentGeometry): Promise<Buffer> {
    const ranges = fragmentRanges(geometry, 0, geometry.payloadBytes);
    const pieces = await Promise.all(ranges.map(({ index, offset, length }) => this.#fragments.read(geometry, index, offset, length)));
    return joined(pieces.flat());
  }
}
