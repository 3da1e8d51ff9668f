/** Runs `action` on each item, at most `most` at once, begun in order. Resolves with what it answered, in order; rejects as the first that fails, and begins
 * none after that. */
export async function someAtOnce<T, R>(most: number, items: readonly T[], action: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const take = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await action(items[index] as T);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(most, items.length) }, take));
    return results;
  } finally {
    next = items.length;
  }
}
