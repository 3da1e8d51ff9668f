import test from "ava";
import { mountFlags } from "../src/mount-options.ts";
import { parse, runAction, UsageError, wholeNumber } from "../src/usage.ts";

const OPTIONS = {
  dir: { type: "string" },
  force: { type: "boolean", short: "f" },
  word: { type: "string", short: "o", multiple: true },
} as const;

test("options and arguments are told apart, wherever they stand", (t) => {
  const { values, positionals } = parse(["a", "-f", "--dir=x", "-o", "p,q", "-o", "r"], OPTIONS, ["MNT"]);
  t.deepEqual({ ...values }, { force: true, dir: "x", word: ["p,q", "r"] });
  t.deepEqual(positionals, ["a"]);
});

for (const [args, says] of [
  [["--bogus"], /--bogus/],
  [["--dir"], /--dir/],
  [["--dir", "-f"], /--dir/],
  [["--force=1", "m"], /--force/],
  [[], /MNT is missing/],
  [["a", "b"], /"b"/],
] as const)
  test(`wrong usage in one line: ${args.join(" ") || "nothing"}`, (t) => {
    const error = t.throws(() => parse(args, OPTIONS, ["MNT"]), { instanceOf: UsageError });
    t.regex(error?.message ?? "", says);
    t.false(error?.message.includes("\n"));
  });

test("what the first argument names is run with the others, and nothing else", async (t) => {
  const actions = { list: async () => 0, move: async (args: readonly string[]) => args.length };
  t.is(await runAction(["list"], actions), 0);
  t.is(await runAction(["move", "1", "node2"], actions), 2);
  for (const [args, says] of [
    [[], /missing: there are list, move$/],
    [["drop"], /no "drop": there are list, move$/],
    [["toString"], /no "toString"/],
  ] as const)
    t.throws(() => runAction(args, actions), { instanceOf: UsageError, message: says });
});

test("a whole number is nothing else", (t) => {
  t.is(wholeNumber("--nodes", undefined, 1), undefined);
  t.is(wholeNumber("--nodes", "3", 1), 3);
  for (const text of ["0", "-1", "1.5", "3x", "", " ", "1e3", "99999999999999999999"])
    t.throws(() => wholeNumber("--nodes", text, 1), { instanceOf: UsageError, message: /--nodes/ });
});

test("of mount options the last one wins, and unknown ones are refused", (t) => {
  t.deepEqual(mountFlags(["ro,allow_other", "rw"], undefined), { readOnly: false, allowOther: true, engine: "auto" });
  t.deepEqual(mountFlags(undefined, "node"), { readOnly: false, allowOther: undefined, engine: "node" });
  t.throws(() => mountFlags(["ro,"], undefined), { instanceOf: UsageError });
  t.throws(() => mountFlags(["suid"], undefined), { instanceOf: UsageError, message: /suid/ });
});
