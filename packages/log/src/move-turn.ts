/** Whose turn it is of a stripe's fragments that are `held`: the first of them in an order of all `width`, which goes round with `turn`. Of two who know of different ones each
 * chooses the same, unless the one does not know of what the other chose: so somebody chooses itself. What a missing one would have had goes round the others. */
export function turnOf(turn: number, width: number, held: readonly number[]): number {
  const first = turn % width;
  const round = Math.floor(turn / width);
  const rank = (index: number) => (index === first ? -1 : (((index + width - first - 1) % width) + round) % (width - 1));
  return held.reduce((best, index) => (rank(index) < rank(best) ? index : best));
}
