/** The names of tokens in lists of probabilities. */

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes of the longest character. */
const LONGEST = 4;

/** The text of a token's bytes. Bytes that make no whole character are spelled as OpenAI's API spells them: `\xf0`. */
export function tokenText(bytes: readonly number[]): string {
  const text = decoded(bytes);
  if (text !== undefined) return text;
  const [first, ...others] = bytes as [number, ...number[]];
  for (let length = 2; length <= LONGEST; length += 1) {
    const character = decoded(bytes.slice(0, length));
    if (character !== undefined) return character + tokenText(bytes.slice(length));
  }
  const single = decoded([first]) ?? `\\x${first.toString(16).padStart(2, "0")}`;
  return single + tokenText(others);
}

/** The text of bytes, where they are whole characters. */
function decoded(bytes: readonly number[]): string | undefined {
  try {
    return utf8.decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}
