import {
  type ClusterMap,
  type Group,
  type GroupId,
  type GroupVersion,
  MAP_FORMAT,
  type Member,
  type MemberId,
  type StoreId,
} from "@dazzle/core";
import test from "ava";
import { groupWarnings, type MemberStatus } from "../src/status-document.ts";

const IDS = [1, 2, 3] as MemberId[];
const storeOf = (id: number) => String(id).repeat(32) as StoreId;

function warnings(parity: number, states: readonly MemberStatus["state"][]): string[] {
  const servers = IDS.map((member) => ({ member, store: storeOf(member) }));
  const version = { version: 1 as GroupVersion, servers, dataFragments: IDS.length - parity, parityFragments: parity, frozen: null };
  const group: Group = { id: 1 as GroupId, name: "main", parity, wanted: IDS, versions: [version] };
  const row = { addresses: [], roles: ["storage"], incarnation: 1, leaving: false } as const;
  const members: readonly Member[] = IDS.map((id) => ({ ...row, id, name: `m${id}`, store: storeOf(id) }));
  const map: ClusterMap = {
    ...{ format: MAP_FORMAT, clusterId: "00112233445566778899aabbccddeeff", version: 1, nextLog: 1, nextMember: 4 },
    ...{ members, groups: [group], slots: [], logs: [], keepers: [], formerKeepers: [] },
  };
  return groupWarnings(
    map,
    group,
    states.map((state, index) => ({ id: IDS[index] as number, state })),
  );
}

test("a group of which too few servers are up to be written is named in a warning", (t) => {
  t.deepEqual(warnings(2, ["up", "down", "up"]), [
    "the group main can't be written: 2 of its servers are up, and with 2 parity it takes 3",
  ]);
  t.deepEqual(warnings(1, ["down", "starting", "up"]), [
    "the group main can't be written: 1 of its servers are up, and with 1 parity it takes 2",
  ]);
  t.deepEqual(warnings(1, ["up", "down", "up"]), []);
  t.deepEqual(warnings(2, ["up", "leaving", "up"]), []);
});
