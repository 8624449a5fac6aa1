// Messages of AWS's event streams. The build bundles the codec into this file, since a page resolves no packages; it is
// JavaScript because the types of that package need those of Node.

import { EventStreamCodec } from "@smithy/eventstream-codec";

const utf8 = { encoder: new TextEncoder(), decoder: new TextDecoder() };

const codec = new EventStreamCodec(
  (bytes) => (typeof bytes === "string" ? bytes : utf8.decoder.decode(bytes)),
  (text) => utf8.encoder.encode(text),
);

export function encodeMessage(headers, body) {
  const typed = Object.entries(headers).map(([name, value]) => [name, { type: "string", value }]);
  return codec.encode({ headers: Object.fromEntries(typed), body });
}
