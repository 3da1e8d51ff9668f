/** Runs `task` for each item, so many at a time. Rejects with the first failure, after the others under way have ended. */
export async function eachAtOnce<Item>(count: number, items: Iterable<Item>, task: (item: Item) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let isFailed = false;
  const run = async () => {
    for (let next = iterator.next(); !next.done && !isFailed; next = iterator.next())
      await task(next.value).catch((error: unknown) => {
        isFailed = true;
        throw error;
      });
  };
  const ended = await Promise.allSettled(Array.from({ length: count }, run));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}
