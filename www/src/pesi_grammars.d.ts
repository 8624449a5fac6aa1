/**
 * The bindings of the module that computes grammars, built from `modules/grammars/` into dist/pesi_grammars.js and
 * dist/pesi_grammars_bg.wasm. pesi_wasm.js calls what else they have, once the module is started.
 */

/** Starts the module: fetches it from pesi_grammars_bg.wasm beside the bindings, unless it has been started. */
export default function init(): Promise<{ readonly memory: WebAssembly.Memory }>;
