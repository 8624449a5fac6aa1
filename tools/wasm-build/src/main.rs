//! `wasm-build INPUT.wasm OUT_DIR NAME`: writes the JavaScript bindings, `NAME.js`, and the processed module,
//! `NAME_bg.wasm`.

use std::{env, error::Error, path::Path};

use walrus::Module;

/// How the functions of llguidance's C interface are called. It exports them wherever it is linked,
/// which keeps their code in the module.
const FOREIGN: &str = "llg_";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, out_dir, name] = &arguments[..] else {
        return Err("usage: wasm-build INPUT.wasm OUT_DIR NAME".into());
    };
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .web(true)?
        .omit_default_module_path(false)
        .typescript(true)
        .out_name(name)
        .generate(out_dir)?;
    remove_foreign_exports(&Path::new(out_dir).join(format!("{name}_bg.wasm")))
}

/// Takes out what no page calls, and the code that nothing else needs.
fn remove_foreign_exports(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut module = Module::from_file(path)?;
    let exports = module.exports.iter().filter(|export| export.name.starts_with(FOREIGN));
    let foreign: Vec<_> = exports.map(|export| export.id()).collect();
    foreign.into_iter().for_each(|id| module.exports.delete(id));
    walrus::passes::gc::run(&mut module);
    module.emit_wasm_file(path)?;
    Ok(())
}
