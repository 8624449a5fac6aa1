/** The models in browser storage: which there are, removing one, and whether one is still as it was written. */

import { ask } from "./launch.js";
import type { ListOptions, RemoveOptions, StoredModel, Verification, VerifyOptions } from "./types.js";
import { listOptions, removeParams, verifyParams } from "./validate.js";

/** The models that this site keeps in browser storage. */
export const models = {
  /**
   * Lists the models that are stored whole; with `incomplete` also downloads that were interrupted, which `load` takes
   * up where they were.
   *
   * @throws {PesiError} of kind `storage` where there is no browser storage
   */
  async list(options?: ListOptions): Promise<StoredModel[]> {
    return ask("listModels", listOptions(options));
  },

  /**
   * Removes a model, or an interrupted download, from browser storage. Models in memory are none the worse for it.
   *
   * @param id {@link StoredModel.id}; where nothing is stored under it, nothing is removed
   * @throws {PesiError} of kind `storage` while a tab loads the model
   */
  async remove(id: string, options?: RemoveOptions): Promise<{ readonly removedBytes: number }> {
    return ask("removeModel", removeParams(id, options));
  },

  /**
   * Compares a stored model with the digests that were kept as it was written. What is damaged is fetched again, from
   * the network, unless `repair` is `false` or the model came from picked files.
   *
   * @param id {@link StoredModel.id}
   * @throws {PesiError} of kind `storage` where nothing is stored under `id`, or while a tab loads it; `network` where
   *   damaged pieces cannot be fetched; `aborted` where `signal` was
   */
  async verify(id: string, options?: VerifyOptions): Promise<Verification> {
    const { params, onProgress, signal } = verifyParams(id, options);
    return ask("verifyModel", params, { signal, onEvent: onProgress });
  },
} as const;
