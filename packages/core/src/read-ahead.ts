/** What `read` answers of each item, in order: at most `most` of them are read ahead of who takes them. Throws what a reading throws when its turn comes. */
export async function* readAhead<T, R>(
  most: number,
  items: Iterable<T>,
  read: (item: T) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const ahead: Promise<R>[] = [];
  const left = items[Symbol.iterator]();
  const fill = () => {
    while (ahead.length < most) {
      const { value, done } = left.next();
      if (done) return;
      const reading = read(value);
      // It counts in its turn, or never where nobody comes so far.
      reading.catch(() => {});
      ahead.push(reading);
    }
  };
  for (fill(); ahead.length > 0; fill()) yield await (ahead.shift() as Promise<R>);
}
