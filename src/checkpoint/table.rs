//! Tables of tensors: what holds of them in every format.

use super::{DType, TensorInfo};
use crate::{Error, Result};

/// The size in bytes of a tensor of `shape`, outermost first.
pub(super) fn size_of_shape(shape: &[u64], dtype: DType) -> Result<u64> {
    let described = |message| Error::invalid(message).with("shape", format!("{shape:?}"));
    if shape.contains(&0) {
        return Err(described("a tensor has a dimension of zero"));
    }
    let columns = shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(dtype.block_len() as u64) {
        return Err(described("the rows of a tensor are not whole blocks")
            .with("found", columns)
            .with("block_len", dtype.block_len())
            .with("type", dtype.name()));
    }
    let n_elements = shape.iter().try_fold(1, |product: u64, extent| product.checked_mul(*extent));
    n_elements
        .and_then(|n_elements| dtype.bytes_for(n_elements))
        .ok_or_else(|| described("the size of a tensor does not fit 64 bits"))
}

/// Checks tensors that are sorted by offset.
pub(super) fn check_overlaps(tensors: &[TensorInfo]) -> Result<()> {
    for pair in tensors.windows(2) {
        let end = pair[0].offset + pair[0].n_bytes;
        if end > pair[1].offset {
            return Err(Error::invalid("two tensors overlap")
                .with("tensor", &*pair[0].name)
                .with("end", end)
                .with("other", &*pair[1].name)
                .with("offset", pair[1].offset));
        }
    }
    Ok(())
}

/// The indices of `tensors` in the order of their names, which must differ.
pub(super) fn index_names(tensors: &[TensorInfo]) -> Result<Vec<u32>> {
    let name = |index: &u32| tensors[*index as usize].name.as_str();
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
    by_name.sort_unstable_by(|left, right| name(left).cmp(name(right)));
    for pair in by_name.windows(2) {
        if name(&pair[0]) == name(&pair[1]) {
            return Err(Error::invalid("two tensors have the same name")
                .with("tensor", name(&pair[0]))
                .with("first", tensors[pair[0] as usize].offset)
                .with("second", tensors[pair[1] as usize].offset));
        }
    }
    Ok(by_name)
}

/// The tensor called `name`, by the indices that [`index_names`] made of `tensors`.
pub(super) fn find<'a>(
    tensors: &'a [TensorInfo],
    by_name: &[u32],
    name: &str,
) -> Option<&'a TensorInfo> {
    let name_at = |index: &u32| tensors[*index as usize].name.as_str();
    let found = by_name.binary_search_by(|index| name_at(index).cmp(name)).ok()?;
    Some(&tensors[by_name[found] as usize])
}
