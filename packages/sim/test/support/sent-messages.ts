import { decodeHeader } from "@dazzle/core";
import type { Disguise } from "@dazzle/sim";
import { disguised, withConnections } from "./plants.ts";

/** Counts the requests that nodes send each other, by name; reads of a log by `read LOG`. What a node asks of itself is no message. */
export class SentMessages {
  readonly #counts = new Map<string, number>();

  get disguise(): Disguise {
    return {
      network: (network, instance) =>
        instance.name.startsWith("mount")
          ? network
          : withConnections(network, (inner) =>
              disguised(inner, {
                send: (frame) => {
                  const packet = decodeHeader(frame.header);
                  if (packet.kind === "request") this.#count(packet.message === "read" ? `read ${packet.fields[0]}` : packet.message);
                  inner.send(frame);
                },
              }),
            ),
    };
  }

  #count(name: string): void {
    this.#counts.set(name, this.of(name) + 1);
  }

  of(...names: readonly string[]): number {
    return names.reduce((sum, name) => sum + (this.#counts.get(name) ?? 0), 0);
  }

  clear(): void {
    this.#counts.clear();
  }

  toString(): string {
    return JSON.stringify(Object.fromEntries([...this.#counts].sort()));
  }
}
