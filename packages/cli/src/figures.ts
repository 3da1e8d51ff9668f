const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

export function bytesText(bytes: number | null): string {
  if (bytes === null) return "-";
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** 0-2,5 */
export function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let index = 0; index < numbers.length; index++) {
    const first = numbers[index] as number;
    while (numbers[index + 1] === (numbers[index] as number) + 1) index++;
    const last = numbers[index] as number;
    parts.push(first === last ? String(first) : `${first}-${last}`);
  }
  return parts.join(",");
}
