import { writeFileSync } from "node:fs";
import { join } from "node:path";

const PARTS = 60;
/** What the program says when it runs. */
export const PROGRAM_PRINTS = `${(PARTS * (PARTS - 1)) / 2}\n`;

/** A program of many files: each depends on a header of its own and on a common one. */
export function writeProgram(folder: string): void {
  const names = Array.from({ length: PARTS }, (_, index) => `part${index}`);
  writeFileSync(join(folder, "common.h"), "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
  for (const [index, name] of names.entries()) {
    writeFileSync(join(folder, `${name}.h`), `int ${name}(void);\n`);
    writeFileSync(join(folder, `${name}.c`), `#include "common.h"\n#include "${name}.h"\nint ${name}(void) { return ${index}; }\n`);
  }
  const includes = names.map((name) => `#include "${name}.h"\n`).join("");
  const sum = names.map((name) => `${name}()`).join(" + ");
  writeFileSync(join(folder, "main.c"), `#include "common.h"\n${includes}int main(void) { printf("%d\\n", ${sum}); return 0; }\n`);
  const objects = ["main", ...names].map((name) => `${name}.o`).join(" ");
  const rules = names.map((name) => `${name}.o: ${name}.c ${name}.h common.h`).join("\n");
  const build = `program: libparts.a main.o\n\tcc -o $@ main.o libparts.a\nlibparts.a: ${objects.replace("main.o ", "")}\n\tar rcs $@ $^\n`;
  writeFileSync(
    join(folder, "Makefile"),
    `CFLAGS = -O2 -Wall\n${build}main.o: main.c common.h\n${rules}\nclean:\n\trm -f *.o *.a program\n`,
  );
}
