//! The tensors of a model, whichever of its files holds them.

use std::collections::{HashMap, hash_map::Entry};

use super::TensorInfo;
use crate::{Error, Result};

/// Every tensor of a model by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorTable {
    /// The tensors of each file, in the order of their offsets.
    files: Vec<Vec<TensorInfo>>,
    /// Their names.
    file_names: Vec<String>,
    /// File and index in it.
    by_name: HashMap<String, (usize, usize)>,
}

impl TensorTable {
    /// Joins the tensors of files, each given with its name.
    ///
    /// # Errors
    /// `invalid_model` naming a tensor that two files hold, and the files.
    pub fn new(files: Vec<(&str, Vec<TensorInfo>)>) -> Result<Self> {
        let mut by_name = HashMap::new();
        for (file, (file_name, tensors)) in files.iter().enumerate() {
            for (index, tensor) in tensors.iter().enumerate() {
                match by_name.entry(tensor.name.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert((file, index));
                    }
                    Entry::Occupied(entry) => {
                        let (first, _) = *entry.get();
                        return Err(Error::invalid("two files of the model hold the same tensor")
                            .with("tensor", tensor.name.as_str())
                            .with("first", files[first].0)
                            .with("second", *file_name));
                    }
                }
            }
        }
        let (file_names, files) =
            files.into_iter().map(|(name, tensors)| (name.to_owned(), tensors)).unzip();
        Ok(Self { files, file_names, by_name })
    }

    /// The names of the files.
    pub fn file_names(&self) -> &[String] {
        &self.file_names
    }

    /// The tensor called `name`, and which file holds it.
    pub fn get(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        let (file, index) = *self.by_name.get(name)?;
        Some((file, &self.files[file][index]))
    }

    /// All tensors with their files, file by file in the order of their offsets.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &TensorInfo)> {
        let files = self.files.iter().enumerate();
        files.flat_map(|(file, tensors)| tensors.iter().map(move |tensor| (file, tensor)))
    }
}
