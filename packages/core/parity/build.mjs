// Compiles parity.wat into ../src/parity-wasm.ts. Run it after each change of the source: `node packages/core/parity/build.mjs`.
import { readFile, writeFile } from "node:fs/promises";
import wabt from "wabt";

export async function compileParity() {
  const source = await readFile(new URL("./parity.wat", import.meta.url), "utf8");
  const { parseWat } = await wabt();
  const module = parseWat("parity.wat", source, { simd: true });
  const { buffer } = module.toBinary({});
  module.destroy();
  return Buffer.from(buffer).toString("base64");
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const lines = (await compileParity()).match(/.{1,120}/g).map((line) => `  "${line}"`);
  const text = `/** parity.wat, compiled by \`node packages/core/parity/build.mjs\`, in base64. */\nexport const PARITY_WASM =\n${lines.join(" +\n")};\n`;
  await writeFile(new URL("../src/parity-wasm.ts", import.meta.url), text);
}
