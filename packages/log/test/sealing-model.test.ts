import test from "ava";
import { checkSafety } from "../../core/test/support/spin.ts";

const MODEL = new URL("../model/sealing.pml", import.meta.url);
const RACE = ["RACE", "SEQUENCES=1"];
const DOUBLE = ["DOUBLE", "SEQUENCES=1"];

for (const [what, definitions, states] of [
  ["one server of three left out", [], 1_000_000],
  ["another one left out, that holds a fragment of both segments", ["LEFT=0"], 1_000_000],
  ["a group that grows from one server to two", ["GROWS", "RACE"], 1_000_000],
  ["a group that gets a second parity with its third server", ["GROWS=2", "SEQUENCES=1"], 250_000],
  ["one server of four with two parities left out, with a wide segment", [...DOUBLE, "WIDE=1"], 3_000_000],
  ["one server of four with two parities left out, with a mirrored tail", [...DOUBLE, "WIDE=2"], 1_000_000],
  ["two recoveries at once, of a wide segment", [...RACE, "WIDE=1"], 1_000_000],
  ["two recoveries at once, of a mirrored tail", [...RACE, "WIDE=2"], 1_000_000],
] as const) {
  test.serial(`a log ends once, with all that was stable, in every interleaving of its model: ${what}`, async (t) => {
    t.timeout(600_000);
    const checked = await checkSafety(MODEL, definitions);
    t.is(checked.failed, undefined);
    t.true(checked.states > states);
  });
}

for (const [bug, definitions, what] of [
  ["a server lists, and has not adopted the map in which the log is not live", ["UNFENCED"], /nothingLost/],
  ["a server takes what comes under a replaced version", ["LAX"], /nothingLost/],
  ["a server that does not answer is taken to have nothing", ["SILENCE"], /nothingLost/],
  ["a mirrored tail is missed where only a wide stripe has fragments", ["WIDTH"], /nothingLost/],
  ["only the current version is asked about", ["CURRENT"], /nothingLost/],
  ["a version is frozen by what its servers held before they adopted its replacement", ["EARLY"], /nothingLost/],
  ["a version is frozen on the word of one server too few", ["HALF"], /nothingLost/],
  ["a version with two parities is frozen on the word of one server too few", [...DOUBLE, "WIDE=2", "HALF"], /nothingLost/],
  ["a mirrored tail with two parities is missed where only a wide stripe has fragments", [...DOUBLE, "WIDE=2", "WIDTH"], /nothingLost/],
  ["the end is decided before what is recoverable is whole", ["HASTE"], /wholeUpToTheEnd/],
  ["a header tells that a segment is stable before it is", ["BOAST"], /wholeUpToTheEnd/],
  ["a recovery decides the end though it is decided", ["TWICE", ...RACE], /oneEnd/],
  ["a server lists what is not on its disk", ["UNSYNCED"], /wholeUpToTheEnd/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await checkSafety(MODEL, definitions)).failed ?? "nothing", what);
  });
}
