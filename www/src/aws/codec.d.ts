/** A message of an event stream of AWS, framed, with headers of text. */
export function encodeMessage(headers: Readonly<Record<string, string>>, body: Uint8Array): Uint8Array;
