/**
 * The bindings of the module that renders chat templates, built from `modules/templates/` into dist/pesi_templates.js
 * and dist/pesi_templates_bg.wasm. pesi_wasm.js calls what else they have, once the module is started.
 */

/** Starts the module: fetches it from pesi_templates_bg.wasm beside the bindings, unless it has been started. */
export default function init(): Promise<{ readonly memory: WebAssembly.Memory }>;
