import type { Disk, DiskFile } from "@dazzle/core";

/** The same object with some of its methods replaced. */
export function over<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get: (real, property) => {
      const value = Reflect.get(changes, property) ?? Reflect.get(real, property, real);
      return typeof value === "function" ? value.bind(real) : value;
    },
  });
}

/** The disk with its files' methods replaced. */
export function overFiles(disk: Disk, changes: (file: DiskFile, path: string) => Partial<DiskFile>): Disk {
  return over(disk, {
    open: async (path, options) => {
      const file = await disk.open(path, options);
      return over(file, changes(file, path));
    },
  });
}
