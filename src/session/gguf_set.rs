//! Models in GGUF: one file, or a set of them whose first has the metadata.

use std::rc::Rc;

use super::heads::{Head, Heads, gguf_progress, open_required, read_header};
use crate::{
    checkpoint::{Gguf, Metadata, Parsed, TensorTable},
    error::{Error, Result},
    source::{Folder, Source},
};

/// The most files of a set.
const MAX_FILES: usize = 1000;

/// Reads the headers of the file called `name` and of those that belong to it.
///
/// # Errors
/// Those of the folder; `invalid_model` and `unsupported` naming the file.
pub async fn open(folder: &dyn Folder, name: &str) -> Result<(Heads, Vec<Rc<dyn Source>>)> {
    let source = open_required(folder, name).await?;
    let head = read_header(name, source.as_ref(), gguf_progress).await?;
    let n_files = count(name, &parsed(&head)?.metadata, 0, None)?;
    let (mut heads, mut sources) = (vec![head], vec![source]);
    for index in 1..n_files {
        let name = sibling(name, index, n_files)?;
        let source = open_required(folder, &name).await?;
        let head = read_header(&name, source.as_ref(), gguf_progress).await?;
        count(&name, &parsed(&head)?.metadata, index, Some(n_files))?;
        heads.push(head);
        sources.push(source);
    }
    Ok((Heads(heads), sources))
}

/// The metadata of the set.
///
/// # Errors
/// Those of [`Gguf::parse`].
pub fn metadata(heads: &Heads) -> Result<Metadata> {
    parsed(&heads.0[0]).map(|gguf| gguf.metadata)
}

/// The tensors of the set.
///
/// # Errors
/// Those of [`Gguf::parse`] and [`TensorTable::new`].
pub fn tensors(heads: &Heads) -> Result<TensorTable> {
    let files: Result<Vec<_>> =
        heads.0.iter().map(|head| Ok((&*head.name, parsed(head)?.tensors))).collect();
    let table = TensorTable::new(files?)?;
    if let Some(expected) = metadata(heads)?.optional_u64("split.tensors.count")?
        && table.iter().count() as u64 != expected
    {
        return Err(Error::invalid("the files of the set have not all of its tensors")
            .with("file", &*heads.0[0].name)
            .with("key", "split.tensors.count")
            .with("expected", expected)
            .with("found", table.iter().count()));
    }
    Ok(table)
}

fn parsed(head: &Head) -> Result<Gguf> {
    match Gguf::parse(&head.bytes, head.len).map_err(|error| error.with("file", &*head.name))? {
        Parsed::Complete(gguf) => Ok(gguf),
        Parsed::NeedMore { at_least } => Err(Error::invalid("a header is cut short")
            .with("file", &*head.name)
            .with("needed", at_least)
            .with("found", head.bytes.len())),
    }
}

/// The number of files in the set, from the metadata of file `index` of `expected`.
fn count(name: &str, metadata: &Metadata, index: usize, expected: Option<usize>) -> Result<usize> {
    let number = |key: &str| -> Result<Option<usize>> {
        let number = metadata.optional_u32(key).map_err(|error| error.with("file", name))?;
        Ok(number.map(|number| number as usize))
    };
    let n_files = number("split.count")?.unwrap_or(1).max(1);
    let found = number("split.no")?.unwrap_or(0);
    if found != index {
        let message = match index {
            0 => "the file is not the first of its set",
            _ => "a file of the set stands in another's place",
        };
        return Err(Error::invalid(message)
            .with("file", name)
            .with("expected", index)
            .with("found", found));
    }
    match expected {
        None if n_files > MAX_FILES => {
            Err(Error::unsupported("the model is spread over too many files")
                .with("file", name)
                .with("found", n_files)
                .with("limit", MAX_FILES))
        }
        Some(expected) if expected != n_files => {
            Err(Error::invalid("the files do not agree on how many there are")
                .with("file", name)
                .with("expected", expected)
                .with("found", n_files))
        }
        _ => Ok(n_files),
    }
}

/// The name of file `index` of the set whose first is called `first`: as that, but for the number.
fn sibling(first: &str, index: usize, n_files: usize) -> Result<String> {
    const FIRST: &str = "-00001";
    let end = format!("{FIRST}-of-{n_files:05}.gguf");
    let parts = first.len().checked_sub(end.len()).and_then(|at| first.split_at_checked(at));
    match parts {
        Some((stem, found)) if found.eq_ignore_ascii_case(&end) => {
            Ok(format!("{stem}-{:05}{}", index + 1, &found[FIRST.len()..]))
        }
        _ => Err(Error::invalid("the name of the file does not say that it is one of several")
            .with("file", first)
            .with("expected", end)),
    }
}
