//! `wasm-build INPUT.wasm OUT_DIR`: writes the JavaScript bindings and the processed module.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(out_dir), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: wasm-build INPUT.wasm OUT_DIR".into());
    };
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .web(true)?
        .omit_default_module_path(false)
        .typescript(true)
        .out_name("pesi_wasm")
        .generate(out_dir)?;
    Ok(())
}
