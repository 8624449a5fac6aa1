/** What an address names, as far as the page wants to know it before anything is asked for. Knows no document. */

const HUB = "huggingface.co";

/** An address with its place. */
export interface Address {
  /** The id that a model from there has in browser storage; another spelling of it may not be recognised. */
  readonly id: string;
  /** The server that has the model; `undefined` for the page's own. */
  readonly host?: string;
}

/** Reads an address as `load` does: a URL, else a name on the Hugging Face hub. `base` is the page's own address. */
export function readAddress(address: string, base: string): Address {
  const isUrl =
    /^[a-z][a-z0-9+.-]*:/i.test(address) || /^\.{0,2}\//.test(address) || /^[^/@]+(\/[^/@]+)?\.gguf$/i.test(address);
  if (!isUrl || !URL.canParse(address, base)) return { id: address.replace(/@main(?=\/|$)/, ""), host: HUB };
  const url = new URL(address, base);
  url.hash = "";
  if (!/(\.gguf|\/)$/i.test(url.pathname)) url.pathname += "/";
  return url.origin === new URL(base).origin ? { id: url.href } : { id: url.href, host: url.host };
}

/** The last part of an address's path, without a query. */
export function lastPart(address: string): string {
  return /([^/]+)\/*$/.exec(address.replace(/[?#].*$/, ""))?.[1] ?? address;
}
