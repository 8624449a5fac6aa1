/** What tests against golden files share: how far results may be from the reference, and greedy answers. */

/** Normalised mean squared error that logits and hidden states may have. */
export const NMSE_LIMIT = 1e-4;
/** Two candidates closer than this may change places. */
const DECISIVE_GAP = 0.05;

/** Normalised mean squared error: Σ (found − reference)² / Σ reference². */
export function nmse(found, reference) {
  let [difference, norm] = [0, 0];
  reference.forEach((value, at) => {
    difference += (found[at] - value) ** 2;
    norm += value ** 2;
  });
  return difference / norm;
}

/** How many greedy tokens are certain, by the gaps between the two likeliest at each. */
export function decisive(gaps) {
  const close = gaps.findIndex((gap) => gap < DECISIVE_GAP);
  return close === -1 ? gaps.length : close;
}

/** The greedy tokens that the page's `model` continues `tokens` with. Runs in the page. */
export async function generateGreedily({ tokens, maxTokens }) {
  const found = [];
  const options = { tokens, maxTokens, temperature: 0, ignoreEos: true };
  for await (const { token } of globalThis.model.generate(options)) found.push(token);
  return found;
}
