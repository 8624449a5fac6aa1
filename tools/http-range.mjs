/** Which part of a file an HTTP request asks for, after RFC 9110, sections 13 and 14. */

/**
 * Whether the client's copy is the current one, so that 304 answers it.
 *
 * @param {{etag: string, modified: string}} entity the file as the server states it.
 */
export function isFresh(headers, { etag, modified }) {
  const known = headers["if-none-match"];
  if (known !== undefined) {
    const tags = known.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
    return tags.includes("*") || tags.includes(etag);
  }
  const since = Date.parse(headers["if-modified-since"] ?? "");
  return !Number.isNaN(since) && Date.parse(modified) <= since;
}

/**
 * The bytes that a `Range` header selects.
 *
 * A header that is malformed, has several ranges, or an `If-Range` of an older file selects the
 * whole, as the standard allows.
 *
 * @param {{etag: string, modified: string, bytes: number}} entity
 * @returns {{start: number, end: number} | "unsatisfiable" | undefined} both ends included;
 *   `undefined` for the whole.
 */
export function selectRange(headers, { etag, modified, bytes }) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? "");
  if (match === null || match[0] === "bytes=-") return undefined;
  const condition = headers["if-range"];
  if (condition !== undefined && condition !== etag && condition !== modified) return undefined;

  const [first, last] = [match[1], match[2]];
  if (first === "") {
    const length = Math.min(Number(last), bytes);
    return length > 0 ? { start: bytes - length, end: bytes - 1 } : "unsatisfiable";
  }
  const start = Number(first);
  const end = last === "" ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start < bytes ? { start, end } : "unsatisfiable";
}
