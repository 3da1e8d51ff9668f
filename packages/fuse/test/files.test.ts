import test, { type ExecutionContext } from "ava";
import type { EngineKind } from "../src/index.ts";
import { answeringLater, MemoryFileSystem } from "./support/memory-file-system.ts";
import { elsewhere, mounted, run } from "./support/mounted.ts";

/** The same suite on each engine, over a filesystem that answers at once and over one that answers later. */
const CASES: ReadonlyArray<readonly [EngineKind, "at once" | "later"]> = [
  ["addon", "at once"],
  ["addon", "later"],
  ["node", "at once"],
  ["node", "later"],
];

for (const [engine, answers] of CASES) {
  const title = (what: string): string => `${engine}, answers ${answers}: ${what}`;
  const open = async (t: ExecutionContext) => {
    const fileSystem = new MemoryFileSystem();
    const { mount, root, log } = await mounted(t, engine, answers === "later" ? answeringLater(fileSystem) : fileSystem);
    t.teardown(() => {
      if (log.length > 0) throw new Error(log.join("\n"));
    });
    return { fileSystem, mount, root };
  };

  test.serial(title("files are written, read, truncated and appended to"), async (t) => {
    const { fileSystem, root, mount } = await open(t);
    const result = await elsewhere((fs, root) => {
      const path = `${root}/file`;
      fs.writeFileSync(path, "hello, world");
      fs.appendFileSync(path, "!");
      const whole = fs.readFileSync(path, "utf8");
      fs.truncateSync(path, 5);
      const cut = fs.readFileSync(path, "utf8");
      fs.writeFileSync(path, "anew");
      const fd = fs.openSync(path, "r+");
      fs.writeSync(fd, "X", 1);
      fs.fsyncSync(fd);
      fs.fdatasyncSync(fd);
      fs.ftruncateSync(fd, 3);
      const { size, mode, nlink } = fs.fstatSync(fd);
      fs.closeSync(fd);
      return { whole, cut, size, mode, nlink, last: fs.readFileSync(path, "utf8") };
    }, root);
    t.deepEqual(result, { whole: "hello, world!", cut: "hello", size: 3, mode: 0o100644, nlink: 1, last: "aXe" });
    t.is(fileSystem.find("file").size, 3);
    t.true(mount.counters.requestsOf("write") >= 4);
    t.is(mount.counters.requestsOf("init"), 1);
  });

  test.serial(title("a megabyte goes in one request, and comes back as it was"), async (t) => {
    const { fileSystem, root, mount } = await open(t);
    const written = await elsewhere((fs, root) => {
      const { createHash } = require("node:crypto") as typeof import("node:crypto");
      const bytes = Buffer.alloc(8 << 20);
      for (let index = 0; index < bytes.length; index += 4) bytes.writeUInt32LE((index * 2654435761) % 4294967296, index);
      const fd = fs.openSync(`${root}/large`, "w");
      for (let at = 0; at < bytes.length; at += 1 << 20) fs.writeSync(fd, bytes, at, 1 << 20);
      fs.closeSync(fd);
      return createHash("sha256").update(bytes).digest("hex");
    }, root);
    t.is(mount.counters.requestsOf("write"), 8);
    t.is(mount.counters.bytesWritten, 8 << 20);
    // The kernel still has the pages of its own writes; another opening without keepCache would drop them.
    await mount.notifier.invalidateInode(fileSystem.find("large").ino, 0, 0);
    const read = await run("sha256sum", [`${root}/large`]);
    t.is(read.split(" ")[0], written);
    // Short of memory, the kernel drops pages that it read ahead, and reads them again.
    const { bytesRead } = mount.counters;
    t.true(bytesRead >= 8 << 20);
    t.true(bytesRead / mount.counters.requestsOf("read") > 128 << 10, "reading ahead asks for large pieces");
  });

  test.serial(title("many writers at once keep their bytes apart"), async (t) => {
    const { root } = await open(t);
    const wrong = await elsewhere(async (fs, root) => {
      const { writeFile, readFile } = fs.promises;
      const names = Array.from({ length: 24 }, (_nothing, index) => `${root}/${index}`);
      await Promise.all(names.map((path, index) => writeFile(path, Buffer.alloc(1_500_000, index + 1))));
      const read = await Promise.all(names.map((path) => readFile(path)));
      return read.filter((bytes, index) => bytes.length !== 1_500_000 || !bytes.every((byte) => byte === index + 1)).length;
    }, root);
    t.is(wrong, 0);
  });

  test.serial(title("sparse files have holes, which can be punched and found"), async (t) => {
    const { root } = await open(t);
    const result = await elsewhere((fs, root) => {
      const fd = fs.openSync(`${root}/sparse`, "w+");
      fs.writeSync(fd, "end", 2 ** 33);
      const middle = Buffer.alloc(4, 1);
      fs.readSync(fd, middle, 0, 4, 2 ** 32);
      const { size, blocks } = fs.fstatSync(fd);
      fs.closeSync(fd);
      return { size, blocks, middle: middle.toString("hex") };
    }, root);
    t.deepEqual(result, { size: 2 ** 33 + 3, blocks: 128, middle: "00000000" });
    const script = `open(F, "<", "${root}/sparse"); print sysseek(F, 0, 3), " ", sysseek(F, ${2 ** 33}, 4)`;
    t.is(await run("perl", ["-e", script]), `${2 ** 33} ${2 ** 33 + 3}`);
    await run("fallocate", ["-p", "-o", String(2 ** 33), "-l", "65536", `${root}/sparse`]);
    await run("fallocate", ["-l", "100000", `${root}/made`]);
    const sizes = await elsewhere((fs, root) => [fs.statSync(`${root}/sparse`).blocks, fs.statSync(`${root}/made`).size], root);
    t.deepEqual(sizes, [0, 100_000]);
  });

  test.serial(title("names are made, linked, renamed and removed"), async (t) => {
    const { fileSystem, root } = await open(t);
    const result = await elsewhere((fs, root) => {
      const fails = (work: () => unknown): string => {
        try {
          work();
          return "no error";
        } catch (error) {
          return (error as NodeJS.ErrnoException).code ?? String(error);
        }
      };
      fs.mkdirSync(`${root}/a/b`, { recursive: true });
      fs.writeFileSync(`${root}/a/one`, "1");
      fs.linkSync(`${root}/a/one`, `${root}/a/b/two`);
      const links = fs.statSync(`${root}/a/b/two`).nlink;
      fs.symlinkSync("../a/one", `${root}/a/symbolic`);
      const target = fs.readlinkSync(`${root}/a/symbolic`);
      const through = fs.readFileSync(`${root}/a/symbolic`, "utf8");
      fs.writeFileSync(`${root}/other`, "2");
      fs.renameSync(`${root}/other`, `${root}/a/one`);
      const replaced = [fs.readFileSync(`${root}/a/one`, "utf8"), fs.statSync(`${root}/a/b/two`).nlink];
      fs.renameSync(`${root}/a/b`, `${root}/moved`);
      const errors = [
        fails(() => fs.mkdirSync(`${root}/a`)),
        fails(() => fs.rmdirSync(`${root}/a`)),
        fails(() => fs.rmdirSync(`${root}/a/one`)),
        fails(() => fs.unlinkSync(`${root}/moved`)),
        fails(() => fs.readFileSync(`${root}/nowhere`)),
        fails(() => fs.readdirSync(`${root}/a/one`)),
        fails(() => fs.writeFileSync(`${root}/a`, "")),
        fails(() => fs.writeFileSync(`${root}/${"n".repeat(256)}`, "")),
        fails(() => fs.openSync(`${root}/a/one`, "wx")),
      ];
      fs.rmSync(`${root}/a`, { recursive: true });
      return { links, target, through, replaced, errors, left: [fs.readdirSync(root), fs.readdirSync(`${root}/moved`)] };
    }, root);
    t.deepEqual(result, {
      ...{ links: 2, target: "../a/one", through: "1", replaced: ["2", 1] },
      errors: ["EEXIST", "ENOTEMPTY", "ENOTDIR", "EISDIR", "ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "EEXIST"],
      left: [["moved"], ["two"]],
    });
    t.is(fileSystem.find("moved").nlink, 2);
  });

  test.serial(title("attributes are set: mode, owner, times to the nanosecond"), async (t) => {
    const { fileSystem, root } = await open(t);
    await run("touch", ["-d", "2001-02-03T04:05:06.123456789Z", `${root}/file`]);
    t.is(fileSystem.find("file").mtimeNs, 981_173_106_123_456_789n);
    await run("touch", ["-d", "1969-12-31T23:59:58.000000001Z", `${root}/file`]);
    t.is(fileSystem.find("file").mtimeNs, -1_999_999_999n);
    await run("sh", ["-c", `chmod 4751 ${root}/file && mkfifo ${root}/fifo`]);
    const seen = await elsewhere((fs, root) => {
      const { mode, mtimeNs } = fs.statSync(`${root}/file`, { bigint: true });
      return [Number(mode), String(mtimeNs), fs.statSync(`${root}/fifo`).isFIFO()];
    }, root);
    t.deepEqual(seen, [0o104751, "-1999999999", true]);
    await run("chown", ["12:34", `${root}/file`]);
    t.deepEqual([fileSystem.find("file").uid, fileSystem.find("file").gid], [12, 34]);
  });

  test.serial(title("a directory of 5,000 entries is listed once each, with and without attributes"), async (t) => {
    const { root, mount } = await open(t);
    const result = await elsewhere((fs, root) => {
      fs.mkdirSync(`${root}/many`);
      const name = (index: number): string => `${index}-${"x".repeat(index % 97)}`;
      for (let index = 0; index < 5000; index++) fs.closeSync(fs.openSync(`${root}/many/${name(index)}`, "wx"));
      const bare = fs.readdirSync(`${root}/many`);
      const expected = Array.from({ length: 5000 }, (_nothing, index) => name(index)).sort();
      const same = JSON.stringify(bare.sort()) === JSON.stringify(expected);
      return { same, directory: fs.readdirSync(root, { withFileTypes: true })[0]?.isDirectory() };
    }, root);
    t.deepEqual(result, { same: true, directory: true });
    t.is((await run("sh", ["-c", `ls -la ${root}/many | wc -l`])).trim(), "5003");
    t.is((await run("sh", ["-c", `find ${root}/many -type f -size 0 | wc -l`])).trim(), "5000");
    t.true(mount.counters.requestsOf("readDirectoryPlus") > 0);
  });

  test.serial(title("a file without a name stays until it is closed"), async (t) => {
    const { fileSystem, root } = await open(t);
    const result = await elsewhere((fs, root) => {
      const fd = fs.openSync(`${root}/gone`, "w+");
      fs.writeSync(fd, "still");
      fs.unlinkSync(`${root}/gone`);
      fs.writeSync(fd, " here");
      const bytes = Buffer.alloc(10);
      fs.readSync(fd, bytes, 0, 10, 0);
      return { text: bytes.toString(), nlink: fs.fstatSync(fd).nlink, exists: fs.existsSync(`${root}/gone`) };
    }, root);
    t.deepEqual(result, { text: "still here", nlink: 0, exists: false });
    t.throws(() => fileSystem.find("gone"));
  });

  test.serial(title("statistics come through"), async (t) => {
    const { root } = await open(t);
    const result = await elsewhere((fs, root) => fs.statfsSync(root), root);
    const { bsize, blocks, bfree, bavail, files, ffree } = result;
    t.deepEqual([bsize, blocks, bfree, bavail, files, ffree], [4096, 1_000_000, 750_000, 700_000, 100_000, 99_000]);
  });

  test.serial(title("names may be any bytes"), async (t) => {
    const { fileSystem, root } = await open(t);
    await run("perl", ["-e", `open(F, ">", "${root}/\\xff\\xc3\\x28 \\n\\xe2\\x82\\xac") or die "$!"; mkdir("${root}/\\xfe") or die "$!"`]);
    t.deepEqual([...fileSystem.node(1).children.keys()].sort(), ["\xfe", "\xff\xc3( \n\xe2\x82\xac"]);
    t.is(
      await run("perl", ["-e", `opendir(D, "${root}"); print join ",", map { unpack "H*", $_ } sort grep { !/^\\./ } readdir D`]),
      "fe,ffc328200ae282ac",
    );
  });

  test.serial(title("a descriptor opened to append writes at the end"), async (t) => {
    const { fileSystem, root } = await open(t);
    await run("sh", ["-c", `for i in 1 2 3; do echo $i >> ${root}/log; done; cat ${root}/log`]).then((text) => t.is(text, "1\n2\n3\n"));
    t.is(fileSystem.find("log").size, 6);
  });

  test.serial(title("writing drops the set-user-id bit, unless root does"), async (t) => {
    const { fileSystem, root } = await open(t);
    await run("sh", [
      "-c",
      `echo 1 > ${root}/kept; echo 1 > ${root}/dropped; echo 1 > ${root}/cut; chmod 4777 ${root}/kept ${root}/dropped ${root}/cut`,
    ]);
    await run("sh", ["-c", `echo 2 >> ${root}/kept`]);
    const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"];
    // As an ordinary user: the directory above is the test's own.
    await run("chmod", ["755", root.slice(0, root.lastIndexOf("/"))]);
    await run("setpriv", [...nobody, `echo 2 >> ${root}/dropped; : > ${root}/cut`]);
    const modes = ["kept", "dropped", "cut"].map((name) => fileSystem.find(name).mode & 0o7777);
    t.deepEqual(modes, [0o4777, 0o777, 0o777]);
  });
}
