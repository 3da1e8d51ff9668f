/** What a stream has of a sequence. */
export interface Sequenced {
  readonly sequence: number;
}

/** A stream that has begun: what it has next is known. */
export interface Begun<Item> {
  readonly iterator: AsyncIterator<Item>;
  head: IteratorResult<Item>;
}

export function begin<Item>(streams: readonly AsyncIterable<Item>[]): Promise<Begun<Item>[]> {
  return Promise.all(
    streams.map(async (stream) => {
      const iterator = stream[Symbol.asyncIterator]();
      return { iterator, head: await iterator.next() };
    }),
  );
}

/** Several ascending streams as one: for each sequence, everything that they have of it. */
export async function* bySequence<Item extends Sequenced>(
  streams: readonly Begun<Item>[],
): AsyncGenerator<readonly [sequence: number, items: readonly Item[]]> {
  for (;;) {
    let least = Number.POSITIVE_INFINITY;
    for (const { head } of streams) if (!head.done) least = Math.min(least, head.value.sequence);
    if (least === Number.POSITIVE_INFINITY) return;
    const items: Item[] = [];
    for (const stream of streams)
      while (!stream.head.done && stream.head.value.sequence === least) {
        items.push(stream.head.value);
        stream.head = await stream.iterator.next();
      }
    yield [least, items];
  }
}
