import { parseArgs } from "node:util";
import { Workspace } from "../workspace.ts";
import { Rolling } from "./rolling.ts";

const USAGE = `Usage: npm run rolling -- [--minutes M] [--seed N]
Kills a random process of five machines and three mounts every 5 s while programs use them, then cuts the power of all disks twice. As root.
  --minutes M   goes on for so long (default 20)
  --seed N      what is killed when
`;
const POWER_CUTS = 2;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { minutes: { type: "string" }, seed: { type: "string" }, help: { type: "boolean" } } });
  const minutes = Number(values.minutes ?? 20);
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  if (values.help === true || !(minutes > 0) || !Number.isSafeInteger(seed)) {
    process.stderr.write(USAGE);
    process.exitCode = values.help === true ? 0 : 2;
    return;
  }
  const workspace = new Workspace();
  const beganMs = performance.now();
  const log = (line: string) => process.stdout.write(`${Math.round((performance.now() - beganMs) / 1_000)} s: ${line}\n`);
  const rolling = new Rolling(workspace, seed, log);
  try {
    log(`seed=${seed}`);
    await rolling.begin();
    log(JSON.stringify(await rolling.kill(minutes * 60_000)));
    await rolling.fsck();
    for (let cut = 0; cut < POWER_CUTS; cut++) {
      log("the power fails");
      await rolling.cutPower();
      await rolling.fsck();
    }
    log("every byte is there, and fsck finds nothing wrong");
  } catch (error) {
    process.stderr.write(rolling.cluster.log().slice(-400_000));
    throw error;
  } finally {
    await workspace.close();
  }
}

await main();
