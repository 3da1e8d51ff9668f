/** What a writer knows of a group that it may write to. */
export interface GroupLoad {
  readonly group: number;
  /** Of its current version. */
  readonly dataFragments: number;
  /** Servers' worth of payload: `dataServers` of its current version. */
  readonly dataServers: number;
  /** Payload bytes that fit, over all its stripes: its fullest server's room times that. Null where its servers have not told yet. */
  readonly roomBytes: number | null;
  /** How long its slowest server takes to answer now. */
  readonly answerMs: number;
  /** Segments on their way there. */
  readonly underWay: number;
  /** Payload bytes that it was given less than its share; negative where more. */
  readonly owedBytes: number;
}

/** So many times as slow as the fastest group a group may be before it gets less. */
const SLOW_RATIO = 2;

/** By group, in the order given: its share of what is written. In proportion to the room, so that groups of any size are equally full in the end; less where its servers
 * are slow. Groups of which one has not told its room count by their width. */
export function sharesOf(loads: readonly GroupLoad[]): number[] {
  const fastestMs = Math.min(...loads.map(({ answerMs }) => answerMs));
  const isTold = loads.every(({ roomBytes }) => roomBytes !== null);
  const weights = loads.map(({ roomBytes, dataServers, answerMs }) => {
    const room = isTold && roomBytes !== null ? roomBytes : dataServers;
    return room * Math.min(1, (SLOW_RATIO * Math.max(1, fastestMs)) / Math.max(1, answerMs));
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (total === 0 ? 1 / loads.length : weight / total));
}

/** Where the next segment of at most `segmentBytes` goes, among groups that can be written now. It stays in the `present` one until another was given a
 * segment too little: whoever waits for small segments waits for one group's servers. None gets more while `underWayMax` segments are on their way to it
 * and not to another, nor where a segment does not fit while another has room. Undefined where `loads` is empty. */
export function chooseGroup(
  loads: readonly GroupLoad[],
  present: number,
  limits: { readonly segmentBytes: number; readonly underWayMax: number },
): number | undefined {
  const fits = ({ roomBytes, dataServers, dataFragments }: GroupLoad) =>
    roomBytes === null || roomBytes * dataFragments >= limits.segmentBytes * dataServers;
  const roomy = preferred(loads, fits);
  const able = preferred(roomy, ({ underWay }) => underWay < limits.underWayMax);
  let best = able.find(({ group }) => group === present);
  for (const load of able)
    if (best === undefined || load.owedBytes >= best.owedBytes + (best.group === present ? limits.segmentBytes : 1)) best = load;
  return best?.group;
}

function preferred(loads: readonly GroupLoad[], is: (load: GroupLoad) => boolean): readonly GroupLoad[] {
  const some = loads.filter(is);
  return some.length > 0 ? some : loads;
}
