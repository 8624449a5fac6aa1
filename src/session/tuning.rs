//! Sizes of kernels that were found by trial, and kept: a device and a model take one trial.

use sha2::{Digest, Sha256};

use super::Host;
use crate::{
    engine::Engine,
    error::{ErrorKind, Result},
    gpu::Sizes,
    store::{Access, StorageFolder, hex},
};

/// Gives `engine`, which is warm, the sizes that `folder` has for it, or finds them now. It keeps those it has where it
/// is on no GPU that they matter for, and where a trial fails. What its caches held is lost.
///
/// # Errors
/// `device_lost`.
pub async fn tune(
    engine: &mut dyn Engine,
    folder: &dyn StorageFolder,
    host: &dyn Host,
) -> Result<()> {
    let Some(gpu) = engine.gpu().filter(|gpu| gpu.is_tunable()) else { return Ok(()) };
    let name = format!("{}.json", hex(&Sha256::digest(gpu.tuning_key().as_bytes())[..16]));
    if let Some(sizes) = read(folder, &name).await {
        match gpu.set_sizes(sizes).await {
            Err(error) if error.kind() != ErrorKind::DeviceLost => {}
            set => return set,
        }
    }
    // A device that a trial brings down is spared the next one. Where nothing can be written, each load tries again.
    let _ = write(folder, &name, gpu.sizes()).await;
    match gpu.tune(&|| host.now()).await {
        Ok(sizes) => {
            let _ = write(folder, &name, sizes).await;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::DeviceLost => Err(error),
        Err(_) => Ok(()),
    }
}

async fn read(folder: &dyn StorageFolder, name: &str) -> Option<Sizes> {
    let bytes = folder.read_all(name).await.ok()??;
    // What follows is left of something longer that was there before.
    let first = serde_json::Deserializer::from_slice(&bytes).into_iter().next()?;
    first.ok().filter(Sizes::are_known)
}

async fn write(folder: &dyn StorageFolder, name: &str, sizes: Sizes) -> Result<()> {
    let text = serde_json::to_vec(&sizes).expect("sizes are numbers");
    let Some(file) = folder.open(name, Access::Write).await? else { return Ok(()) };
    file.write(0, &text)?;
    file.flush()
}
