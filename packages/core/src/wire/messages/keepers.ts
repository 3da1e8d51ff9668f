import type { ClusterMap } from "../../map/cluster-map.ts";
import { type Empty, message } from "./row.ts";

/** What the keepers of the map answer. */
export const KeeperMessage = {
  mapRead: message<Empty, { map: ClusterMap }>({ id: 2, since: 1, request: [], reply: ["map"], idempotent: true }),
  mapWrite: message<{ expected: number; map: ClusterMap }, Empty>({
    id: 3,
    since: 1,
    request: ["expected", "map"],
    reply: [],
    idempotent: false,
  }),
} as const;
