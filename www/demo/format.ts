/** Numbers as people read them, in the browser's language where that is free. */

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** A size in decimal units, such as `98.4 MB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit] ?? ""}`;
}

/** A time to come, such as `5 s left`, `2 min left` or `1 h 40 min left`. */
export function timeLeft(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.ceil(seconds))} s left`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min left`;
  const hours = Math.floor(minutes / 60);
  return hours < 10 ? `${hours} h ${minutes % 60} min left` : `${hours} h left`;
}

/** A time taken, such as `340 ms` or `2.1 s`. */
export function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** A time taken that people wait for, such as `12 s` or `2 min 5 s`. */
export function span(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** A speed with two significant places or more, such as `0.42`, `9.1`, `43`. */
export function rate(perSecond: number): string {
  const digits = perSecond < 1 ? 2 : perSecond < 10 ? 1 : 0;
  return perSecond.toFixed(digits);
}

/** A count with its digits grouped. */
export function count(value: number): string {
  return value.toLocaleString("en");
}

/** A large number in short, such as `135 million`. */
export function short(value: number): string {
  const three = { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 } as const;
  return value.toLocaleString("en", three);
}

/** A day, such as `24 Nov 2026`. */
export function day(millisecondsSince1970: number): string {
  const parts = { day: "numeric", month: "short", year: "numeric" } as const;
  return new Date(millisecondsSince1970).toLocaleDateString("en-GB", parts);
}
